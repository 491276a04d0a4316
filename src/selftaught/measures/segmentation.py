"""Intersection over union of labelled pixels, counted picture by picture, so that pictures can be resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IGNORED = 255
"""The value of a pixel that counts neither way."""


def confusion(guess: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) int64: pixels by true class (row) and guessed class (column); pixels whose truth is IGNORED are left out.

    Raises ValueError where shapes differ or a value is no class.
    """
    if guess.shape != truth.shape:
        raise ValueError(f"a guess of {guess.shape} for a mask of {truth.shape}")
    known = truth != IGNORED
    true, said = truth[known].astype(np.int64), guess[known].astype(np.int64)
    if len(true) and (max(true.max(), said.max()) >= classes or min(true.min(), said.min()) < 0):
        raise ValueError(f"a mask holds a value that is none of {classes} classes")
    return np.bincount(true * classes + said, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class Overlaps:
    """Pixels of N pictures and K classes: rightly labelled, true, and said; each (N, K) int64."""

    hits: np.ndarray
    truth: np.ndarray
    said: np.ndarray

    @classmethod
    def of(cls, matrices: Sequence[np.ndarray]) -> Overlaps:
        """From one confusion matrix a picture."""
        stacked = np.stack(matrices)
        return cls(np.diagonal(stacked, axis1=1, axis2=2).copy(), stacked.sum(2), stacked.sum(1))

    def __len__(self) -> int:
        return len(self.hits)

    def ratios(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R, K) intersection over union; NaN for a class that no counted picture holds.  `weights` (R, N): how often each counts."""
        weights = np.ones((1, len(self))) if weights is None else weights
        hits, truth, said = (weights @ part for part in (self.hits, self.truth, self.said))
        return np.where(truth > 0, hits / np.maximum(truth + said - hits, 1), np.nan)

    def value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) mIoU: the mean over the classes that are there; 0 where there are none."""
        found = self.ratios(weights)
        known = ~np.isnan(found)
        return np.where(known, found, 0).sum(1) / np.maximum(known.sum(1), 1)

    def figures(self, classes: Sequence[str]) -> dict[str, float]:
        """mIoU, the share of pixels that are right, and each class's IoU (absent classes are left out)."""
        found = self.ratios()[0]
        named = {f"IoU {classes[k]}": float(found[k]) for k in np.flatnonzero(~np.isnan(found)).tolist()}
        right = float(self.hits.sum() / max(1, self.truth.sum()))
        return {"mIoU": float(self.value()[0]), "pixel accuracy": right, **named}
