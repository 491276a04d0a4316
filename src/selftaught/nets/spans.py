"""Heads over the vectors of a text's pieces: tags of words, and the answer to a question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch.nn as nn
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
