"""What the words of a text alone say of a question about it: which of its words it shares, and how many stand near."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Self

import numpy as np

from .answers import is_dense

_WORD = re.compile(r"\w+")
_STOP = re.compile(r"[.!?。！？]+[\"')\]”’]*(?=\s|$)|[。！？]|\n+")
STEM = 5
"""Letters of a word that must agree: "report" and "reported" are one."""
NEAR = (5, 15)
"""Words to both sides that count as near."""
CLUES = 9
"""Numbers that `Shared.clues` gives for a word."""


def words_of(text: str) -> list[tuple[int, int]]:
    """(first character, one after the last) of every word; of scripts without spaces, of every character."""
    out: list[tuple[int, int]] = []
    for found in _WORD.finditer(text):
        start = found.start()
        for at in range(found.start(), found.end()):
            if is_dense(text[at]):
                out += [(start, at)] if at > start else []
                out.append((at, at + 1))
                start = at + 1
        out += [(start, found.end())] if found.end() > start else []
    return out


def sentences_of(text: str, words: list[tuple[int, int]]) -> np.ndarray:
    """(words,) number of the sentence that each word is in, by full stops and line ends."""
    ends = [m.end() for m in _STOP.finditer(text)]
    found = np.searchsorted(ends, [first for first, _ in words], side="right")
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _stem(word: str) -> str:
    return word.casefold()[:STEM]


@dataclass(frozen=True)
class Shared:
    """A text's words, their sentences, and for each the share of the question's weight that it holds (0: not a word of the question).

    A word weighs log(1 + 1 / its count in the text), as Richardson et al. 2013 (MCTest) weigh it, so that "the" hardly counts."""

    text: str
    words: list[tuple[int, int]]
    sentence: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, text: str, question: str) -> Self:
        words = words_of(text)
        stems = [_stem(text[a:b]) for a, b in words]
        count = Counter(stems)
        asked = {_stem(question[a:b]) for a, b in words_of(question)}
        weigh = {stem: float(np.log1p(1 / count[stem])) for stem in asked if stem in count}
        whole = sum(weigh.values()) or 1.0
        weight = np.array([weigh.get(stem, 0.0) / whole for stem in stems])
        return cls(text, words, sentences_of(text, words), weight)

    def near(self, reach: int) -> np.ndarray:
        """(words,) weight of the words up to `reach` to both sides, each repeat counted."""
        sums = np.concatenate([[0.0], np.cumsum(self.weight)])
        at = np.arange(len(self.words))
        return sums[np.minimum(at + reach + 1, len(at))] - sums[np.maximum(at - reach, 0)]

    def by_sentence(self) -> np.ndarray:
        """(words,) weight of the word's whole sentence."""
        if not len(self.words):
            return np.zeros(0)
        return np.bincount(self.sentence, self.weight)[self.sentence]

    def clues(self) -> np.ndarray:
        """(words, CLUES) float32: of the question or not and with what weight, weight near it and in its sentence, whether that sentence is the best, how far the
        next word of the question is, capital letter, number."""
        if not len(self.words):
            return np.zeros((0, CLUES), np.float32)
        hit = self.weight > 0
        whole = self.by_sentence()
        at = np.flatnonzero(hit)
        far = np.full(len(hit), 1e3) if not len(at) else np.abs(np.arange(len(hit))[:, None] - at[None]).min(1)
        first = [self.text[a] for a, _ in self.words]
        columns = [
            hit, self.weight, self.near(NEAR[0]), self.near(NEAR[1]), whole, (whole >= whole.max()) & (whole > 0), 1 / (1 + far),
            [c.isupper() for c in first], [c.isdigit() for c in first],
        ]  # fmt: skip
        return np.stack([np.asarray(c, np.float32) for c in columns], 1)
