"""Time series: any number of channels, rows of unequal length, NaN where a value is missing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

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
from ..data.bad import Bad
from ..data.source import Source
from ..nets import files
from ..nets.series import observed, row_level, to_patches
from ..views.series import Disturbed, Window, fill_gaps, resample
from . import Guess
from ._waves import waves

SAMPLE_ROWS, SAMPLE_VALUES = 2000, 1 << 24
"""What is looked at, at most: rows, evenly spread, and numbers in them."""
LONGEST_CONTEXT = 2048
"""Steps of the longest context that is chosen without being asked for."""
ROW_VALUES = 1 << 18
"""Numbers of a row that are kept."""
RAW_WIDTH = 4096
"""Dimensions of the raw-input control, at most, as far as they are steps."""


@dataclass(frozen=True)
class Series:
    """A stored row is (L, channels) float32.  Rows of more than 262,144 numbers keep their beginning (see `notes`)."""

    name: ClassVar[str] = "series"
    offers: ClassVar[frozenset[str]] = frozenset({"augment", "local", "values", "target"})
    ragged: ClassVar[bool] = True
    shape: ClassVar[None] = None
    dtype: ClassVar[str] = "float32"
    method: ClassVar[str] = "simclr"
    method_reason: ClassVar[str] = "two stretches of one recording should look alike, which needs few steps to learn"

    channels: int = 1
    channels_first: bool = False
    """Whether payloads are (channels, steps), not (steps, channels)."""
    context: int = 256
    """Steps that an encoder sees of a row at once."""
    patch: int = 8
    """Steps in a token."""
    typical: int = 256
    """Median length of a row."""
    mean: tuple[float, ...] = (0.0,)
    """Of each channel."""
    std: tuple[float, ...] = (1.0,)
    """Of each channel."""

    def __post_init__(self):
        numbers = (self.channels, self.context, self.patch, self.typical)
        if not all(0 < n <= ROW_VALUES for n in numbers):
            raise ValueError(f"channels, context, patch and typical length {numbers} do not describe series")
        if any(len(v) not in (1, self.channels) for v in (self.mean, self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean and std need {self.channels} numbers, and std positive ones")

    @classmethod
    def sniff(cls, source: Source) -> Guess | None:
        """The first column of lists or arrays of numbers."""
        found = source.of_kind("series")
        if not found:
            return None
        more = f" (also {', '.join(map(repr, found[1:]))})" if len(found) > 1 else ""
        return Guess(found[0], 0.7, f"column {found[0]!r} holds lists of numbers{more}")

    @classmethod
    def fit(cls, source: Source, column: str, *, size: int | None = None, memory: int | None = None) -> Self:
        """Channels, their order, patch, mean and deviation from a sample; `size` is the context in steps, else it covers 95 %
        of the sample (all, where none is over twice as long), up to 2048.

        Of two axes the one that is the same in every row is the channels; where both are, the shorter; where they are equal,
        the second.  DataError where there is no series, or no axis is the same."""
        rows = list(_arrays(source, column))
        if not rows:
            raise DataError(f"The column {column!r} holds no series that can be read.", "Name another with --column.")
        if size is not None and size < 2:
            raise RequestError(f"--size {size} is no context for series.", "Give at least 2 steps.")
        channels, first = layout([r.shape for r in rows], column)
        fitted = cls(channels, first)
        taken = [row for row in map(fitted._oriented, rows) if not isinstance(row, Bad)]
        lengths = np.array([len(row) for row in taken])
        usual, most = np.quantile(lengths, 0.95), lengths.max()
        context = size or int(min(LONGEST_CONTEXT, most if most <= 2 * usual else usual))
        values = np.concatenate(taken).astype(np.float64)
        values[~np.isfinite(values)] = np.nan
        mean, std = _moments(values)
        return cls(channels, first, context, patch_for(min(context, usual)), int(np.median(lengths)), mean, std)

    def describe(self) -> str:
        """One line in words."""
        order = "channels x steps" if self.channels_first else "steps x channels"
        what = f"{self.channels} channels, read as {order}" if self.channels > 1 else "1 channel"
        return f"{what}; {self.context} steps at a time, {self.patch} in a token"

    def _oriented(self, row: np.ndarray) -> np.ndarray | Bad:
        """(L, channels) of an array as it came."""
        if row.ndim == 1:
            row = row[:, None]
        elif self.channels_first:
            row = row.T
        if row.shape[1] != self.channels:
            return Bad(f"other channels: {row.shape[1]} instead of {self.channels}")
        return row

    def decode(self, payload) -> np.ndarray:
        """(L, channels) float32 of an array or of lists.  Bad where it is no series, has other channels, infinities, or no value."""
        held = as_array(payload)
        if not held.size:
            raise Bad("empty series")
        row = self._oriented(held)
        if isinstance(row, Bad):
            raise row
        row = np.ascontiguousarray(row[: self.longest], dtype=np.float32)
        if np.isinf(row).any():
            raise Bad("infinite values: a missing one is written as NaN")
        if np.isnan(row).all():
            raise Bad("every value is missing")
        return row

    @property
    def longest(self) -> int:
        """Steps of a row that are kept."""
        return max(1, ROW_VALUES // self.channels)

    def notes(self, lengths: np.ndarray) -> list[str]:
        """Sentences to be said of stored rows of these `lengths` (N,)."""
        cut, beyond = int((lengths >= self.longest).sum()), int((lengths > self.context).sum())
        said = [f"{cut} of {len(lengths)} series reach {self.longest} steps: only their beginning is kept"] * bool(cut)
        if beyond:
            said.append(
                f"{beyond} of {len(lengths)} series are longer than the context of {self.context} steps: training sees another "
                "stretch each time, evaluation their beginning (--size changes the context)"
            )
        return said

    def collate(self, rows: np.ndarray | Ragged) -> View:
        """values (B, channels, L) float32, 0 behind the end of shorter rows, and valid (B, L) bool."""
        if isinstance(rows, Ragged):
            values, valid = rows.pad()
        else:
            values = torch.from_numpy(rows)
            valid = torch.ones(values.shape[:2], dtype=torch.bool)
        return View(self.name, parts={"values": values.float().transpose(1, 2).contiguous(), "valid": valid})

    def plain(self, facts: Facts | None = None) -> Transform:
        """The beginning of each series."""
        return Window(self.context, head=True)

    def mild(self, facts: Facts | None = None) -> Transform:
        """As much as the context holds, from anywhere in longer series."""
        return Window(self.context)

    def augment(self, facts: Facts | None = None) -> Transform:
        """Half to all of a series, scaled, with noise, gaps and sometimes a missing channel."""
        return Window(self.context, (0.5, 1.0), scale=0.2, jitter=0.1, drop=0.1, gaps=2)

    def local(self, facts: Facts | None = None) -> Transform:
        """A fifth to a half of a series."""
        return Window(max(8, self.context // 2), (0.2, 0.5), scale=0.2, jitter=0.1, drop=0.1)

    def corrupt(self, view: View, chosen: Tensor, grid: tuple[int, ...] | None, draw: Draw) -> View:
        """`chosen` (B, T) patches are hidden by the encoder's mask token."""
        return view.with_parts(masked=chosen)

    def target(self, view: View, grid: tuple[int, ...] | None) -> Target:
        """Each patch's values (B, T, channels x patch), normalised by the row's own mean and deviation.

        Valid where at least half of a patch was observed; the rest of it is filled in by straight lines."""
        filled, seen = observed(view)
        wanted = -(-filled.shape[2] // self.patch)
        if grid is not None and grid != (wanted,):
            raise ValueError(
                f"an encoder with a grid of {grid} does not cut {filled.shape[2]} steps into {wanted} patches"
            )
        shift, scale = (filled.new_tensor(v)[:, None] for v in (self.mean, self.std))
        x = (filled - shift) / scale
        mean, deviation = row_level(x, seen)
        x, flags = to_patches((x - mean) / deviation, self.patch), to_patches(seen, self.patch)
        x = fill_gaps(x.flatten(2), flags.flatten(2)).view_as(x)
        values = x.transpose(1, 2).flatten(2)
        enough = flags.float().mean((1, 3)) >= 0.5
        return Target("value", values, enough, width=values.shape[2])

    def encoder(self, facts: Facts, needs: frozenset[str], name: str | None = None, **options) -> Encoder:
        """Convolutions where no tokens are needed, else a transformer, sized for the machine; or the encoder `name`."""
        tokens = bool(needs & {"tokens", "mask", "causal"})
        kind, given = nets.parse(name) if name else ("series-transformer" if tokens else "series-conv", {})
        if kind in nets.LOADED:
            built = nets.build(kind, **given, **options)
        else:
            own: dict = {}
            if kind in ("series-transformer", "series-conv"):
                own = {"channels": self.channels, "mean": self.mean, "std": self.std}
            large = facts.device != "cpu"
            if kind == "series-transformer":
                own |= {"patch": self.patch, **({"width": 256, "depth": 6} if large else {})}
            if kind == "series-conv":
                stride = 1 << round(math.log2(max(1, self.context / 80)))
                depth = math.ceil(math.log2(self.context / stride / 4 + 1))
                own |= {"stride": stride, "depth": min(8, max(3, depth)), **({"width": 160} if large else {})}
            built = nets.build(kind, **{**own, **given, **options})
        if built.modality != self.name:
            raise RequestError(
                f"The encoder {name!r} takes {built.modality}, not series.",
                "Leave --encoder out, or take series-transformer or series-conv.",
            )
        return built

    def corruptions(self) -> dict[str, dict[int, Transform]]:
        """{name: {severity: transform}}: noise of 0.1, 0.3 and 1 deviation of the channel; 10, 30 and 60 % of the numbers missing."""
        noise: dict[int, Transform] = {s: Disturbed(sigma, self.std) for s, sigma in ((1, 0.1), (3, 0.3), (5, 1.0))}
        return {
            "noise": noise,
            "missing": {s: Disturbed(0.0, self.std, lost) for s, lost in ((1, 0.1), (3, 0.3), (5, 0.6))},
        }

    @property
    def raw_steps(self) -> int:
        return max(1, min(256, self.typical, RAW_WIDTH // self.channels))

    def raw(self, view: View) -> Tensor:
        """(B, channels x (raw_steps + 3)) float32: each channel resampled to `raw_steps` means and z-scored, then its mean, its
        deviation (both in the data set's units of deviation) and its share of missing values."""
        filled, seen = observed(view)
        lengths = view["valid"].sum(1)
        shift, scale = (filled.new_tensor(v)[:, None] for v in (self.mean, self.std))
        x = (filled - shift) / scale
        mean, deviation = row_level(x, seen)
        steps = resample(fill_gaps((x - mean) / deviation, seen), lengths, self.raw_steps)
        missing = 1 - seen.sum(2) / lengths.clamp_min(1)[:, None]
        return torch.cat([steps.flatten(1), mean[..., 0], deviation[..., 0], missing.to(x.dtype)], 1)

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
            raise ModelError(f"{str(folder)!r} holds no preprocessor of series.", "Save the encoder again.")
        try:
            return module.build(cls, held, "the preprocessor of series")
        except (RequestError, ValueError, TypeError) as error:
            raise ModelError(
                f"preprocessor.json in {str(folder)!r} is broken: {error}", "Save the encoder again."
            ) from None

    @classmethod
    def toy(cls, rows: int, seed: int) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """Waves with trends and events; factors frequency, shape, trend, noise (int64)."""
        return waves(rows, seed)


def as_array(payload) -> np.ndarray:
    """(L,) or (rows, columns) float32 of an array or of lists, None as NaN; Bad where it is none."""
    try:
        with np.errstate(over="ignore"):
            row = np.asarray(payload, dtype=np.float64).astype(np.float32)
    except (ValueError, TypeError, OverflowError):
        raise Bad("not a series: numbers, or lists of equal length of numbers, are read") from None
    if row.ndim not in (1, 2):
        raise Bad(f"not a series: an array of {row.ndim} axes")
    return row


def layout(shapes: list[tuple[int, ...]], column: str) -> tuple[int, bool]:
    """(channels, whether they are the first axis) of arrays of these shapes, one stray row in ten notwithstanding."""
    wide = [s for s in shapes if len(s) == 2]
    if 2 * len(wide) < len(shapes):
        return 1, False
    (first, firsts), (second, seconds) = (Counter(s[axis] for s in wide).most_common(1)[0] for axis in (0, 1))
    same_first, same_second = firsts >= 0.9 * len(wide), seconds >= 0.9 * len(wide)
    if same_first and same_second:
        return (first, True) if first < second else (second, False)
    if same_first:
        return first, True
    if same_second:
        return second, False
    raise DataError(
        f"The series of column {column!r} differ in both axes, for example {wide[0]} and {wide[-1]}.",
        "Every row needs the same number of channels.",
    )


def patch_for(length: float) -> int:
    """Steps in a token, a power of two, for about 40 tokens a row."""
    return 1 << max(0, round(math.log2(max(1, length / 40))))


def _moments(values: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel of (M, C) with NaN; 0 and 1 where a channel has no value, 1 where it is flat."""
    seen = ~np.isnan(values)
    count = seen.sum(0).clip(1)
    mean = np.where(seen, values, 0).sum(0) / count
    std = np.sqrt(np.square(np.where(seen, values - mean, 0)).sum(0) / count)
    std[~(std > 1e-6 * np.abs(mean).clip(1e-12))] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())


def _arrays(source: Source, column: str) -> Iterator[np.ndarray]:
    """The readable, not empty ones of the sample."""
    spread, held = np.linspace(0, source.rows - 1, min(SAMPLE_ROWS, source.rows)).astype(np.int64), 0
    for payload in source.payloads(column, np.unique(spread)):
        try:
            row = np.empty(0) if isinstance(payload, Bad) else as_array(payload)
        except Bad:
            continue
        if row.size:
            yield row
        held += row.size
        if held > SAMPLE_VALUES:
            return
