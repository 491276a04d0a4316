"""Correlations of two lists of numbers, also of resampled ones: by how often each item counts, so that nothing is sorted again."""

from __future__ import annotations

import numpy as np


def pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(R,) Pearson's correlation of `x` and `y`, each (N,) or (R, N), for `weights` (R, N): how often each item counts (default: once, R = 1).

    0 where either does not vary.  Sums in float64.
    """
    x, y = (np.atleast_2d(np.asarray(v, np.float64)) for v in (x, y))
    w = np.ones((1, x.shape[1])) if weights is None else np.asarray(weights, np.float64)
    total = np.maximum(w.sum(1, keepdims=True), 1e-300)
    dx, dy = (v - (w * v).sum(1, keepdims=True) / total for v in (x, y))
    both, of_x, of_y = ((w * product).sum(1) for product in (dx * dy, dx * dx, dy * dy))
    least = 1e-24 * np.maximum(1, (w * x * x).sum(1)) * np.maximum(1, (w * y * y).sum(1))
    flat = of_x * of_y <= least
    return np.where(flat, 0.0, both / np.sqrt(np.where(flat, 1.0, of_x * of_y)))


def spearman(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(R,) Spearman's rank correlation of `x` and `y` (N,); ties have their mean rank, the copies that `weights` (R, N) make of an item too.

    Cost: two sorts in all, and R N operations.
    """
    w = np.ones((1, len(x))) if weights is None else np.asarray(weights, np.float64)
    return pearson(_ranks(x, w), _ranks(y, w), w)


def _ranks(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R, N) the mean rank of each item among the items that count."""
    values, where = np.unique(np.asarray(x, np.float64), return_inverse=True)
    if len(values) == 1:
        return np.zeros_like(weights)
    order = np.argsort(where, kind="stable")
    starts = np.searchsorted(where[order], np.arange(len(values)))
    held = np.add.reduceat(weights[:, order], starts, axis=1)  # (R, distinct values) how many items hold each
    middle = held.cumsum(1) - held + (held + 1) / 2
    return middle[:, where]
