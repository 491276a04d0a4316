"""What was written, against what should have been, text by text, so that texts can be resampled: BLEU and ROUGE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .rouge import FIGURES, rouge

ORDERS = 4
"""BLEU's longest n-gram."""


def need_sacrebleu():
    """The module; RequestError where it is not installed."""
    try:
        import sacrebleu
    except ImportError:
        from ..core import RequestError

        raise RequestError("BLEU needs sacrebleu.", "pip install 'selftaught[text]'") from None
    return sacrebleu


@dataclass(frozen=True)
class BleuCounts:
    """sacrebleu's counts of N texts: (N, 4) n-grams that are right, (N, 4) n-grams written, (N, 2) words written and words of the reference."""

    correct: np.ndarray
    total: np.ndarray
    length: np.ndarray
    guesses: tuple[str, ...]
    references: tuple[str, ...]

    @classmethod
    def of(cls, guesses: Sequence[str], references: Sequence[str]) -> BleuCounts:
        """Counts by sacrebleu itself, with its own tokens ("13a") and case."""
        measure = need_sacrebleu().metrics.BLEU(effective_order=True)
        found = [measure.sentence_score(g, [r]) for g, r in zip(guesses, references, strict=True)]
        columns = lambda name: np.array([getattr(f, name) for f in found], np.float64).reshape(len(found), -1)  # noqa: E731
        length = np.concatenate([columns("sys_len"), columns("ref_len")], 1)
        return cls(columns("counts"), columns("totals"), length, tuple(guesses), tuple(references))

    def __len__(self) -> int:
        return len(self.length)

    def value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) BLEU in 0-1 of the corpora that weights (R, N) make: sacrebleu's formula, exponential smoothing included (Papineni et al. 2002; Post 2018)."""
        weights = np.ones((1, len(self))) if weights is None else weights
        correct, total, length = (weights @ part for part in (self.correct, self.total, self.length))
        zeros = np.cumsum((correct == 0) & (total > 0), 1)
        smooth = np.where(correct > 0, correct, 1 / 2.0**zeros)
        logs = np.log(smooth / np.maximum(total, 1)).mean(1)
        brevity = np.minimum(0, 1 - length[:, 1] / np.maximum(length[:, 0], 1e-12))
        return np.where((correct.sum(1) > 0) & (total > 0).all(1), np.exp(np.minimum(logs + brevity, 0.0)), 0.0)

    def figures(self, classes: Sequence[str] = ()) -> dict[str, float]:
        """BLEU and chrF in 0-1, as sacrebleu gives them, and how long the texts are beside their references."""
        metrics = need_sacrebleu().metrics
        guesses, references = list(self.guesses), [list(self.references)]
        return {
            "BLEU": min(1.0, metrics.BLEU().corpus_score(guesses, references).score / 100),
            "chrF": metrics.CHRF().corpus_score(guesses, references).score / 100,
            "length": float(self.length[:, 0].sum() / max(1.0, self.length[:, 1].sum())),
        }


@dataclass(frozen=True)
class RougeScores:
    """(N, 4) F1 of ROUGE-1, -2, -L and -Lsum; `decides` is the one that counts."""

    scores: np.ndarray
    decides: str = "ROUGE-L"

    @classmethod
    def of(cls, guesses: Sequence[str], references: Sequence[str], decides: str = "ROUGE-L") -> RougeScores:
        """One reference a text."""
        scores = [rouge(g, r) for g, r in zip(guesses, references, strict=True)]
        return cls(np.array(scores).reshape(-1, len(FIGURES)), decides)

    def __len__(self) -> int:
        return len(self.scores)

    def value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) the weighted mean of the figure that decides."""
        weights = np.ones((1, len(self))) if weights is None else weights
        return weights @ self.scores[:, FIGURES.index(self.decides)] / np.maximum(weights.sum(1), 1)

    def figures(self, classes: Sequence[str] = ()) -> dict[str, float]:
        """All of them, the one that decides first."""
        found = dict(zip(FIGURES, self.scores.mean(0).tolist()))
        return {self.decides: found.pop(self.decides), **found}
