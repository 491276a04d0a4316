"""Whole texts as an encoder of any context reads them: in overlapping windows, every piece in the one that shows most around it.

Not a kind of data of its own: tasks on parts of texts (tags, answers) need a vector for each piece of a text and the place of that piece in it.  Nothing is
cut off: a text longer than the context is read in as many windows as it takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..core import Ragged, RequestError, View
from ..views.text import BEGIN, END, MARKS, PAD

BATCH = 1024
"""Texts that are encoded together."""
LEAST = 8
"""Pieces of a text beside its question that a window holds at least."""


@dataclass(frozen=True)
class Reading:
    """Windows over some rows, and where in them each row's pieces stand.

    view: "ids" and "valid" (windows, length); at: places in the flattened windows of each row's pieces, in the order of the text; begin (rows,): of the
    begin mark of each row's first window; question: of the pieces of each row's question there, where there are questions."""

    view: View
    at: Ragged
    begin: Tensor
    question: Ragged | None = None

    def to(self, device) -> Reading:
        moved = None if self.question is None else self.question.to(device)
        return replace(
            self, view=self.view.to(device), at=self.at.to(device), begin=self.begin.to(device), question=moved
        )


@dataclass(frozen=True)
class Pieces:
    """The pieces of one text: ids (n,), and for each the first character and the one after the last, space around them left out."""

    ids: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def pieces_of(texts: Sequence[str], modality) -> list[Pieces]:
    """The pieces of every text, by the modality's tokenizer; marks that are spelled out in a text are ordinary text."""
    out = []
    for first in range(0, len(texts), BATCH):
        some = list(texts[first : first + BATCH])
        for text, found in zip(some, modality.bpe.encode_batch(some, add_special_tokens=False), strict=True):
            ends = np.array(found.offsets, np.int64).reshape(-1, 2)
            start, stop = ends[:, 0].copy(), ends[:, 1].copy()
            for n in range(len(start)):  # some tokenizers count the space before a word to it
                while start[n] < stop[n] and text[start[n]].isspace():
                    start[n] += 1
                while stop[n] > start[n] and text[stop[n] - 1].isspace():
                    stop[n] -= 1
            out.append(_ordinary(Pieces(np.array(found.ids, np.int64), start, stop), modality.specials))
    return out


def _ordinary(pieces: Pieces, specials: int) -> Pieces:
    """Without marks, which a vocabulary of whole pieces may find in a text: unknown there, or left out, as the modality stores rows."""
    marks = pieces.ids < len(MARKS)
    if not marks.any():
        return pieces
    if specials > len(MARKS):
        return Pieces(np.where(marks, len(MARKS), pieces.ids), pieces.start, pieces.stop)
    return Pieces(pieces.ids[~marks], pieces.start[~marks], pieces.stop[~marks])


def windows(count: int, room: int, *, causal: bool = False) -> list[tuple[int, int, int, int]]:
    """(first, stop, own first, own stop) of the windows of at most `room` pieces over `count`: neighbours overlap by half, and own what lies farther
    from their borders; where `causal`, what has most before it.  The owned parts are the whole, each piece once.  A row of no pieces has one window."""
    if room < 1:
        raise ValueError("a window holds at least one piece")
    if count <= room:
        return [(0, count, 0, count)]
    step = max(1, room // 2)
    firsts = [*range(0, count - room, step), count - room]
    borders = [0]
    for before, after in itertools.pairwise(firsts):
        end = before + room
        borders.append(end if causal else (after + end) // 2)
    borders.append(count)
    return [(f, f + room, a, b) for f, a, b in zip(firsts, borders, borders[1:])]


@dataclass(frozen=True)
class Passages:
    """Texts (and questions about them, whose pieces stand before those of the text in every window) as pieces."""

    pieces: list[Pieces]
    context: int
    questions: list[Pieces] | None = None
    causal: bool = False
    name: str = "text"

    @classmethod
    def of(
        cls, texts: Sequence[str], modality, *, questions: Sequence[str] | None = None, causal: bool = False
    ) -> Self:
        """Pieces of all texts; equal texts are encoded once.  RequestError where the context has no room for a text beside its question."""
        distinct = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        held = pieces_of(list(distinct), modality)
        asked = None if questions is None else pieces_of(list(questions), modality)
        if asked is not None and modality.context < LEAST + 4:
            raise RequestError(f"A context of {modality.context} tokens holds no question beside a text.", "Pretrain with --size 128 or more.")  # fmt: skip
        return cls([held[distinct[text]] for text in texts], modality.context, asked, causal, modality.name)

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) pieces of every text."""
        return np.array([len(p) for p in self.pieces], np.int64)

    @property
    def longest_question(self) -> int:
        """Pieces of a question that a window shows at most, so that the text has half of it."""
        return max(1, (self.context - 3) // 2)

    def room(self, row: int) -> int:
        """Pieces of the row's text that a window shows."""
        if self.questions is None:
            return self.context - 2
        return self.context - 3 - min(len(self.questions[row]), self.longest_question)

    def reading(self, places: np.ndarray) -> Reading:
        """The windows over the rows `places`."""
        lines: list[np.ndarray] = []
        at: list[np.ndarray] = []
        asked: list[np.ndarray] = []
        begin, counts = [], []
        for row in places.tolist():
            ids, front = self.pieces[row].ids, np.array([BEGIN])
            begin.append(len(lines))
            if self.questions is not None:
                question = self.questions[row].ids[: self.longest_question]
                asked.append(np.stack([np.full(len(question), len(lines)), 1 + np.arange(len(question))]))
                front = np.concatenate([front, question, [END]])
            counts.append(len(ids))
            for first, stop, own, to in windows(len(ids), self.room(row), causal=self.causal):
                at.append(np.stack([np.full(to - own, len(lines)), len(front) + np.arange(own, to) - first]))
                lines.append(np.concatenate([front, ids[first:stop], [END] if stop == len(ids) else []]).astype(np.int64))  # fmt: skip
        length = max(map(len, lines))
        ids = np.full((len(lines), length), PAD, np.int64)
        valid = np.zeros((len(lines), length), bool)
        for n, line in enumerate(lines):
            ids[n, : len(line)], valid[n, : len(line)] = line, True
        view = View(self.name, parts={"ids": torch.from_numpy(ids), "valid": torch.from_numpy(valid)})
        question = None if self.questions is None else _ragged(asked, length, [a.shape[1] for a in asked])
        return Reading(view, _ragged(at, length, counts), torch.tensor(begin) * length, question)


def _ragged(places: list[np.ndarray], length: int, counts: list[int]) -> Ragged:
    """Flat places of (window, position) pairs, `counts` of them a row."""
    pairs = np.concatenate(places, 1)
    return Ragged(torch.from_numpy(pairs[0] * length + pairs[1]), torch.from_numpy(np.cumsum([0, *counts])))


def piece_of_words(pieces: Pieces, words: Sequence[str], *, last: bool = False) -> np.ndarray:
    """(words,) which piece speaks for each of the words that the text holds, divided by one space: the first that begins in it (`last`: the last that
    ends in it), else the one it lies in; -1 where the tokenizer leaves nothing of it."""
    stops = np.cumsum([len(w) + 1 for w in words]) - 1
    starts = stops - [len(w) for w in words]
    full = np.flatnonzero(pieces.stop > pieces.start)
    begin, end = pieces.start[full], pieces.stop[full]
    if not len(full):
        return np.full(len(words), -1)
    if last:
        found = np.searchsorted(end, stops, side="right") - 1
        inside = (found >= 0) & (end[found] > starts)
    else:
        found = np.searchsorted(begin, starts, side="left")
        inside = (found < len(full)) & (begin[np.minimum(found, len(full) - 1)] < stops)
    cover = np.searchsorted(begin, starts, side="right") - 1
    covered = (cover >= 0) & (end[cover] > starts)
    chosen = np.where(inside, found, np.where(covered, cover, -1))
    return np.where(chosen >= 0, full[chosen], -1)


@dataclass(frozen=True)
class Tagged:
    """Sentences as pieces, the piece that speaks for each word, and the words' codes (-1 where a word has no tag)."""

    passages: Passages
    speaks: list[np.ndarray]
    codes: list[np.ndarray]
    usual: int = 0

    @classmethod
    def of(cls, words: Sequence[Sequence[str]], codes: Sequence[np.ndarray], modality, *, causal: bool = False, last: bool = False, usual: int = 0) -> Self:  # fmt: skip
        """From words and codes; `usual` is what a word gets that the tokenizer leaves nothing of."""
        passages = Passages.of([" ".join(some) for some in words], modality, causal=causal)
        speaks = [piece_of_words(held, some, last=last) for held, some in zip(passages.pieces, words, strict=True)]
        return cls(passages, speaks, list(codes), usual)

    def __len__(self) -> int:
        return len(self.passages)

    @property
    def unread(self) -> int:
        """Words that no piece speaks for."""
        return sum(int((s < 0).sum()) for s in self.speaks)

    def part(self, places: np.ndarray) -> tuple[Reading, None, Tensor]:
        """(windows and the places of the pieces that speak, no clues, codes of their words)."""
        reading = self.passages.reading(places)
        wanted = [self.speaks[row][self.speaks[row] >= 0] for row in places.tolist()]
        first = reading.at.offsets[:-1].numpy()
        chosen = np.concatenate([w + f for w, f in zip(wanted, first)])
        offsets = torch.from_numpy(np.cumsum([0, *map(len, wanted)]))
        codes = np.concatenate([self.codes[row][self.speaks[row] >= 0] for row in places.tolist()])
        return replace(reading, at=Ragged(reading.at.values[chosen], offsets)), None, torch.from_numpy(codes)

    def whole(self, places: np.ndarray, answers: list) -> list:
        """Answers of the words that were read, as answers of all words."""
        out = []
        for row, (codes, chance, repaired) in zip(places.tolist(), answers, strict=True):
            read = self.speaks[row] >= 0
            all_codes, all_chances = np.full(len(read), self.usual), np.zeros(len(read))
            all_codes[read], all_chances[read] = codes, chance
            out.append((all_codes, all_chances, repaired))
        return out

    def truth(self, places: np.ndarray) -> list[np.ndarray]:
        return [self.codes[row] for row in places.tolist()]
