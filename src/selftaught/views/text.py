"""Views of token ids: excerpts of rows, deleted and exchanged tokens, masked tokens.  Whole batch at once, each row its own.

A raw row holds ordinary ids alone; views put BEGIN before and, where they reach the row's end, END behind.  What a row looks like
depends on the row and its draw, never on the rows or the padding beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Draw, View
from ..nets.vocabulary import BEGIN, END, MARKS, MASK, PAD
from .spans import places, stretch

PACKED = "packed"
"""The role of a raw view of packed documents."""


@dataclass(frozen=True)
class Excerpt:
    """A stretch of each row, of `share` (lowest, highest) of its tokens, as long as `context` allows, between marks.

    `head`: from the row's beginning, else from anywhere.  `delete` and `swap` are the chances of a token to be left out, and of two
    neighbours to change places.  A stretch has at least `least` tokens where the row has, and never none.  `closed`: END stands behind a
    stretch that was cut off too, as other libraries' tokenizers put it.
    """

    context: int
    share: tuple[float, float] = (1.0, 1.0)
    head: bool = False
    delete: float = 0.0
    swap: float = 0.0
    least: int = 4
    closed: bool = False

    def __call__(self, view: View, draw: Draw) -> View:
        """View of ids and valid (B, L + 2 at most); params "start" and "span" say which tokens of the row it shows.

        Packed sequences are as long as the context and have their marks: they are taken as they are."""
        if view.role == PACKED:
            return view
        lengths = view["valid"].sum(1)
        start, span = stretch(
            lengths, draw, share=self.share, longest=self.context - 2, least=self.least, head=self.head
        )
        place, inside = places(start, span, view["ids"].shape[1])
        ids = view["ids"].gather(1, place).masked_fill(~inside, PAD)
        if self.swap:
            ids = exchange(ids, inside, draw.uniform("swap", ids.shape[1]) < self.swap, draw.integers("swap pairs", 2))
        if self.delete:
            number = draw.uniform("delete", ids.shape[1])
            ids, inside = without(ids, inside, number < self.delete, number)
        ids, valid = marked(ids, inside, (start + span == lengths) | self.closed)
        return View(view.modality, view.role, {"ids": ids, "valid": valid}, {"start": start, "span": span})

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
        more = [f"{self.delete:.0%} of the tokens deleted"] * bool(self.delete)
        more += [f"{self.swap:.0%} of the neighbours exchanged"] * bool(self.swap)
        return ", ".join([f"{what} of each text, at most {self.context} tokens", *more])


def exchange(ids: Tensor, inside: Tensor, wanted: Tensor, odd: Tensor) -> Tensor:
    """Neighbours 2 i, 2 i + 1 (counted from 0, or from 1 where `odd` (B,) is 1) change places where `wanted` (B, S) holds at the first."""
    place = torch.arange(ids.shape[1], device=ids.device)
    first = wanted & ((place - odd[:, None]) % 2 == 0) & inside & F.pad(inside[:, 1:], (0, 1))
    second = F.pad(first[:, :-1], (1, 0))
    return ids.gather(1, place + first.long() - second.long())


def without(ids: Tensor, inside: Tensor, gone: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """The rows without their `gone` tokens, closed up; the token with the highest `number` stays in any case."""
    best = number.masked_fill(~inside, -1).argmax(1, keepdim=True)
    stays = inside & ~gone.scatter(1, best, False)
    order = torch.argsort((~stays).long(), dim=1, stable=True)
    count = stays.sum(1)
    width = int(count.max()) if len(count) else 0
    inside = torch.arange(width, device=ids.device) < count[:, None]
    return ids.gather(1, order[:, :width]).masked_fill(~inside, PAD), inside


def deleted(ids: Tensor, valid: Tensor, share: float, draw: Draw, specials: int = len(MARKS)) -> tuple[Tensor, Tensor]:
    """Rows between marks without about `share` of their tokens, closed up; the first `specials` ids and one token of each row stay.

    -> ids, valid."""
    ordinary = valid & (ids >= specials)
    number = draw.uniform("delete", ids.shape[1])
    best = number.masked_fill(~ordinary, -1)  # where a row holds marks alone, its first one stays, as all of them do
    return without(ids, valid, ordinary & (number < share), best)


def marked(ids: Tensor, inside: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """BEGIN before every row and END behind those that `ends` (B,) names; padding behind.  -> ids, valid."""
    count = inside.sum(1)
    ids = F.pad(ids, (1, 1), value=PAD)
    ids[:, 0] = BEGIN
    ids = ids.scatter(1, (count + 1)[:, None], torch.where(ends, END, PAD)[:, None])
    length = count + 1 + ends.long()
    width = int(length.max()) if len(length) else 1
    valid = torch.arange(width, device=ids.device) < length[:, None]
    return ids[:, :width], valid


def mask_tokens(ids: Tensor, chosen: Tensor, vocabulary: int, draw: Draw, specials: int = len(MARKS)) -> Tensor:
    """(B, L) ids in which 80 % of the `chosen` (B, L) become MASK, 10 % a random ordinary token, and 10 % stay (Devlin et al. 2019).

    The first `specials` ids are never changed, and never put in but for MASK.
    """
    chosen = chosen & (ids >= specials)
    kind = draw.uniform("corrupt", ids.shape[1])
    random = specials + draw.integers("corrupt token", vocabulary - specials, ids.shape[1])
    changed = torch.where(kind < 0.8, MASK, torch.where(kind < 0.9, random, ids))
    return torch.where(chosen, changed, ids)
