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
    lengths: Tensor, draw: Draw, share: float, span: int, least_left: int = 2, *, width: int | None = None,
    purpose: str = "spans",
) -> Tensor:  # fmt: skip
    """(B, width) bool: spans of neighbours hidden in rows of `lengths` (B,) int64; `width` defaults to the longest row's.

    A row of T places gets spans of min(span, max(1, T // 4)) places, share x T / span of them (the rest of that division by chance, as in
    wav2vec 2.0), at least one, that begin at different places and may overlap: `share` is therefore the most that is hidden, and about half is
    where it is 0.65.  No more than 0.8 T are hidden and at least `least_left` stay: the last spans that would are left out whole, so that spans
    are never cut to pieces.  Rows too short for that stay as they are.  A row's mask depends on its length and its draw alone; nothing
    behind its end is hidden.  Cost: B x spans x width comparisons.
    """
    if not 0 < share < 1 or span < 1 or least_left < 0:
        raise ValueError(f"spans of {span} over {share} of a row, {least_left} left: nothing can be hidden so")
    width = (int(lengths.max()) if len(lengths) else 0) if width is None else width
    own = torch.div(lengths, 4, rounding_mode="floor").clamp(1, span)
    wanted = (share * lengths / own + draw.uniform(f"{purpose} count")).long().clamp_min(1)
    wanted = torch.minimum(wanted, (lengths - own + 1).clamp_min(0))
    most = torch.minimum((0.8 * lengths).long(), lengths - least_left)
    place = torch.arange(width, device=lengths.device)
    order = draw.uniform(purpose, width).masked_fill(place > (lengths - own)[:, None], 2.0)
    count = int(wanted.max()) if len(wanted) else 0
    if not count:
        return torch.zeros(len(lengths), width, dtype=torch.bool, device=lengths.device)
    start = torch.argsort(order, dim=1, stable=True)[:, :count, None]
    covers = (place >= start) & (place < start + own[:, None, None])
    number = torch.arange(count, device=lengths.device)
    first = torch.where(covers, number[:, None], count).amin(1)  # (B, width): which span came first to each place
    hidden = first.new_zeros(len(first), count + 1).scatter_add(1, first, torch.ones_like(first)).cumsum(1)[:, :count]
    kept = ((hidden <= most[:, None]) & (number < wanted[:, None])).sum(1, keepdim=True)
    return first < kept


def other_places(counts: Tensor, draw: Draw, number: int, width: int, *, purpose: str = "negatives") -> Tensor:
    """(B, width, number) int64: for each of a row's `counts` (B,) places `number` others of the same row, uniformly, with repetition.

    Place 0 where a row has less than two, and behind its last.  A row's choice depends on its count and its draw alone."""
    spare = (counts - 1).clamp_min(0)[:, None, None]
    chosen = (draw.uniform(purpose, width, number) * spare).long()
    chosen = torch.minimum(chosen, (spare - 1).clamp_min(0))
    chosen = chosen + (chosen >= torch.arange(width, device=counts.device)[:, None]).long()
    return torch.minimum(chosen, spare)
