"""Exact match and F1 of answers, as SQuAD scores them, for any script.

Source: Rajpurkar et al. 2016 (SQuAD 1.1) and 2018 (2.0: where there is no answer, saying so is right and anything else is wrong); its script's normalisation (small
letters, no punctuation, no English articles) with all of Unicode's punctuation and, for scripts without spaces, one word a character, as Lewis et al. 2020 (MLQA).
"""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ARTICLES = frozenset({"a", "an", "the"})
_DENSE = ((0x0E00, 0x0EFF), (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
"""Thai, Lao, kana and Han: written without spaces."""


def is_dense(character: str) -> bool:
    """Whether a character is of a script that is written without spaces."""
    code = ord(character)
    return any(low <= code <= high for low, high in _DENSE)


def normalised(text: str) -> list[str]:
    """The words of an answer that count.  What would leave nothing (an answer "A", or "%") is not taken away."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(c for c in folded if not (c in string.punctuation or unicodedata.category(c).startswith("P")))
    spaced = "".join(f" {c} " if is_dense(c) else c for c in (kept if kept.strip() else folded))
    words = spaced.split()
    return [word for word in words if word not in ARTICLES] or words


def overlap(guess: str, truth: str) -> tuple[float, float]:
    """(exact match, F1) of one answer and one true one."""
    said, true = normalised(guess), normalised(truth)
    if not said or not true:
        return (float(said == true),) * 2
    shared = sum((Counter(said) & Counter(true)).values())
    return float(said == true), 2 * shared / (len(said) + len(true))


@dataclass(frozen=True)
class Answers:
    """N answers: exact and f1 (N,) against the best of the true ones; answerable (N,) bool: whether there is one."""

    exact: np.ndarray
    f1: np.ndarray
    answerable: np.ndarray

    def __len__(self) -> int:
        return len(self.f1)

    def value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) mean F1.  `weights` (R, N): how often each question counts."""
        weights = np.ones((1, len(self))) if weights is None else weights
        return (weights @ self.f1) / np.maximum(weights.sum(1), 1)

    def figures(self, classes: Sequence[str] = ()) -> dict[str, float]:
        """F1, exact match and, where some questions have no answer, both kinds apart."""
        out = {"F1": float(self.value()[0]), "exact match": float(self.exact.mean()) if len(self) else 0.0}
        if 0 < self.answerable.sum() < len(self):
            out["F1 where there is an answer"] = float(self.f1[self.answerable].mean())
            out["right where there is none"] = float(self.f1[~self.answerable].mean())
        return out


def compare(guesses: Sequence[str], truths: Sequence[Sequence[str]]) -> Answers:
    """Each guess ("": no answer) against the true answers of its question (none: it has no answer)."""
    both = []
    for guess, true in zip(guesses, truths, strict=True):
        each = [overlap(guess, one) for one in true] or [(float(not guess),) * 2]
        both.append((max(e for e, _ in each), max(f for _, f in each)))
    found = np.array(both, np.float64).reshape(-1, 2)
    return Answers(found[:, 0], found[:, 1], np.array([bool(true) for true in truths], bool))
