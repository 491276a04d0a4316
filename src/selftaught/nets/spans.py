"""Heads over the vectors of a text's pieces: tags of words, and the answer to a question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Ragged


@dataclass(frozen=True)
class Read:
    """What an encoder made of some rows: the vectors of each row's pieces, of its begin mark (rows, width), of its question's pieces, and `clues`
    (pieces, C): what the words themselves say of every piece, where a task gives such."""

    pieces: Ragged
    begin: Tensor
    question: Ragged | None = None
    clues: Ragged | None = None

    def take(self, rows: Tensor) -> Self:
        """Some of the rows, in that order."""
        some = lambda held: None if held is None else held.take(rows)  # noqa: E731
        return type(self)(self.pieces.take(rows), self.begin[rows], some(self.question), some(self.clues))


class Tagger(nn.Module):
    """A reading -> (pieces, outputs): one linear layer over the vectors of the pieces, those of all rows one after the other."""

    def __init__(self, *, width: int, outputs: int, dropout: float = 0.1):
        super().__init__()
        self.options = {"width": width, "outputs": outputs, "dropout": dropout}
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, outputs)

    def forward(self, read: Read) -> Tensor:
        return self.out(self.dropout(read.pieces.values))

    def config(self) -> dict:
        return {"kind": "tagger", "options": self.options}


class Reader(nn.Module):
    """A reading with a question -> (pieces, 2) logits of an answer's first and last piece, and (rows, 2) of there being none.

    The pieces' vectors, gated by the question's mean, and the clues of their words, through convolutions along the text (a word of the question is seldom the
    answer: what stands beside it is)."""

    def __init__(self, *, width: int, clues: int, hidden: int = 64, reach: int = 7, dropout: float = 0.2):
        super().__init__()
        self.options = {"width": width, "clues": clues, "hidden": hidden, "reach": reach, "dropout": dropout}
        if reach % 2 == 0:
            raise ValueError("reach counts a piece and as many to either side: it is odd")
        self.norm = nn.LayerNorm(width)
        self.piece, self.asked = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.clue = nn.Linear(clues, hidden)
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.ModuleList([nn.Conv1d(hidden, hidden, reach, padding=reach // 2) for _ in range(2)])
        self.out, self.none = nn.Linear(hidden, 2), nn.Linear(width, 2)

    def forward(self, read: Read) -> tuple[Tensor, Tensor]:
        if read.question is None or read.clues is None:
            raise ValueError("a Reader needs questions and clues")
        pieces, question = read.pieces, read.question
        owner = torch.repeat_interleave(torch.arange(len(pieces), device=pieces.offsets.device), pieces.lengths)
        asked = self.norm(question.values).new_zeros(len(question), question.values.shape[1])
        whose = torch.repeat_interleave(torch.arange(len(question), device=asked.device), question.lengths)
        asked = asked.index_add(0, whose, self.norm(question.values)) / question.lengths.clamp_min(1)[:, None]
        gate = torch.tanh(self.asked(asked))[owner]
        x = self.piece(self.dropout(self.norm(pieces.values)))
        x = F.gelu(x * (1 + gate) + self.clue(read.clues.values.to(x.dtype)) * (1 + gate))
        wide, valid = Ragged(x, pieces.offsets).pad()
        for layer in self.mix:
            wide = wide + F.gelu(layer(self.dropout(wide).transpose(1, 2)).transpose(1, 2)) * valid[..., None]
        return self.out(wide[valid]), self.none(self.norm(read.begin))

    def config(self) -> dict:
        return {"kind": "reader", "options": self.options}
