"""Spans of tokens cut out of rows, for T5 (Raffel et al. 2020) and BART (Lewis et al. 2020).  Whole batch at once, each row its own.

What becomes of a row is a pure function of the row and its draw.  Spans lie in the tokens `able` (B, N), which stand side by side in every row;
marks are not among them.  Legend: B rows, N places, K spans at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Draw
from .text import BEGIN, END, MARKS, MASK, PAD


def parts_of(items: Tensor, count: Tensor, number: Tensor) -> Tensor:
    """(B, K) sizes of `count` (B,) parts of `items` (B,), each at least 1, every division alike likely; 0 behind them.

    number (B, M): uniform numbers, M >= items - 1."""
    width = int(count.max()) if len(count) else 0
    place = torch.arange(number.shape[1], device=items.device)
    number = number.masked_fill(place >= (items - 1)[:, None], 2.0)
    rank = torch.argsort(torch.argsort(number, dim=1, stable=True), dim=1)
    cut = (rank < (count - 1)[:, None]) & (place < (items - 1)[:, None])
    owner = F.pad(cut.long().cumsum(1), (1, 0))  # of items 0, 1, ...
    inside = torch.arange(owner.shape[1], device=items.device) < items[:, None]
    sizes = torch.zeros(len(items), max(1, width), dtype=torch.int64, device=items.device)
    return sizes.scatter_add(1, owner.clamp_max(max(0, width - 1)), inside.long())


def place_spans(sizes: Tensor, able: Tensor, number: Tensor) -> Tensor:
    """(B, N) int64: 0 where a token stays, else the number from 1 of the span that it is in.

    Spans of `sizes` (B, K; 0: none) lie in this order in the `able` tokens, at random, never touching: a row must hold enough other tokens.
    number (B, M): uniform numbers, M >= able tokens + 1."""
    count = (sizes > 0).sum(1)
    free = able.sum(1) - sizes.sum(1)
    gaps = parts_of(free + 2, count + 1, number)  # one more on both ends, which may be without any
    width = sizes.shape[1]
    gaps = F.pad(gaps, (0, max(0, width + 1 - gaps.shape[1])))[:, :width]
    start = gaps.cumsum(1) - 1 + sizes.cumsum(1) - sizes
    real = sizes > 0
    edge = torch.zeros(len(able), able.shape[1] + 2, dtype=torch.int64, device=able.device)
    last = able.shape[1] + 1
    begins = edge.scatter_add(1, start.masked_fill(~real, last), real.long())
    ends = edge.scatter_add(1, (start + sizes).masked_fill(~real, last), real.long())
    inside = begins.cumsum(1) - ends.cumsum(1)
    span = torch.where(inside > 0, begins.cumsum(1), 0)
    rank = able.long().cumsum(1) - 1  # of the tokens among the able
    return torch.where(able, span.gather(1, rank.clamp_min(0)), 0)


def noise_spans(able: Tensor, draw: Draw, *, share: float, mean: float, most: int, room: int) -> Tensor:
    """(B, N) spans (see place_spans) over round(share x tokens) of each row, about `mean` long, as T5 divides them.

    At least one token goes where there is one, and one stays where there are two.  At most `most` spans, and no more than fit with their
    tokens into `room`.  Unlike T5's own code a row may end, and need not begin, with tokens that stay, so that short rows lose any of their tokens.
    """
    n = able.sum(1)
    gone = torch.minimum(torch.round(share * n.double()).long().clamp_min(1), (n - 1).clamp_min(1))
    gone = torch.where(n > 0, gone.clamp_max(room - 1), 0)
    count = torch.round(gone.double() / mean).long().clamp_min(1)
    count = torch.minimum(torch.minimum(count, gone), (n - gone + 1).clamp_min(1)).clamp_max(most)
    count = torch.where(gone > 0, torch.minimum(count, room - gone), 0)
    width = able.shape[1] + 2
    sizes = parts_of(gone, count, draw.uniform("span sizes", width))
    return place_spans(sizes, able, draw.uniform("span places", width))


def poisson(number: Tensor, mean: float) -> Tensor:
    """Poisson numbers of uniform ones, by inversion."""
    p, total, table = math.exp(-mean), 0.0, []
    for k in range(int(mean + 12 * math.sqrt(mean) + 12)):
        total += p
        table.append(total)
        p *= mean / (k + 1)
    return torch.searchsorted(torch.tensor(table, device=number.device), number.contiguous(), right=True)


def infill_spans(able: Tensor, draw: Draw, *, share: float, mean: float) -> tuple[Tensor, Tensor]:
    """Spans (B, N) over ceil(share x tokens) of each row with Poisson lengths, and (B, N) bool: tokens before which a span of no length falls.

    Lengths are drawn until they reach the share, the last one cut (Lewis et al. 2020, text infilling).  Spans do not touch; where a row has too few tokens to
    keep them apart, the last are left out."""
    n = able.sum(1)
    wanted = torch.ceil(share * n.double() - 1e-9).long()
    width = able.shape[1] + 2
    sizes = poisson(draw.uniform("span lengths", width), mean)
    before = sizes.cumsum(1) - sizes
    drawn = before < wanted[:, None]
    sizes = torch.minimum(sizes, (wanted[:, None] - before).clamp_min(0))
    empty = (drawn & (sizes == 0)).sum(1)
    order = torch.argsort((sizes == 0).long(), dim=1, stable=True)
    sizes = sizes.gather(1, order)
    apart = torch.arange(width, device=able.device) <= n[:, None] - sizes.cumsum(
        1
    )  # K spans need K - 1 tokens between them
    sizes = torch.where(apart, sizes, 0)
    sizes = sizes[:, : max(1, int((sizes > 0).sum(1).max()) if len(sizes) else 1)]
    empty = torch.minimum(empty, (sizes - 1).clamp_min(0).sum(1))  # a row never grows
    spans = place_spans(sizes, able, draw.uniform("span places", width))
    stays = able & (spans == 0)
    number = draw.uniform("empty spans", able.shape[1]).masked_fill(~stays, 2.0)
    rank = torch.argsort(torch.argsort(number, dim=1, stable=True), dim=1)
    return spans, stays & (rank < empty[:, None])


def starts_of(spans: Tensor) -> Tensor:
    """(B, N) bool: the first token of every span."""
    return (spans > 0) & (spans != F.pad(spans[:, :-1], (1, 0)))


def closed_up(ids: Tensor, valid: Tensor, spans: Tensor, first: int | None = None, empty: Tensor | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """ids and valid (B, M) in which every span is one token: MASK, or the ids `first`, first + 1, ... in order (sentinels).

    empty (B, N) bool: tokens before which a MASK is put in besides."""
    start = starts_of(spans)
    marks = torch.where(start, MASK if first is None else first - 1 + spans, ids)
    stays = valid & ((spans == 0) | start)
    extra = torch.zeros_like(stays) if empty is None else empty & stays
    place = (stays.long() + extra.long()).cumsum(1) - 1
    length = place[:, -1] + 1 if place.shape[1] else stays.sum(1)
    width = int(length.max()) if len(length) else 0
    out = torch.full((len(ids), width + 1), PAD, dtype=ids.dtype, device=ids.device)
    out.scatter_(1, place.masked_fill(~stays, width), marks)
    out.scatter_(1, (place - 1).masked_fill(~extra, width), MASK)
    return out[:, :width], torch.arange(width, device=ids.device) < length[:, None]


def cut_out(ids: Tensor, spans: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """ids and valid (B, M): BEGIN, then every span's sentinel (`first`, first + 1, ...) with its tokens behind, then END."""
    gone, start = spans > 0, starts_of(spans)
    place = (gone.long() + start.long()).cumsum(1)  # BEGIN has place 0
    last = place[:, -1] if place.shape[1] else gone.sum(1)
    width = int(last.max()) + 2 if len(last) else 2
    out = torch.full((len(ids), width + 1), PAD, dtype=ids.dtype, device=ids.device)
    out.scatter_(1, place.masked_fill(~gone, width), ids)
    out.scatter_(1, (place - 1).masked_fill(~start, width), first - 1 + spans)
    out[:, 0] = BEGIN
    out.scatter_(1, (last + 1)[:, None], END)
    return out[:, :width], torch.arange(width, device=ids.device) < (last + 2)[:, None]


def sentence_marks(words: Sequence[str], pieces: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(vocabulary,) bool each: ids that end a sentence, quotes and brackets behind the stop left aside, and ids with a space before them, so that
    3.5 is one number.  words: what ids say in a text; pieces: how the tokenizer spells them, a space as "Ġ" or "▁" (where it keeps none, as pieces
    without "##")."""
    bare = [word.rstrip().rstrip("\"'”’»)]") for word in words]
    ends = [word.endswith((".", "!", "?", "…", "。", "！", "？")) for word in bare]
    begins = [piece[:1] in ("Ġ", "▁", " ") for piece in pieces]
    begins = begins if any(begins) else [not piece.startswith("##") for piece in pieces]
    return torch.tensor(ends, dtype=torch.bool), torch.tensor(begins, dtype=torch.bool)


def known(ids: Tensor, valid: Tensor, specials: int) -> Tensor:
    """(B, N) bool: valid ids that can be predicted, which those between the marks and `specials` ("unknown") cannot."""
    return valid & ((ids < len(MARKS)) | (ids >= specials))


def shuffle_sentences(ids: Tensor, able: Tensor, ends: Tensor, begins: Tensor, draw: Draw) -> Tensor:
    """ids (B, N) with the sentences of each row's `able` tokens in an order of its own.

    A sentence ends behind a token of `ends` (vocabulary,) bool that one of `begins` (vocabulary,) bool follows."""
    follows = F.pad(begins[ids[:, 1:]] & able[:, 1:], (0, 1))
    over = ends[ids] & able & follows
    sentence = F.pad(over[:, :-1].long().cumsum(1), (1, 0))
    number = draw.uniform("sentences", ids.shape[1])
    rank = torch.argsort(torch.argsort(number, dim=1, stable=True), dim=1)  # of a sentence, by its number
    place = torch.arange(ids.shape[1], device=ids.device)
    key = torch.where(able, rank.gather(1, sentence) * ids.shape[1] + place, ids.shape[1] ** 2 + place)
    moved = ids.gather(1, torch.argsort(key, dim=1, stable=True))
    rest = (able.long().cumsum(1) - 1).clamp_min(0)
    return torch.where(able, moved.gather(1, rest), ids)
