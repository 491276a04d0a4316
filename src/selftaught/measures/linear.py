"""The linear read-out of features: standardised, its strength chosen on rows it was not fitted on.  NumPy in and out.

Strength is scikit-learn's C: larger regularises less (ridge: alpha = 1 / C).  It is chosen by the mean loss on held-out rows
(cross-entropy, squared error), which with few rows is steadier than a count of hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core import random
from .logistic import Problems, solve

GRID = tuple(10.0**k for k in range(-5, 3))
ALONE = 1e-2
"""The strength where a draw has one row a class, so that there is nothing to choose it on."""
_ROTATED = 1024  # widths up to here are turned into principal axes, where the solver's preconditioner is exact
_PATH, _FINAL = 1e-3, 1e-4  # tolerances while choosing and at the end (scikit-learn's default)


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

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return ((features - self.mean) * self.inverse).astype(np.float32)


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
    classes: int | None, scale: Scale | None = None, grid: Sequence[float] = GRID,
) -> Linear:  # fmt: skip
    """A read-out of `features` (N, D), its strength chosen on `held` (M, D), then fitted again on both.

    `classes`: number of classes (targets int64), or None for ridge regression (targets float).  `scale` defaults to that of
    `features`.  Cost: a path over the grid, from strong to weak, each fit starting from the last.
    """
    scale = scale or Scale.of(features)
    x, h = scale(features), scale(held)
    losses, outputs = _path(x, targets, h, held_targets, classes, grid)
    best = int(np.argmin(losses))
    strength, chosen = grid[best], outputs[best]
    both, targets = np.concatenate([x, h]), np.concatenate([targets, held_targets])
    if classes is None:
        weight, intercept = ridge(both, targets, [strength])
        return Linear.folded(weight[0][:, None], intercept[:1], strength, scale, chosen)
    weights, intercepts = _solve_at(both[None], targets[None], np.array([strength]), classes)
    return Linear.folded(weights[0], intercepts[0], strength, scale, chosen)


def _path(x, y, held, held_y, classes: int | None, grid: Sequence[float]) -> tuple[list[float], list[np.ndarray]]:
    """Held-out loss and outputs (M, K) along the grid."""
    if classes is None:
        weight, intercept = ridge(x, y, grid)
        outputs = list((held @ weight.T + intercept).T[:, :, None])
        return [float(((o[:, 0] - held_y) ** 2).mean()) for o in outputs], outputs
    rows, back = _basis(torch.from_numpy(x)[None])
    problems = Problems(rows, torch.from_numpy(y)[None].long(), torch.ones(1, 1, len(x)), classes)
    known = ~problems.absent[0, 0, 0].numpy()[held_y]  # rows of a class that has no training row say nothing
    fresh, fresh_y = torch.from_numpy(held) @ back[0], torch.from_numpy(held_y).long()
    theta, losses, outputs = None, [], []
    for strength in grid:
        theta = solve(problems, torch.full((1, 1), strength), theta, tolerance=_PATH)
        logits = (fresh @ theta[0, 0, :-1] + theta[0, 0, -1]).masked_fill(problems.absent[0, 0], -1e4)
        losses.append(float(torch.nn.functional.cross_entropy(logits[known], fresh_y[known], reduction="sum")))
        outputs.append(logits.numpy())
        if _risen(losses):
            break
    return losses, outputs


def _risen(losses: list[float]) -> bool:
    """Twice in a row above the one before: along the path the held-out loss falls, then rises."""
    return len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]


def fit_draws(
    features: np.ndarray, targets: np.ndarray, draws: Sequence[np.ndarray], *, classes: int | None,
    scale: Scale, key: int, groups: np.ndarray | None = None, grid: Sequence[float] = GRID,
) -> list[Linear]:  # fmt: skip
    """One read-out a few-label draw: `draws` are equally long arrays of rows of `features` (N, D).

    The strength is chosen by cross-validation inside the draw (folds keep classes in proportion, and `groups` (N,) together).
    Draws of equal size are solved together.
    """
    if classes is None:
        return [_draw_numbers(scale(features[d]), targets[d], scale, random.key(key, i), _of(groups, d), grid) for i, d in enumerate(draws)]  # fmt: skip
    size = len(draws[0])
    chunk = max(1, int(2e5 // (size * min(size, features.shape[1]))))
    fitted: list[Linear] = []
    for start in range(0, len(draws), chunk):
        some = draws[start : start + chunk]
        x, y = np.stack([scale(features[d]) for d in some]), np.stack([targets[d] for d in some])
        fold = np.stack([folds(t, random.key(key, start + i), _of(groups, d)) for i, (t, d) in enumerate(zip(y, some))])
        strength = _choose(x, y, fold, classes, grid)
        weights, intercepts = _solve_at(x, y, strength, classes)
        fitted += [Linear.folded(w, b, float(c), scale) for w, b, c in zip(weights, intercepts, strength, strict=True)]
    return fitted


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


def _choose(x: np.ndarray, y: np.ndarray, fold: np.ndarray, classes: int, grid: Sequence[float]) -> np.ndarray:
    """(P,) the strength of each draw by cross-validation.  x (P, n, D), y and fold (P, n)."""
    count = int(fold.max()) + 1
    if count < 2:
        return np.full(len(x), ALONE)
    rows, _ = _basis(torch.from_numpy(x))
    held = torch.from_numpy(fold)[:, None] == torch.arange(count)[:, None]
    problems = Problems(rows, torch.from_numpy(y).long(), (~held).float(), classes)
    # Rows whose class is in no other fold say nothing about the strength.
    target = problems.y[:, None, :, None].expand(*held.shape, 1)
    judged = held & ~problems.absent.expand(-1, -1, held.shape[2], -1).gather(3, target)[..., 0]
    theta, losses = None, []
    for strength in grid:
        theta = solve(problems, torch.full(held.shape[:2], strength), theta, tolerance=_PATH)
        log_p = torch.log_softmax(problems.logits(theta), -1).gather(3, target)[..., 0]
        losses.append(-(log_p * judged).sum((1, 2)).numpy())
        if len(losses) > 2 and ((losses[-1] > losses[-2]) & (losses[-2] > losses[-3])).all():
            break
    return np.asarray(grid)[np.argmin(losses, axis=0)]


def _solve_at(x: np.ndarray, y: np.ndarray, strength: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(P, D, K) and (P, K): fits of x (P, n, D) at one strength a problem."""
    rows, back = _basis(torch.from_numpy(x))
    problems = Problems(rows, torch.from_numpy(y).long(), torch.ones(len(x), 1, x.shape[1]), classes)
    theta = solve(problems, torch.from_numpy(strength)[:, None], tolerance=_FINAL)[:, 0].double()
    # A class without rows is predicted never: its intercept says so.
    intercept = theta[:, -1].masked_fill(problems.absent[:, 0, 0], -1e4)
    return (back.double() @ theta[:, :-1]).numpy(), intercept.numpy()


def _basis(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (P, n, r) in their principal axes and the way back (P, D, r): the penalised problem is the same there.

    With fewer rows than dimensions r = n, which is all the space that a penalised fit can use.
    """
    p, n, d = x.shape
    if n <= d:
        values, vectors = torch.linalg.eigh((x @ x.transpose(1, 2)).double())
        root = values.clamp_min(0).sqrt()
        keep = values > 1e-6 * values[:, -1:]
        inverse = torch.where(keep, 1 / root.where(keep, torch.ones_like(root)), 0.0)
        rows = vectors * torch.where(keep, root, 0.0)[:, None]
        return rows.float(), (x.double().transpose(1, 2) @ vectors * inverse[:, None]).float()
    if d > _ROTATED:
        return x, torch.eye(d).expand(p, -1, -1)
    _, vectors = torch.linalg.eigh((x.transpose(1, 2) @ x).double())
    return x @ vectors.float(), vectors.float()


def ridge(x: np.ndarray, y: np.ndarray, grid: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(len(grid), D) weights and (len(grid),) intercepts: min |y - x w - b|^2 + |w|^2 / C for every C of the grid.

    One eigendecomposition of the smaller of the two Gram matrices, in float64.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    mean_x, mean_y = x.mean(0), y.mean()
    x, y = x - mean_x, y - mean_y
    alphas = 1 / np.asarray(grid, dtype=np.float64)
    if len(x) <= x.shape[1]:
        values, vectors = np.linalg.eigh(x @ x.T)
        weight = (vectors @ ((vectors.T @ y)[:, None] / (values.clip(0)[:, None] + alphas))).T @ x
    else:
        values, vectors = np.linalg.eigh(x.T @ x)
        weight = (vectors @ ((vectors.T @ (x.T @ y))[:, None] / (values.clip(0)[:, None] + alphas))).T
    return weight, mean_y - weight @ mean_x


def _draw_numbers(x, y, scale: Scale, key: int, groups, grid: Sequence[float]) -> Linear:
    fold = folds(np.zeros(len(y), dtype=np.int64), key, groups)
    losses = np.zeros(len(grid))
    for f in range(int(fold.max()) + 1 if fold.any() else 0):
        weight, intercept = ridge(x[fold != f], y[fold != f], grid)
        losses += ((x[fold == f] @ weight.T + intercept - y[fold == f][:, None]) ** 2).sum(0)
    strength = grid[int(np.argmin(losses))] if fold.any() else ALONE
    weight, intercept = ridge(x, y, [strength])
    return Linear.folded(weight[0][:, None], intercept[:1], strength, scale)
