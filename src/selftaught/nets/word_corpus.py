"""A corpus of ids as word vectors read it: counted once, then piece by piece, in any order of documents.

Nothing of it is held beyond the piece that is being read, and none of a long document is left out: it is cut into units of UNIT words,
across which no window reaches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..core import DataError

UNIT = 1 << 13
"""Words of the longest stretch that a window lies in."""


@dataclass
class Corpus:
    """Documents of ids by number; of words that are rare or stand for no text the count is 0."""

    data: Any  # a data.Dataset, or what has its `rows` and length
    lengths: np.ndarray
    counts: np.ndarray
    starts: np.ndarray = field(init=False)

    def __post_init__(self):
        self.starts = np.cumsum([0, *self.lengths])

    @property
    def words(self) -> int:
        return int(self.starts[-1])

    @classmethod
    def of(cls, data, vocabulary: int, specials: int, min_count: int) -> Corpus:
        """Counts every word.  DataError where fewer than two occur often enough."""
        counts, lengths = np.zeros(vocabulary, np.int64), []
        for rows in np.array_split(np.arange(len(data)), max(1, len(data) // 1024)):
            ragged = data.rows(rows)
            counts += np.bincount(ragged.values.numpy(), minlength=vocabulary)
            lengths.append(ragged.lengths.numpy())
        counts[:specials] = 0
        often = np.where(counts >= min_count, counts, 0)
        if (often > 0).sum() < 2:
            raise DataError(
                f"Of {int((counts > 0).sum())} words fewer than two occur {min_count} times or more.",
                "Give more text, or a smaller --min-count.",
            )
        return cls(data, np.concatenate(lengths), often)

    def read(self, documents: np.ndarray) -> Piece:
        """The ids of `documents` end to end, and where their units lie."""
        ragged = self.data.rows(documents)
        ids = ragged.values.numpy().astype(np.int32, copy=False)
        lengths = self.lengths[documents]
        ends = np.cumsum(lengths)
        units = -(-lengths // UNIT)  # of each document
        owner = np.repeat(np.arange(len(documents)), units)
        into = UNIT * (np.arange(len(owner)) - np.repeat(np.cumsum(units) - units, units))
        first = (ends - lengths)[owner] + into
        last = np.minimum(first + UNIT, ends[owner])
        return Piece(ids, np.stack([first, last, self.starts[documents][owner] + into], 1))


class Piece(NamedTuple):
    """Some documents, read."""

    ids: np.ndarray  # (words,) int32
    units: np.ndarray  # (N, 3) int64: first, last + 1, place of the first in the corpus

    def shares(self, count: int) -> list[tuple[np.ndarray, int]]:
        """The units in `count` stretches of about as many words each, and how many words come before each stretch."""
        ends = self.units[:, 1]
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, count) // count) if len(ends) else []
        parts = np.split(self.units, cuts)
        return [(part, int(part[0, 0])) for part in parts if len(part)]
