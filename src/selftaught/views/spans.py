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


def span_masks(
    lengths: Tensor,
    draw: Draw,
    share: float,
    span: int,
    least_left: int = 2,
    *,
    width: int | None = None,
    purpose: str = "span masks",
) -> Tensor:
    """(B, width) bool: spans of each row's first `lengths` (B,) tokens, about `share` of them; width None: the longest row's.

    Spans are of min(span, max(1, length // 4)) tokens and never overlap, so that a row's share is what was asked for (wav2vec 2.0's may overlap: of 65 %
    49 % are left); the last part of a span is there by chance.  A row has at least one, hides at most 0.8 of itself and keeps at least
    `least_left` tokens; of rows that are no longer than that nothing is hidden.  A row's mask depends on its length and its draw alone.  Cost: one sort a row.
    """
    if not 0 < share < 1 or span < 1 or least_left < 0:
        raise ValueError(f"a share of {share} in spans of {span} with {least_left} left: no masks are like that")
    width = int(lengths.max()) if width is None and len(lengths) else width or 0
    wide = torch.div(lengths, 4, rounding_mode="floor").clamp(1, span)
    most = torch.minimum((0.8 * lengths).floor().long(), (lengths - least_left).clamp_min(0))
    count = (share * lengths / wide + draw.uniform(f"{purpose}: how many")).long().clamp_min(1)
    count = torch.minimum(count, torch.div(most, wide, rounding_mode="floor"))
    # Each span shrunk to one place, `count` of the places that are then left; grown again they cannot meet
    slots = lengths - count * (wide - 1)
    step = torch.arange(width, device=lengths.device)
    number = draw.uniform(purpose, width).masked_fill(step >= slots[:, None], 2.0)
    begins = number.argsort(1, stable=True).argsort(1, stable=True) < count[:, None]
    before = begins.long().cumsum(1) - begins.long()
    at = (step + before * (wide - 1)[:, None]).clamp_max(max(0, width - 1))
    edges = lengths.new_zeros(len(lengths), width + 1)
    edges.scatter_add_(1, at, begins.long())
    edges.scatter_add_(1, torch.minimum(at + wide[:, None], edges.new_tensor(width)), -begins.long())
    return edges.cumsum(1)[:, :width] > 0
