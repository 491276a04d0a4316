"""Which tokens begin a word, by their ids alone: tables over the vocabulary, so that whole words can be hidden without the text."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GOES_ON, BEGINS, BY_CLASS = range(3)
LETTER, NUMBER, OTHER, SPACE, OPEN, CLOSED = range(6)
"""OPEN goes on with whatever comes next (a lone space, a part of a letter), CLOSED with nothing (a mark)."""
ENDINGS = frozenset({"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
"""English endings that byte-level tokenizers cut off as words of their own (Radford et al. 2019)."""


def byte_of() -> dict[str, int]:
    """{letter: byte} of byte-level vocabularies, which spell every byte as a letter that can be printed (Radford et al. 2019)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    table = {chr(b): b for b in shown}
    hidden = [b for b in range(256) if b not in set(shown)]
    return table | {chr(256 + n): b for n, b in enumerate(hidden)}


def _class(letter: str) -> int:
    if letter == "\ufffd":
        return OPEN
    if letter.isspace():
        return SPACE
    return {"L": LETTER, "N": NUMBER}.get(unicodedata.category(letter)[0], OTHER)


def _ends(text: str) -> tuple[int, int, int]:
    """(whether it begins a word, class of the first letter, class of the last) of a piece as it stands in a text."""
    if text.strip(" ") == "":
        return BEGINS, SPACE, OPEN
    last = CLOSED if text in ENDINGS else _class(text[-1])
    return (BEGINS if text[0] == " " else BY_CLASS), _class(text[0]), last


@dataclass(frozen=True)
class Starts:
    """Tables (V,) uint8: how a token begins, and the classes of its first and last letter."""

    lead: Tensor
    first: Tensor
    last: Tensor

    @classmethod
    def of(cls, pieces: list[str], specials: int, style: str) -> Starts:
        """Of a vocabulary in a `style`: "bytes" (byte-level), "##" (before pieces that go on), "▁" (before pieces that begin), "words"."""
        letters, rows = byte_of(), []
        for number, piece in enumerate(pieces):
            if number < specials:
                rows.append((BEGINS, OPEN, CLOSED))
            elif style in ("##", "words"):
                rows.append((GOES_ON if style == "##" and piece.startswith("##") else BEGINS, OPEN, OPEN))
            elif style == "bytes":
                raw = bytes(letters.get(c, 0x80) for c in piece)
                rows.append(_ends(raw.decode("utf-8", errors="replace")))
            else:
                rows.append(_ends(piece.replace("▁", " ")))
        table = torch.tensor(rows, dtype=torch.uint8).T.contiguous()
        return cls(*table)

    def __call__(self, ids: Tensor) -> Tensor:
        """(B, L) bool of ids (B, L)."""
        lead, first, last = (t.to(ids.device)[ids] for t in (self.lead, self.first, self.last))
        before = F.pad(last[:, :-1], (1, 0), value=CLOSED)
        differs = (before == CLOSED) | ((first != before) & (first != OPEN) & (before != OPEN))
        return (lead == BEGINS) | ((lead == BY_CLASS) & differs)
