"""Stretches of rows of unequal length: where each begins and how long it is."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import Draw


def stretch(
    lengths: Tensor, draw: Draw, *, share: tuple[float, float], longest: int, least: int, head: bool
) -> tuple[Tensor, Tensor]:
    """(start, span), each (B,) int64: a stretch of `share` (lowest, highest) of each row, uniform in length and place.

    At least `least` long where the row is, at most `longest`; `head`: from the row's beginning.  A row's stretch depends on its
    length and its draw alone.
    """
    low, high = share
    span = lengths
    if low < 1:
        span = (lengths * (low + (high - low) * draw.uniform("span"))).round().long()
    span = torch.minimum(span.clamp_min(least), lengths).clamp_max(longest)
    if head:
        return torch.zeros_like(span), span
    free = lengths - span
    return torch.minimum((draw.uniform("start") * (free + 1)).long(), free), span


def places(start: Tensor, span: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """(B, S) int64 places start, start + 1, ... within `length`, and (B, S) bool, True inside the span; S is the longest span."""
    step = torch.arange(int(span.max()) if len(span) else 0, device=span.device)
    return (start[:, None] + step).clamp_max(max(0, length - 1)), step < span[:, None]
