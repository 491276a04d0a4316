"""Two stretches of text in one row, [BOS] A [EOS] B [EOS], of which B follows A or comes from another document (BERT's next sentence).

What a pair looks like depends on its rows and its draw alone.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Draw, View
from .spans import places
from .text import BEGIN, END, MARKS, PAD


def pairs(
    view: View, other: View, context: int, draw: Draw, *, following: View | None = None, share: float = 0.5
) -> View:
    """Rows of two stretches, of at most `context` tokens with their marks; param "follows" (B,) bool tells which second ones follow.

    view: the first stretches; following: what comes after each of them, in a row of its own (its param "follows", where there
    is one, says which really does); without it each row of `view` is cut in two at a random place.  other: rows of other documents.
    `share` of the rows that have something to follow are followed by it, the rest by another document, whose stretch is then as long as the one
    that would have followed: else length alone would tell them apart.  Parts: ids, valid, and type (B, L) int64, 0 for [BOS] A [EOS] and 1 behind.
    """
    ids, count = ordinary(view)
    if following is None:
        cut = 1 + (draw.uniform("cut") * (count - 1)).long().clamp_min(0)
        able = count > 1
        first = ids, cut
        place, _ = places(cut, count - cut, ids.shape[1])
        second = ids.gather(1, place), count - cut
    else:
        first, second = (ids, count), ordinary(following)
        able = following.params.get("follows", torch.ones_like(count, dtype=torch.bool))
    follows = able & (draw.uniform("follows") < share)
    elsewhere, total = ordinary(other)
    span = total if following is not None else torch.minimum(total, second[1].clamp_min(1))
    start = (draw.uniform("elsewhere") * (total - span + 1)).long()
    place, _ = places(start, span, elsewhere.shape[1])
    second = choose(follows, second, (elsewhere.gather(1, place), span))
    joined = join(*shortened(first, second, context - 3, draw))
    return replace(joined, modality=view.modality, role=view.role, params={"follows": follows})


def ordinary(view: View) -> tuple[Tensor, Tensor]:
    """(B, L) ids of a view without its marks, closed up to the left, and (B,) their count."""
    stays = view["valid"] & (view["ids"] >= len(MARKS))
    order = torch.argsort((~stays).long(), dim=1, stable=True)
    return view["ids"].gather(1, order), stays.sum(1)


def choose(where: Tensor, one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """(ids, count) of `one` where (B,) holds, else of `two`."""
    width = max(one[0].shape[1], two[0].shape[1])
    ids, others = (F.pad(x, (0, width - x.shape[1]), value=PAD) for x in (one[0], two[0]))
    return torch.where(where[:, None], ids, others), torch.where(where, one[1], two[1])


def shortened(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], longest: int, draw: Draw
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Both cut until they have `longest` tokens together: of the longer one a token at its front or its back, as a coin falls, again and again.

    Devlin et al. 2019, create_pretraining_data.py, truncate_seq_pair: of two as long the second is cut."""
    a, b = first[1], second[1]
    half = torch.full_like(a, longest // 2)
    keep_a = torch.minimum(a, torch.maximum(longest - b, longest - half))
    keep_b = torch.minimum(b, torch.maximum(longest - a, half))
    out = []
    for name, (ids, count), keep in (("first", first, keep_a), ("second", second, keep_b)):
        gone = count - keep
        heads = draw.uniform(f"cut of the {name}", ids.shape[1]) < 0.5
        front = (heads & (torch.arange(ids.shape[1], device=ids.device) < gone[:, None])).sum(1)
        place, _ = places(front, keep, ids.shape[1])
        out.append((ids.gather(1, place), keep))
    return out[0], out[1]


def join(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> View:
    """[BOS] A [EOS] B [EOS] with padding behind; each of (ids (B, L), count (B,))."""
    (a, m), (b, n) = first, second
    length = m + n + 3
    at = torch.arange(int(length.max()) if len(length) else 0, device=a.device).expand(len(a), -1)
    behind = at >= (m + 2)[:, None]
    inner = torch.where(
        behind,
        b.gather(1, (at - m[:, None] - 2).clamp(0, b.shape[1] - 1)),
        a.gather(1, (at - 1).clamp(0, a.shape[1] - 1)),
    )
    ends = (at == (m + 1)[:, None]) | (at == (length - 1)[:, None])
    valid = at < length[:, None]
    ids = torch.where(at == 0, BEGIN, torch.where(ends, END, inner))
    return View("text", parts={"ids": ids.masked_fill(~valid, PAD), "valid": valid, "type": (behind & valid).long()})
