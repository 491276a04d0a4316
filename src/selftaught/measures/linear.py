"""The linear read-out of features: standardised, its strength chosen on rows it was not fitted on.  NumPy in and out.

Strength is scikit-learn's C: larger regularises less (ridge: alpha = 1 / C).  It is chosen by the mean loss on held-out rows
(cross-entropy, squared error), which with few rows is steadier than a count of hits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from ..core import random
from .logistic import choose_together, solve_together
from .ridge import choose_ridge, ridge
from .softmax import Softmax
from .span import span

GRID = tuple(10.0**k for k in range(-5, 3))
ALONE = 1e-2
"""The strength where a draw has one row a class, so that there is nothing to choose it on."""
SMALL = 150
"""Draws of up to so many rows are solved together: above, one by one is as fast (benchmarks/probe_speed.py)."""
_PATH, _FINAL = 1e-3, 1e-4  # largest entry of the gradient while choosing and at the end, of draws solved together
_STEP_PATH, _STEP_FINAL = 1e-5, 1e-6  # what a further step would gain, in nats, of problems solved alone
_BLOCK = 4096


@dataclass(frozen=True)
class Scale:
    """Standardisation: (x - mean) * inverse; dimensions that do not vary have inverse 0."""

    mean: np.ndarray
    inverse: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Scale:
        """From the features (N, D) of rows whose labels are not needed."""
        x = np.asarray(features, dtype=np.float64)
        deviation, size = x.std(0), np.sqrt((x**2).mean())
        alive = deviation > 1e-6 * size
        return cls(x.mean(0), np.where(alive, 1 / np.where(alive, deviation, 1.0), 0.0))

    def __call__(self, *features: np.ndarray) -> np.ndarray:
        """(N, D) float32 of arrays one under the other, in Fortran order: products with all rows run along memory."""
        out = np.empty((len(self.mean), sum(map(len, features))), dtype=np.float32).T
        place = 0
        for rows in features:
            for start in range(0, len(rows), _BLOCK):
                some = rows[start : start + _BLOCK]
                out[place : place + len(some)] = (some - self.mean) * self.inverse
                place += len(some)
        return out


@dataclass(frozen=True)
class Linear:
    """outputs = features @ weight + intercept on features as they come: the standardisation is folded in."""

    weight: np.ndarray  # (D, K)
    intercept: np.ndarray  # (K,)
    strength: float
    held: np.ndarray | None = None
    """(M, K) outputs on the held rows before they were fitted too: for validation scores and calibration."""

    def outputs(self, features: np.ndarray) -> np.ndarray:
        """(N, K) float64: logits, or one number."""
        return np.asarray(features, dtype=np.float64) @ self.weight + self.intercept

    @classmethod
    def folded(cls, weight: np.ndarray, intercept: np.ndarray, strength: float, scale: Scale, held=None) -> Linear:
        weight = scale.inverse[:, None] * weight
        return cls(weight, intercept - scale.mean @ weight, strength, held)


def fit(
    features: np.ndarray, targets: np.ndarray, held: np.ndarray, held_targets: np.ndarray, *,
    classes: int | None, scale: Scale | None = None, grid: Sequence[float] = GRID, refit: bool = True,
) -> Linear:  # fmt: skip
    """A read-out of `features` (N, D), its strength chosen on `held` (M, D), then (`refit`) fitted again on both.

    `classes`: number of classes (targets int64), or None for ridge regression (targets float).  `scale` defaults to that of
    `features`.  Cost: a path over the grid, from strong to weak, each fit starting from the last.
    """
    scale = scale or Scale.of(features)
    rows, back = span(scale(features, held))  # one rotation of all rows, which changes no product
    x, h = rows[: len(features)], rows[len(features) :]
    if refit:
        everything = np.concatenate([targets, held_targets])
    else:
        rows, everything = x, targets
    if classes is None:
        weight, intercept = ridge(x, targets, grid)
        guesses = (h @ weight.T + intercept).T  # (grid, M)
        best = int(np.argmin([((g - held_targets) ** 2).mean() for g in guesses]))
        weight, intercept = ridge(rows, everything, [grid[best]])
        return Linear.folded(back(weight.T), intercept[:1], grid[best], scale, guesses[best][:, None])
    best, (outputs,) = _path([_Held(x, targets, h, held_targets, classes)], grid)
    weight, intercept = Softmax(rows, everything, classes).at(grid[best], _STEP_FINAL)
    return Linear.folded(back(weight), intercept, grid[best], scale, outputs)


class _Held:
    """One problem whose fits are judged on held rows: strengths come in rising order, each fit starts from the last."""

    def __init__(self, x: np.ndarray, y: np.ndarray, held: np.ndarray, held_y: np.ndarray, classes: int):
        self.problem, self.fresh = Softmax(x, y, classes), held
        self.known = np.isin(held_y, self.problem.present)  # rows of a class that has no training row say nothing
        self.wanted = held_y[self.known]

    def at(self, strength: float) -> tuple[float, np.ndarray]:
        """Held-out cross-entropy, summed, and outputs (M, K)."""
        weight, intercept = self.problem.at(strength, _STEP_PATH)
        outputs = self.fresh @ weight + intercept
        logs = log_softmax(outputs[self.known], axis=1)
        return float(-logs[np.arange(len(self.wanted)), self.wanted].sum()), outputs


def _path(problems: Sequence[_Held], grid: Sequence[float]) -> tuple[int, list[np.ndarray]]:
    """Place in the grid of the least loss over all problems together, and their outputs there; a loss that has risen twice ends it."""
    losses: list[float] = []
    outputs: list[list[np.ndarray]] = []
    for strength in grid:
        found = [problem.at(strength) for problem in problems]
        losses.append(sum(loss for loss, _ in found))
        outputs.append([out for _, out in found])
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break
    best = int(np.argmin(losses))
    return best, outputs[best]


def fit_draws(
    features: np.ndarray, targets: np.ndarray, draws: Sequence[np.ndarray], *, classes: int | None,
    scale: Scale, key: int, groups: np.ndarray | None = None, grid: Sequence[float] = GRID,
) -> list[Linear]:  # fmt: skip
    """One read-out a few-label draw: `draws` are equally long arrays of rows of `features` (N, D).

    The strength is chosen by cross-validation inside the draw (folds keep classes in proportion, and `groups` (N,) together).
    Draws of up to `SMALL` rows are solved together, larger ones one by one.
    """
    size = len(draws[0])
    chunk = max(1, int(2e5 // (size * min(size, features.shape[1])))) if classes is not None and size <= SMALL else 1
    fitted: list[Linear] = []
    for start in range(0, len(draws), chunk):
        some = draws[start : start + chunk]
        x, y = np.stack([scale(features[d]) for d in some]), np.stack([targets[d] for d in some])
        strata = np.zeros_like(y, dtype=np.int64) if classes is None else y
        fold = np.stack(
            [folds(t, random.key(key, start + i), _of(groups, d)) for i, (t, d) in enumerate(zip(strata, some))]
        )
        fitted += [Linear.folded(*found, scale) for found in _fit_some(x, y, fold, classes, grid)]
    return fitted


def _fit_some(x, y, fold, classes: int | None, grid) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Weight (D, K), intercept (K,) and strength of each of P draws: x (P, n, D), y and fold (P, n)."""
    if classes is None:
        for draw, values, f in zip(x, y, fold, strict=True):
            rows, back = span(draw)
            strength = choose_ridge(rows, values, f, grid, default=ALONE)
            weight, intercept = ridge(rows, values, [strength])
            yield back(weight.T), intercept[:1], strength
    elif x.shape[1] <= SMALL:
        strengths = choose_together(x, y, fold, classes, grid, default=ALONE, tolerance=_PATH)
        weights, intercepts = solve_together(x, y, strengths, classes, tolerance=_FINAL)
        yield from zip(weights, intercepts, map(float, strengths), strict=True)
    else:
        for draw, labels, f in zip(x, y, fold, strict=True):
            rows, back = span(draw)
            strength = _choose(rows, labels, f, classes, grid)
            weight, intercept = Softmax(rows, labels, classes).at(strength, _STEP_FINAL)
            yield back(weight), intercept, strength


def _choose(x: np.ndarray, y: np.ndarray, fold: np.ndarray, classes: int, grid: Sequence[float]) -> float:
    """The strength of one draw, by the held-out loss summed over folds."""
    count = int(fold.max()) + 1
    if count < 2:
        return ALONE
    problems = [_Held(x[fold != f], y[fold != f], x[fold == f], y[fold == f], classes) for f in range(count)]
    return grid[_path(problems, grid)[0]]


def _of(groups: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if groups is None else groups[rows]


def folds(strata: np.ndarray, key: int, groups: np.ndarray | None = None) -> np.ndarray:
    """(n,) fold of each row: strata (classes) dealt out in turn after a shuffle, or whole groups where there are some.

    Five folds up to 100 rows, three above; as many as there are rows where there are fewer; 0 for all where no stratum has two.
    """
    count = 5 if len(strata) <= 100 else 3
    units, where = np.unique(strata if groups is None else groups, return_inverse=True)
    order = random.permutation(key, len(strata)).numpy()
    fold = np.zeros(len(strata), dtype=np.int64)
    if groups is not None:
        deal = random.permutation(random.key(key, "groups"), len(units)).numpy() % min(count, len(units))
        return deal[where]
    most = int(np.bincount(where).max())
    for unit in range(len(units)):
        rows = order[where[order] == unit]
        fold[rows] = np.arange(len(rows)) % min(count, most)
    return fold
