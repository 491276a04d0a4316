"""Ridge regression along a path of strengths, and its strength chosen inside a few-label draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg


def ridge(x: np.ndarray, y: np.ndarray, grid: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(len(grid), D) weights and (len(grid),) intercepts: min |y - x w - b|^2 + |w|^2 / C for every C of the grid.

    The smaller of the two Gram matrices, in float64, and one Cholesky factor a strength.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    mean_x, mean_y = x.mean(0), y.mean()
    x, y = x - mean_x, y - mean_y
    wide = len(x) <= x.shape[1]
    gram, right = (x @ x.T, y) if wide else (x.T @ x, x.T @ y)
    solved = [linalg.cho_solve(linalg.cho_factor(gram + np.eye(len(gram)) / c), right) for c in grid]
    weight = np.stack(solved) @ x if wide else np.stack(solved)
    return weight, mean_y - weight @ mean_x


def choose_ridge(x: np.ndarray, y: np.ndarray, fold: np.ndarray, grid: Sequence[float], *, default: float) -> float:
    """The strength of the least squared error over held-out folds; `default` where there is one fold."""
    if not fold.any():
        return default
    losses = np.zeros(len(grid))
    for f in range(int(fold.max()) + 1):
        weight, intercept = ridge(x[fold != f], y[fold != f], grid)
        losses += ((x[fold == f] @ weight.T + intercept - y[fold == f][:, None]) ** 2).sum(0)
    return grid[int(np.argmin(losses))]
