"""What is wrong with a collection of sounds: mixed rates and channels, silence, clipping, offset, upsampled files, levels that tell who speaks.

The commonest way to a figure that means nothing is a shortcut: length, loudness or an empty upper half of the spectrum that says where a clip comes
from, while the sound itself is never needed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import DataError, RequestError
from .bad import Bad
from .dataset import Dataset
from .decode import cores
from .sniff import guess_group, guess_label
from .sounds import facts, read_sound

CLIPS, SECONDS = 2000, 10
"""Sounds, evenly spread, that are looked at, and how much of each."""
QUIET = 1e-3
"""Peak below which a sound is called silent: -60 dB."""
LOUD, FLAT = 0.25, 4
"""A peak from there on that so many samples in a row share is clipped."""
TELLS = 0.25
"""Share of what a blind guess gets wrong that four numbers may get right before it is a warning."""
_FRAME, _FRAMES = 1024, 64
_LEAST = 5
_MOST = 50
"""Classes that are told apart: those with at least 5 of the sounds, the largest 50."""
_SHARES = {"least": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "most": 1.0}


@dataclass(frozen=True)
class Clip:
    """What is measured of one sound; levels as shares of full scale, over its first seconds."""

    rate: int
    channels: int
    seconds: float
    peak: float
    rms: float
    offset: float
    clipped: bool
    narrow: bool
    """Whether nothing stands above a quarter of the rate, behind a cliff: what was kept at half the rate before."""

    @property
    def silent(self) -> bool:
        return self.peak < QUIET

    @property
    def shifted(self) -> bool:
        """Whether the mean is far from 0."""
        return abs(self.offset) > max(0.002, 0.2 * self.rms)


def measure(wave: np.ndarray, rate: int, *, channels: int = 1, seconds: float | None = None) -> Clip:
    """The figures of (L,) int16 samples; `seconds`: of the whole sound, where `wave` is its beginning."""
    x = wave.astype(np.float32) / 32768
    size = np.abs(wave.astype(np.int32))
    peak = int(size.max(initial=0))
    return Clip(
        rate, channels, len(wave) / rate if seconds is None else seconds, peak / 32768, float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))),
        float(x.mean(dtype=np.float64)), peak / 32768 >= LOUD and longest_run(size == peak) >= FLAT, is_narrow(x),
    )  # fmt: skip


def longest_run(flags: np.ndarray) -> int:
    """The most True in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def is_narrow(x: np.ndarray) -> bool:
    """Whether the spectrum of (L,) samples falls by 20 dB at a quarter of the rate, and holds less than 1e-5 of the power above."""
    if len(x) < _FRAME:
        return False
    starts = np.unique(np.linspace(0, len(x) - _FRAME, _FRAMES).astype(np.int64))
    frames = np.stack([x[s : s + _FRAME] for s in starts])
    frames = (frames - frames.mean(1, keepdims=True)) * np.hanning(_FRAME).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames))).mean(0)
    part = lambda low, high: power[round(low * _FRAME) : round(high * _FRAME)]  # noqa: E731
    below, above = part(0.17, 0.22).mean(), part(0.27, 0.32).mean()
    return bool(power.sum() > 0 and above < 0.01 * below and part(0.265, 0.48).sum() < 1e-5 * power.sum())


def told(numbers: np.ndarray, classes: Sequence[str | None]) -> dict[str, Any] | None:
    """How well a logistic regression on `numbers` (N, D) tells `classes` on rows that it was not fitted to (five folds).

    {"classes", "sounds", "accuracy", "low", "high" (Wilson, 95 %), "majority": share of the commonest, "warning"}; None where fewer than two
    classes have five rows.  "warning": the interval lies above the majority, by a quarter of what that leaves."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    counts = Counter(c for c in classes if c is not None)
    kept = {c for c, n in counts.most_common(_MOST) if n >= _LEAST}
    rows = np.array([c in kept for c in classes], dtype=bool)
    if len(kept) < 2:
        return None
    y = np.array([c for c in classes if c in kept])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    guesses = cross_val_predict(model, numbers[rows], y, cv=StratifiedKFold(5, shuffle=True, random_state=0))
    right, n = float((guesses == y).mean()), len(y)
    majority = max(counts[c] for c in kept) / n
    middle, half = right + 1.92 / n, 1.96 * math.sqrt(right * (1 - right) / n + 0.96 / n**2)
    low, high = (middle - half) / (1 + 3.84 / n), (middle + half) / (1 + 3.84 / n)
    return {
        "classes": len(kept), "sounds": n, "accuracy": round(right, 4), "low": round(low, 4), "high": round(high, 4),
        "majority": round(majority, 4), "warning": low > majority + TELLS * (1 - majority),
    }  # fmt: skip


def four_numbers(clips: Sequence[Clip]) -> np.ndarray:
    """(N, 4): the logarithms of length, peak and RMS, and the offset in thousandths of full scale, held within +-50."""
    rows = [(c.seconds, c.peak, c.rms) for c in clips]
    logs = np.log10(np.maximum(np.array(rows, np.float64).reshape(-1, 3), 1e-5))
    return np.column_stack([logs, np.clip([1000 * c.offset for c in clips], -50, 50)])


def inspect(dataset: Dataset) -> dict[str, Any]:
    """{"asked", "of", "seconds", "lengths", "rates", "channels", "silent", "clipped", "shifted", "narrow", "told", "causes"} of a sample of the sounds.

    Files are read as they are, before they are brought to one rate.  "told": what length, peak, RMS and offset alone say of the group and of the
    label, see `told`; "causes": what may make a result mean less than it seems, the worst first, each a {"cause", "share", "text", "remedy"}.
    At most 2,000 sounds, and 10 seconds of each, are looked at: a few seconds of work."""
    places = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), CLIPS)).astype(np.int64))
    payloads = list(dataset.source.payloads(dataset.column, dataset.source_rows(places)))
    with ThreadPoolExecutor(cores()) as pool:
        read = list(pool.map(lambda payload: _read(payload, dataset.modality.rate), payloads))
    there = [i for i, clip in enumerate(read) if clip is not None]
    clips = [clip for clip in read if clip is not None]
    if not clips:
        raise DataError(f"None of the {len(places)} sounds that were looked at can be read.", "Check the files.")
    found: dict[str, Any] = {
        "asked": len(clips), "of": len(dataset), "seconds": round(float(np.mean([c.seconds for c in clips])) * len(dataset), 1),
        "lengths": {name: round(float(np.quantile([c.seconds for c in clips], q)), 3) for name, q in _SHARES.items()},
        "rates": _counted(c.rate for c in clips), "channels": _counted(c.channels for c in clips),
        "silent": sum(c.silent for c in clips), "clipped": sum(c.clipped for c in clips),
        "shifted": sum(c.shifted for c in clips), "narrow": sum(c.narrow for c in clips),
        "told": _told(dataset, places[there], clips),
    }  # fmt: skip
    return {**found, "causes": causes(found)}


def _counted(values) -> dict[str, int]:
    return {str(value): n for value, n in Counter(values).most_common()}


def _read(payload, rate: int) -> Clip | None:
    """One sound, measured at its own rate; arrays say none and have the data set's.  None where it is broken."""
    try:
        if isinstance(payload, Bad):
            return None
        if isinstance(payload, np.ndarray):
            wave = payload if payload.ndim == 1 else payload.mean(int(payload.shape[0] > payload.shape[1]))
            scale = 1 if np.abs(wave).max(initial=0) > 8 else 32768
            return measure(
                np.clip(np.rint(wave[: SECONDS * rate] * scale), -32768, 32767), rate, seconds=len(wave) / rate
            )
        said = facts(payload)
        wave = read_sound(payload, said.rate, SECONDS * said.rate)
        return measure(wave, said.rate, channels=said.channels, seconds=said.seconds)
    except (Bad, ValueError):
        return None


def _told(dataset: Dataset, places: np.ndarray, clips: Sequence[Clip]) -> list[dict[str, Any]]:
    """What four numbers tell of the group and of the label."""
    numbers, out = four_numbers(clips), []
    for kind, guess in (("group", guess_group(dataset.source)), ("label", guess_label(dataset.source))):
        if guess is None or dataset.columns[guess[0]] not in ("category", "integer", "text"):
            continue
        try:
            values = dataset.values(guess[0])[places].tolist()
        except RequestError:
            continue  # a column that holds no small values
        figures = told(numbers, [None if v is None else str(v) for v in values])
        if figures is not None:
            out.append({"column": guess[0], "kind": kind, **figures})
    return out


def causes(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What may make a result mean less than it seems, the worst first."""
    out: list[dict[str, Any]] = []
    asked = found["asked"]

    def add(cause: str, share: float, line: float, text: str, remedy: str) -> None:
        if share >= line:
            out.append({"cause": cause, "share": round(share, 4), "text": text, "remedy": remedy})

    for one in found["told"]:
        text = f"length, peak, RMS and offset alone tell the {one['kind']} {one['column']!r} of {one['accuracy']:.0%} of the sounds (the commonest is {one['majority']:.0%})"  # fmt: skip
        remedy = f"Split by it (--group {one['column']}), and let views change level and length." if one["kind"] == "group" else "Bring the classes to one level and length, or the figures may be of these."  # fmt: skip
        add("level tells who", one["accuracy"] if one["warning"] else -1, 0, text, remedy)
    narrow = found["narrow"] / asked
    add("upsampled sounds", narrow if narrow < 1 else -1, 0.01, f"{narrow:.1%} of the sounds have nothing above a quarter of their rate, as if kept at half of it before: that tells where they come from", "Bring all to the lower rate (--rate).")  # fmt: skip
    other = 1 - max(found["rates"].values()) / asked
    rates = ", ".join(f"{n} at {rate} Hz" for rate, n in found["rates"].items())
    add("several rates", other, 0.01, f"the files differ in rate ({rates}): what was recorded at a lower one has an empty upper band", "Bring all to the lowest rate (--rate).")  # fmt: skip
    clipped = found["clipped"] / asked
    add("clipped sounds", clipped, 0.05, f"{clipped:.1%} of the sounds are cut off at their peak", "Record them again, if that can be done.")  # fmt: skip
    silent = found["silent"] / asked
    add("silent sounds", silent, 0.01, f"{silent:.1%} of the sounds never reach -60 dB of full scale", "Leave them out.")  # fmt: skip
    shifted = found["shifted"] / asked
    add("an offset", shifted, 0.05, f"{shifted:.1%} of the sounds have a mean far from 0", "The front end takes it away; a network that reads waves sees it.")  # fmt: skip
    return out
