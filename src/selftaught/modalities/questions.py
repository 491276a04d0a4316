"""Questions about texts as an encoder reads them: the question before every window of its text, with what the words themselves say.

Not a kind of data of its own: see passages.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..core import Ragged
from ..measures.answers import is_dense
from ..measures.overlap import CLUES, Shared
from .passages import Passages, Pieces, Reading


@dataclass(frozen=True)
class Asked:
    """Questions as pieces; targets (rows, 2): first and last piece of the answer, -1 where there is none, -2 where pieces cannot spell it."""

    passages: Passages
    contexts: list[str]
    questions: list[str]
    answers: list[list[tuple[str, int]]]
    targets: np.ndarray

    @classmethod
    def of(cls, contexts: Sequence[str], questions: Sequence[str], answers: Sequence[list[tuple[str, int]]], modality, *, causal: bool = False) -> Self:  # fmt: skip
        """From texts; answers as (text, first character)."""
        passages = Passages.of(contexts, modality, questions=questions, causal=causal)
        wanted = np.array([target(p, a) for p, a in zip(passages.pieces, answers, strict=True)], np.int64).reshape(-1, 2)  # fmt: skip
        return cls(passages, list(contexts), list(questions), list(answers), wanted)

    def __len__(self) -> int:
        return len(self.passages)

    def part(self, places: np.ndarray) -> tuple[Reading, Ragged, Targets]:
        """(windows, clues of every piece, targets)."""
        reading = self.passages.reading(places)
        clues = [self.clues(row) for row in places.tolist()]
        offsets = reading.at.offsets
        values = torch.from_numpy(np.concatenate([np.zeros((0, CLUES), np.float32), *clues]))
        return reading, Ragged(values, offsets), Targets((torch.from_numpy(self.targets[places]), offsets))

    def clues(self, row: int) -> np.ndarray:
        """(pieces, CLUES): those of the word that a piece is of, zeros where it is of none."""
        shared = Shared.of(self.contexts[row], self.questions[row])
        pieces = self.passages.pieces[row]
        starts = np.array([first for first, _ in shared.words], np.int64)
        stops = np.array([last for _, last in shared.words], np.int64)
        out = np.zeros((len(pieces), CLUES), np.float32)
        if len(starts) and len(pieces):
            which = np.searchsorted(starts, pieces.start, side="right") - 1
            inside = (which >= 0) & (stops[which] > pieces.start)
            out[inside] = shared.clues()[which[inside]]
        return out

    def whole(self, places: np.ndarray, answers: list) -> list[tuple[str, int, int, float]]:
        """(text, first character, one after the last, probability) of each answer, widened to whole words; "", -1, -1 where there is none."""
        out = []
        for row, (first, last, chance) in zip(places.tolist(), answers, strict=True):
            if first < 0:
                out.append(("", -1, -1, chance))
                continue
            pieces, text = self.passages.pieces[row], self.contexts[row]
            start, stop = widened(text, int(pieces.start[first]), int(pieces.stop[last]))
            out.append((text[start:stop], start, stop, chance))
        return out

    def truth(self, places: np.ndarray) -> list[list[str]]:
        return [[text for text, _ in self.answers[row]] for row in places.tolist()]


class Targets(tuple):
    """(targets, offsets) that move to a device together."""

    def to(self, device) -> tuple[Tensor, Tensor]:
        return self[0].to(device), self[1].to(device)


def target(pieces: Pieces, answers: list[tuple[str, int]]) -> tuple[int, int]:
    """(first, last) piece of the first answer; (-1, -1) without one, (-2, -2) where no piece lies in it."""
    if not answers:
        return -1, -1
    text, start = answers[0]
    inside = np.flatnonzero((pieces.stop > start) & (pieces.start < start + len(text)) & (pieces.stop > pieces.start))
    return (int(inside[0]), int(inside[-1])) if len(inside) else (-2, -2)


def widened(text: str, start: int, stop: int) -> tuple[int, int]:
    """The span with the rest of the words that it begins and ends in."""
    joined = lambda at: 0 < at < len(text) and all(c.isalnum() and not is_dense(c) for c in text[at - 1 : at + 1])  # noqa: E731
    while joined(start):
        start -= 1
    while joined(stop):
        stop += 1
    return start, stop
