"""Sounds: speech, music, noises; any format, rate and number of channels, kept as int16 of one channel at one rate.

When it fits: clips and recordings that are heard; long ones are cut into pieces.  When it does not: where the channels differ in what they say
(their mean is kept), or what counts lies above half the rate that is kept (say --rate).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from .. import nets
from ..core import (
    DataError,
    Draw,
    Encoder,
    Facts,
    ModelError,
    Ragged,
    RequestError,
    Target,
    Transform,
    View,
    module,
)  # fmt: skip
from ..data import sounds
from ..data.bad import Bad
from ..data.pieces import pieces_of
from ..data.source import Source
from ..nets import files
from ..nets.mel import LogMel
from ..nets.sound import heard, stacked, within
from ..views.clips import Clip, ToMel
from ..views.compose import Compose
from ..views.series import resample
from ..views.sound import corruptions
from ..views.spectrogram import Hide, elsewhere, joint_sound
from . import Guess
from ._voices import voices

RATE = 16000
"""Hz that are kept at most, where no other rate is asked for."""
SAMPLE, MEASURED = 256, 64
"""Recordings whose headers, and whose energies, are looked at."""
LONGEST = 10.0
"""Seconds of the longest context that is chosen without being asked for."""
ROW_VALUES = 1 << 22
"""Samples of a row that are kept."""
STACK = 4
"""Frames in a token."""
RAW_BINS = 8
"""Stretches of time of the raw-input control."""


@dataclass(frozen=True)
class Sound:
    """A stored row is (L,) int16 at `rate` Hz."""

    name: ClassVar[str] = "sound"
    offers: ClassVar[frozenset[str]] = frozenset({"augment", "local", "values", "target", "drawn", "sound"})
    ragged: ClassVar[bool] = True
    shape: ClassVar[None] = None
    dtype: ClassVar[str] = "int16"
    span: ClassVar[int] = 3
    """Tokens that masked methods hide together: one of 40 ms is filled in from its neighbours."""
    method: ClassVar[str] = "simclr"
    method_reason: ClassVar[str] = "two stretches of one clip, heard through another voice and room, should sound alike"

    rate: int = RATE
    """Samples a second."""
    context: int = 2 * RATE
    """Samples that an encoder hears at once."""
    typical: int = RATE
    """Median length of a row in samples."""
    bands: int = 64
    """Mel bands."""
    window: float = 0.025
    """Seconds of a frame."""
    hop: float = 0.010
    """Seconds between frames."""
    mean: tuple[float, ...] = (0.0,)
    """Of the log-mel energies: one number, or one a band."""
    std: tuple[float, ...] = (1.0,)
    """Of the log-mel energies: one number, or one a band."""

    def __post_init__(self):
        if not 1000 <= self.rate <= 384_000 or not 1 <= self.context <= ROW_VALUES or not self.typical >= 1:
            raise ValueError(f"a rate of {self.rate} Hz with a context of {self.context} samples is not kept")
        if not 8 <= self.bands <= 512 or not 0.001 <= self.hop <= self.window <= 1:
            raise ValueError(f"{self.bands} bands, frames of {self.window} s every {self.hop} s do not describe sound")
        if any(len(v) not in (1, self.bands) for v in (self.mean, self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean and std need {self.bands} numbers, and std positive ones")

    @classmethod
    def sniff(cls, source: Source) -> Guess | None:
        """The first column of sound files; arrays of numbers only where nothing else takes them."""
        if found := source.of_kind("sound"):
            return Guess(found[0], 1.0, "its first rows are sounds")
        found = source.of_kind("series")
        return Guess(found[0], 0.1, f"column {found[0]!r} holds lists of numbers") if found else None

    @classmethod
    def divide(cls, source: Source, column: str) -> Source:
        """Recordings of more than a minute as pieces of 30 s (data/pieces.py)."""
        return pieces_of(source, column) if source.columns[column] == "sound" else source

    @classmethod
    def fit(
        cls, source: Source, column: str, *, size: int | None = None, memory: int | None = None, rate: int | None = None
    ) -> Self:
        """Rate, context, bands, and the mean and deviation of each band, from a sample.

        `size` is the context in milliseconds, else it covers 99 % of the sample, up to 10 s; `rate` in Hz, else the commonest one, up to 16 kHz.  Arrays
        say no rate: RequestError without one.  DataError where nothing can be read.
        """
        if rate is not None and not 1000 <= rate <= 384_000:
            raise RequestError(f"--rate {rate} is no rate of sound.", "Give 1000 to 384000 Hz.")
        if size is not None and not 20 <= size <= 600_000:
            raise RequestError(f"--size {size} is no context of sound.", "Give 20 to 600000 milliseconds.")
        payloads = _sample(source, column)
        if source.columns[column] == "sound":
            known = [f for f in map(_facts, payloads) if f is not None and f.frames]
        elif rate is None:
            raise RequestError("Arrays say no rate.", "Give it in Hz: rate=16000, or --rate 16000.")
        else:
            known = [sounds.Facts(rate, 1, max(np.shape(p))) for p in payloads if np.size(p)]
        if not known:
            raise DataError(f"The column {column!r} holds no sound that can be read.", "Name another with --column.")
        commonest = Counter(f.rate for f in known).most_common(1)[0][0]
        kept = rate or min(RATE, commonest)
        seconds = np.array([f.seconds for f in known])
        context = size / 1000 if size else min(LONGEST, float(np.quantile(seconds, 0.99)))
        bands = 64 if kept > 8000 else 48
        draft = cls(kept, max(1, round(context * kept)), max(1, round(float(np.median(seconds)) * kept)), bands)
        step = max(1, len(payloads) // MEASURED)
        mean, std = draft._moments([p for first in range(step) for p in payloads[first::step]])
        return cls(draft.rate, draft.context, draft.typical, bands, mean=mean, std=std)

    def _moments(self, payloads: list) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each band over the true frames of the first MEASURED that can be read: nights are silent for hours."""
        held = []
        for payload in payloads:
            try:
                wave = torch.from_numpy(self.decode(payload)[None, : self.context])
            except Bad:
                continue
            held.append(self.front(wave, torch.tensor([wave.shape[1]]))[0][0].double())
            if len(held) == MEASURED:
                break
        if not held:
            raise DataError("None of the first sounds can be read.", "Check the files, or name another --column.")
        every = torch.cat(held)
        std = every.std(0, correction=0)
        return tuple(every.mean(0).tolist()), tuple(torch.where(std > 1e-3, std, 1.0).tolist())

    @property
    def front(self) -> LogMel:
        """The front end that all of its encoders share."""
        return _front(self.rate, self.bands, self.window, self.hop)

    def describe(self) -> str:
        """One line in words."""
        return f"one channel at {self.rate} Hz; {self.context / self.rate:.2f} s at a time, {self.bands} log-mel bands every {1000 * self.hop:.0f} ms"

    def decode(self, payload) -> np.ndarray:
        """(L,) int16 of a file's bytes, a recording, or an array (L,) or (L, channels) at the modality's rate; raises Bad."""
        if isinstance(payload, Bad):
            raise payload
        if not isinstance(payload, np.ndarray | list):
            return sounds.read_sound(payload, self.rate, ROW_VALUES)
        wave = np.asarray(payload)
        if wave.ndim == 2:
            wave = wave.mean(int(wave.shape[0] > wave.shape[1]))
        if wave.ndim != 1 or not wave.size or wave.dtype.kind not in "fiu":
            raise Bad(f"not a sound: an array {wave.dtype} of shape {wave.shape}")
        if wave.dtype.kind == "f" and np.isfinite(wave).all() and sounds.LOUDEST < np.abs(wave).max() <= sounds.FULL:
            wave = np.rint(wave)  # samples of 16 bits, which a source hands out as floats
        wave = wave[:ROW_VALUES].astype(np.int16 if np.abs(wave).max() > sounds.LOUDEST else np.float32)
        return sounds.finished(wave, self.rate, self.rate)

    def notes(self, lengths: np.ndarray) -> list[str]:
        """Sentences to be said of stored rows of these `lengths` (N,)."""
        beyond = int((lengths > self.context).sum())
        if not beyond:
            return []
        return [
            f"{beyond} of {len(lengths)} sounds are longer than the context of {self.context / self.rate:.2f} s: training hears another stretch each time, "
            "evaluation their beginning (--size changes the context, in milliseconds)"
        ]

    def collate(self, rows: np.ndarray | Ragged) -> View:
        """wave (B, L) int16, 0 behind the end of shorter rows, and length (B,) int64."""
        if isinstance(rows, Ragged):
            return View(self.name, parts={"wave": rows.pad()[0], "length": rows.lengths.clone()})
        wave = torch.from_numpy(rows)
        return View(self.name, parts={"wave": wave, "length": torch.full((len(wave),), wave.shape[1])})

    def plain(self, facts: Facts | None = None) -> Transform:
        """The beginning of each sound."""
        return Clip(self.context, head=True)

    def mild(self, facts: Facts | None = None) -> Transform:
        """As much as the context holds, from anywhere in longer sounds; in log-mel where the encoder reads that, worked out once for it and its targets."""
        clip = Clip(self.context)
        return Compose((clip, ToMel(self.front))) if facts is not None and facts.reads == "mel" else clip

    def augment(self, facts: Facts | None = None) -> Transform:
        """Six tenths to all of a sound, as another voice, room and microphone would have it; in log-mel where the encoder reads that."""
        return self._joint(Clip(self.context, (0.6, 1.0)), facts)

    def masked(self, facts: Facts | None = None) -> Transform:
        """`mild` with parts hidden: two stretches of time of up to 15 % of each sound, and two ranges of as many bands where the encoder reads energies (SpecAugment)."""
        return Compose((Clip(self.context), Hide(self.front if facts is not None and facts.reads == "mel" else None)))

    def elsewhere(self, *, tempo: bool = True) -> Transform:
        """Whole sounds as another voice, room and microphone would have them, `tempo` included or not, with parts hidden."""
        # Between the views of pretraining and BYOL-A's: chosen on continuous digits by a training speaker that was left out
        return elsewhere(rate=self.rate, strength=0.7, tempo=tempo, hop=self.hop, floor=self.front.floor_log)

    def hears(self, lengths: np.ndarray) -> np.ndarray:
        """(N,) how much of sounds of `lengths` samples an encoder hears at once."""
        return np.minimum(lengths, self.context)

    def local(self, facts: Facts | None = None) -> Transform:
        """A fifth to a half of a sound, changed as `augment` does."""
        return self._joint(Clip(max(1, self.context // 2), (0.2, 0.5)), facts)

    def _joint(self, crop: Transform, facts: Facts | None) -> Transform:
        to_mel = ToMel(self.front) if facts is not None and facts.reads == "mel" else None
        # Half of BYOL-A's order: at its full strength a few hundred steps do not learn to see through it
        return joint_sound(crop, to_mel, rate=self.rate, strength=0.5, hop=self.hop, floor=self.front.floor_log)

    def corruptions(self) -> dict[str, dict[int, Transform]]:
        """{name: {severity: transform}}: noise, reverberation, a narrow band, clipping, another level (views/sound.py)."""
        return corruptions(self.rate)

    def mel(self, view: View) -> tuple[Tensor, Tensor]:
        """(B, T, bands) log-mel energies normalised by mean and std, 0 behind the end, and (B,) frames."""
        mel, frames = heard(view, self.front.to(view.device))
        shift, scale = mel.new_tensor(self.mean), mel.new_tensor(self.std)
        return ((mel - shift) / scale).masked_fill(~within(mel.shape[1], frames)[..., None], 0.0), frames

    def seconds(self, view: View) -> Tensor:
        """(B,) how long each sound of a view is."""
        return view["length"] / self.rate if "wave" in view.parts else view["length"] * self.hop

    def corrupt(self, view: View, chosen: Tensor, grid: tuple[int, ...] | None, draw: Draw) -> View:
        """`chosen` (B, T) stretches are hidden by the encoder's mask token."""
        return view.with_parts(masked=chosen)

    def target(self, view: View, grid: tuple[int, ...] | None) -> Target:
        """Each token's normalised log-mel energies (B, t, frames in it x bands), valid where at least half of its frames are the row's.

        The frames in a token follow from the grid (4 where there is none)."""
        x, frames = self.mel(view)
        stack = STACK if grid is None else _stack(x.shape[1], grid[0])
        x, _ = stacked(x, frames, stack)
        valid = torch.arange(x.shape[1], device=x.device) * stack + (stack + 1) // 2 <= frames[:, None]
        return Target("value", x, valid, width=x.shape[2])

    def untarget(self, values: Tensor, view: View, grid: tuple[int, ...] | None) -> View:
        """{"mel", "length"}: the energies (B, T, bands) of tokens (B, t, frames in one x bands), as `target` gives them for `view`; NaN stays."""
        mel, frames = heard(view, self.front.to(view.device))
        back = values.unflatten(2, (-1, self.bands)).flatten(1, 2)[:, : mel.shape[1]]
        back = back * back.new_tensor(self.std) + back.new_tensor(self.mean)
        back = back.masked_fill(~within(back.shape[1], frames)[..., None], self.front.floor_log)
        return View(view.modality, view.role, {"mel": back, "length": frames})

    def seen(self, view: View) -> View:
        """{"mel", "length"}: what is drawn of a wave; other views as they are."""
        if "wave" not in view.parts:
            return view
        mel, frames = heard(view, self.front.to(view.device))
        return View(view.modality, view.role, {"mel": mel, "length": frames})

    def raw(self, view: View) -> Tensor:
        """(B, 8 x bands) float32: the means of the normalised log-mel energies in eight equal stretches of each sound."""
        x, frames = self.mel(view)
        return resample(x.transpose(1, 2), frames, RAW_BINS).flatten(1)

    def encoder(self, facts: Facts, needs: frozenset[str] | set[str], name: str | None = None, **options) -> Encoder:
        """The encoder `name`, or the default: "wav2vec2" where a method needs its stem, "sound-transformer" where a method needs tokens, else "sound-bank" on a processor, where few layers
        learn most in few steps, and "sound-conv" elsewhere."""
        chosen: dict[str, Any] = {}
        plain = "sound-bank" if facts.device == "cpu" else "sound-conv"
        kind = "sound-transformer" if needs & {"tokens", "mask", "causal"} else plain
        kind = "wav2vec2" if "stem" in needs else kind
        if name is not None:
            kind, chosen = nets.parse(name)
        own: dict[str, Any] = {}
        if kind in ("sound-transformer", "sound-conv", "sound-bank"):
            own = {k: getattr(self, k) for k in ("rate", "bands", "window", "hop", "mean", "std")}
        elif kind not in nets.LOADED:
            own = {"rate": self.rate}
        if kind == "sound-transformer":
            own |= {"stack": STACK, **({"width": 384, "depth": 12, "heads": 6} if facts.device != "cpu" else {})}
        built = nets.build(kind, **{**own, **chosen, **options})
        if built.modality != self.name:
            raise RequestError(
                f"The encoder {name!r} takes {built.modality}, not sound.",
                "Leave --encoder out, or take sound-transformer, sound-conv or sound-bank.",
            )
        self.check(built)
        return built

    def check(self, encoder: Encoder, needs: frozenset[str] | set[str] = frozenset()) -> None:
        """RequestError where `encoder` hears another rate than these rows have, or a method that predicts log-mel energies (`needs` "target") meets one whose frames are not theirs."""
        rate = getattr(encoder, "rate", self.rate)
        if rate != self.rate:
            raise RequestError(
                f"The encoder hears {rate} samples a second, the sounds are kept at {self.rate}: it would hear everything {'higher' if rate > self.rate else 'lower'} than it is.",
                f"Pack the sounds at its rate: --rate {rate} (rate={rate}); they are resampled.",
            )
        if "target" in needs and getattr(encoder, "reads", "mel") == "wave":
            raise RequestError(
                f"The method predicts each token's log-mel energies, and the tokens of {encoder.kind}, which hears waves, are no whole number of their frames.",
                "Leave --encoder out, or take sound-transformer. What hears waves learns by wav2vec2 or hubert, or by methods that compare views (simclr, byol, vicreg, dino).",
            )

    def mismatches(self, encoder: Encoder, view: View, payloads: list, own: bool) -> list[dict[str, str]]:
        """Nothing is only worth a warning; RequestError as of `check`."""
        self.check(encoder)
        return []

    def config(self) -> dict:
        """Plain data from which `load` makes the same modality."""
        return {"name": self.name, **asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def save(self, folder: str | Path) -> None:
        """Writes preprocessor.json."""
        Path(folder, "preprocessor.json").write_text(json.dumps(self.config(), indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` wrote; ModelError where the file is missing, broken or for another kind of data."""
        held = files.read_json(Path(folder), "preprocessor.json")
        if held.pop("name", None) != cls.name:
            raise ModelError(f"{str(folder)!r} holds no preprocessor of sound.", "Save the encoder again.")
        try:
            return module.build(cls, held, "the preprocessor of sound")
        except (RequestError, ValueError, TypeError) as error:
            raise ModelError(
                f"preprocessor.json in {str(folder)!r} is broken: {error}", "Save the encoder again."
            ) from None

    @classmethod
    def toy(cls, rows: int, seed: int) -> tuple[list[bytes], dict[str, np.ndarray]]:
        """Spoken vowels; factors word, speaker, pitch, noise (int64)."""
        return voices(rows, seed)


@lru_cache(maxsize=8)
def _front(rate: int, bands: int, window: float, hop: float) -> LogMel:
    return LogMel(rate, bands, window=window, hop=hop)


def _stack(frames: int, tokens: int) -> int:
    """Frames in a token where `frames` became `tokens`."""
    stack = -(-frames // max(1, tokens))
    if -(-frames // stack) != tokens:
        raise ValueError(f"{frames} frames do not divide into {tokens} tokens of one length")
    return stack


def _sample(source: Source, column: str) -> list:
    """Payloads evenly spread, or the first ones where rows cannot be read singly."""
    count = min(source.rows, SAMPLE)
    spread = np.linspace(0, source.rows - 1, count).astype(np.int64) if source.random_access else np.arange(count)
    return [p for p in source.payloads(column, np.unique(spread)) if not isinstance(p, Bad)]


def _facts(payload) -> sounds.Facts | None:
    if isinstance(payload, np.ndarray | list):
        return None
    try:
        return sounds.facts(payload)
    except Bad:
        return None
