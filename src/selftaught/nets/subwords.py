"""Subwords as fastText has them: n-grams of letters of <word>, hashed into buckets.

Source: Bojanowski, Grave, Joulin & Mikolov 2017, "Enriching Word Vectors with Subword Information" (arXiv:1607.04606), section 3.2; the hash
is FNV-1a over UTF-8 with bytes taken as signed, as in their dictionary.cc, so that buckets agree with theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass(frozen=True)
class Subwords:
    """n-grams of `shortest` to `longest` letters, in `buckets`."""

    buckets: int
    shortest: int = 3
    longest: int = 6

    def __post_init__(self):
        if not (0 < self.buckets < 1 << 31 and 1 <= self.shortest <= self.longest <= 64):
            raise ValueError(f"{self}: buckets above 0, lengths from 1 to 64, the shortest first")

    def of(self, word: str) -> np.ndarray:
        """(n,) int64: the buckets of the n-grams of one word, known or not."""
        return self.table([word])[1].astype(np.int64)

    def table(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """offsets (N + 1,) int64 and buckets (total,) int32: those of word i are buckets[offsets[i]:offsets[i + 1]]."""
        spelled = [f"<{word}>".encode("utf-8", "surrogatepass") for word in words]
        ends = np.cumsum([0, *map(len, spelled)])
        letters = np.frombuffer(b"".join(spelled), np.uint8)
        most = sum((self.longest - self.shortest + 1) * len(s) for s in spelled)
        found, offsets = np.empty(most, np.int32), np.zeros(len(words) + 1, np.int64)
        _hash_all(letters, ends, self.shortest, self.longest, self.buckets, offsets, found)
        return offsets, found[: offsets[-1]].copy()


@njit(nogil=True, cache=True)
def _hash_all(letters, ends, shortest, longest, buckets, offsets, found):
    """Every n-gram of every word: `found` and `offsets` are filled.  A letter is a byte and the bytes 10xxxxxx that go on with it."""
    at = 0
    for w in range(ends.shape[0] - 1):
        first, last = ends[w], ends[w + 1]
        for start in range(first, last):
            if letters[start] & 0xC0 == 0x80:
                continue
            value = np.uint32(2166136261)
            stop, n = start, 0
            while stop < last and n < longest:
                whole = False
                while not whole:
                    byte = np.uint32(np.int64(letters[stop]) - (256 if letters[stop] > 127 else 0))
                    value = np.uint32((value ^ byte) * np.uint32(16777619))
                    stop += 1
                    whole = stop == last or letters[stop] & 0xC0 != 0x80
                n += 1
                edge = n == 1 and (start == first or stop == last)
                if n >= shortest and not edge:
                    found[at] = value % np.uint32(buckets)
                    at += 1
        offsets[w + 1] = at
