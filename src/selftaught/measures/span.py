"""Rows in the coordinates of their span: with fewer rows than dimensions, a penalised fit is the same there, and far smaller."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import linalg

_COLUMNS = 8192  # summed in float32, then added up in float64


def span(x: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Rows (n, r) of x (n, D), and what takes weights (r, K) of a fit of theirs back to (D, K): r = min(n, D).

    x = L Q with Q an orthonormal basis of the rows' span and L the Cholesky factor of x x^T: an exact rotation, which a penalty
    of |W|^2 does not see.  Where rows depend on one another (copies), each gets a private dimension of the size of rounding.
    Cost: n^2 D + n^3 / 3 operations, 8 n^2 bytes; nothing where n > D.
    """
    n, dimensions = x.shape
    if n > dimensions:
        return x, lambda weight: weight
    gram = np.zeros((n, n))
    for start in range(0, dimensions, _COLUMNS):
        some = x[:, start : start + _COLUMNS]
        gram += some @ some.T
    level = float(np.trace(gram)) / n or 1.0
    extra = 1e-6 * level
    while True:
        try:
            lower = linalg.cholesky(gram + extra * np.eye(n), lower=True)
            break
        except linalg.LinAlgError:  # rounding has made it indefinite
            extra *= 10

    def back(weight: np.ndarray) -> np.ndarray:
        dual = linalg.solve_triangular(lower, weight, lower=True, trans="T")
        return x.T @ dual.astype(x.dtype)

    return lower.astype(np.float32), back
