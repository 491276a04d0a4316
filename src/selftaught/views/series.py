"""Views of series: stretches of time, noise, scale, missing channels and gaps.  Whole batch at once, each row its own.

What a row looks like depends on the row and its draw, never on the rows or the padding beside it; missing values stay missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Draw, View
from ..nets.series import observed, row_level
from .spans import places, stretch


@dataclass(frozen=True)
class Window:
    """A stretch of time of each row, of `share` (lowest, highest) of its steps, at most `context`; then, where asked for:

    `scale`: each channel stretched about its mean by a log-normal factor of mean 1 and this deviation of its logarithm;
    `jitter`: white noise of this share of each channel's deviation; `drop`: the chance of a channel to go missing, one always
    stays; `gaps`: so many stretches of up to `gap` of the window go missing in all channels.
    """

    context: int
    share: tuple[float, float] = (1.0, 1.0)
    head: bool = False
    scale: float = 0.0
    jitter: float = 0.0
    drop: float = 0.0
    gaps: int = 0
    gap: float = 0.1
    least: int = 8

    def __call__(self, view: View, draw: Draw) -> View:
        """View of values (B, C, S) and valid (B, S); params "start" and "span" say which steps of the row it shows."""
        values, valid = view["values"], view["valid"]
        start, span = stretch(
            valid.sum(1), draw, share=self.share, longest=self.context, least=self.least, head=self.head
        )
        place, inside = places(start, span, values.shape[2])
        values = values.gather(2, place[:, None].expand(-1, values.shape[1], -1)).masked_fill(~inside[:, None], 0.0)
        if self.scale or self.jitter:
            values = self._disturbed(values, inside, draw)
        if self.drop:
            values = without_channels(values, inside, draw.uniform("drop", values.shape[1]), self.drop)
        for number in range(self.gaps):
            values = with_gap(values, inside, span, draw.uniform(f"gap {number}", 2), self.gap)
        return View(view.modality, view.role, {"values": values, "valid": inside}, {"start": start, "span": span})

    def _disturbed(self, values: Tensor, inside: Tensor, draw: Draw) -> Tensor:
        filled, seen = observed(View("series", parts={"values": values, "valid": inside}))
        mean, deviation = row_level(filled, seen)
        channels, steps = values.shape[1:]
        if self.scale:
            factor = torch.exp(self.scale * draw.normal("scale", channels) - self.scale**2 / 2)
            filled = mean + (filled - mean) * factor[..., None]
        if self.jitter:
            noise = draw.normal("jitter", steps, channels).transpose(1, 2)  # steps first: the same whatever the padding
            filled = filled + self.jitter * deviation * noise
        return torch.where(seen, filled, values)

    def describe(self) -> str:
        """One line in words."""
        low, high = self.share
        what = (
            "the beginning"
            if self.head
            else "a stretch"
            if low == high == 1
            else f"a stretch of {low:.0%} to {high:.0%}"
        )
        more = [f"scaled by about {self.scale:.0%}"] * bool(self.scale)
        more += [f"noise of {self.jitter:.0%} of the deviation"] * bool(self.jitter)
        more += [f"{self.drop:.0%} of the channels missing"] * bool(self.drop)
        more += [f"{self.gaps} gaps of up to {self.gap:.0%}"] * bool(self.gaps)
        return ", ".join([f"{what} of each series, at most {self.context} steps", *more])


@dataclass(frozen=True)
class Disturbed:
    """Noise of `sigma` times each channel's deviation `std`, and a share `lost` of the numbers missing: for tests of robustness."""

    sigma: float
    std: tuple[float, ...]
    lost: float = 0.0

    def __call__(self, view: View, draw: Draw) -> View:
        values = view["values"]
        scale = self.sigma * values.new_tensor(self.std)[:, None]
        # Numbers of a step come first, so that a row's are the same however far it is padded.
        shape = values.shape[2], values.shape[1]
        noise, luck = (draw.normal("noise", *shape), draw.uniform("missing", *shape))
        noisy = values + scale * noise.transpose(1, 2)
        return view.with_parts(values=noisy.masked_fill(luck.transpose(1, 2) < self.lost, torch.nan))


def without_channels(values: Tensor, inside: Tensor, number: Tensor, chance: float) -> Tensor:
    """Channels whose `number` (B, C) is below `chance` become NaN; the highest number among observed channels stays."""
    held = (~values.isnan() & inside[:, None]).any(2)
    best = number.masked_fill(~held, -1).argmax(1, keepdim=True)
    gone = (number < chance).scatter(1, best, False)
    return values.masked_fill(gone[..., None] & inside[:, None], torch.nan)


def with_gap(values: Tensor, inside: Tensor, span: Tensor, number: Tensor, longest: float) -> Tensor:
    """A stretch of up to `longest` of each row's `span` becomes NaN; `number` (B, 2) gives its length and place.

    A row of which nothing observed would be left stays as it is."""
    wide = (number[:, 0] * longest * span).round()
    first = (number[:, 1] * (span - wide + 1)).floor()
    step = torch.arange(values.shape[2], device=values.device)
    gone = (step >= first[:, None]) & (step < (first + wide)[:, None]) & inside
    left = (~values.isnan() & (inside & ~gone)[:, None]).flatten(1).any(1)
    return values.masked_fill((gone & left[:, None])[:, None], torch.nan)


def fill_gaps(values: Tensor, seen: Tensor) -> Tensor:
    """(B, C, L) without NaN: between observed values the straight line, before the first and after the last that value, 0 where none."""
    length = values.shape[-1]
    step = torch.arange(length, device=values.device).expand_as(values)
    last = torch.where(seen, step, -1).cummax(-1).values
    coming = torch.where(seen, step, length).flip(-1).cummin(-1).values.flip(-1)
    clean = torch.where(seen, values, 0.0)
    before, after = clean.gather(-1, last.clamp_min(0)), clean.gather(-1, coming.clamp_max(length - 1))
    weight = (step - last).to(values.dtype) / (coming - last).clamp_min(1)
    line = before + (after - before) * weight
    line = torch.where(last < 0, after, torch.where(coming >= length, before, line))
    return torch.where(seen, values, line)


def resample(values: Tensor, lengths: Tensor, count: int) -> Tensor:
    """(B, C, L) without NaN -> (B, C, count): the mean of each of `count` equal stretches of the first `lengths` (B,) steps.

    Exact averages of the step function, whether there are more or fewer than `count` steps; L = count changes nothing.
    """
    area = F.pad(values.double().cumsum(-1), (1, 0))
    edges = torch.arange(count + 1, device=values.device, dtype=torch.float64) * lengths[:, None].double() / count
    edges = torch.minimum(edges, lengths[:, None].double())
    low = edges.floor().long().clamp_max(values.shape[-1] - 1)
    low = low[:, None].expand(-1, values.shape[1], -1)
    under = area.gather(-1, low)
    total = under + (area.gather(-1, low + 1) - under) * (edges[:, None] - low)
    width = (lengths.double() / count).clamp_min(1e-9)[:, None, None]
    return (total.diff(dim=-1) / width).to(values.dtype)
