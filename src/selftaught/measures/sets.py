"""One logistic regression for each of K classes at once: the linear read-out where a row may have several.  NumPy in and out.

The strength is one for all classes, chosen by the binary cross-entropy of held-out rows, summed over classes.  The solver is that of
logistic.py.  Legend: P sets of rows, F weightings of them (folds), N rows, R width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import random
from .linear import ALONE, GRID, Linear, Scale, folds
from .logistic import Problems, outputs, principal, solve, with_ridge

_PATH, _FINAL = 1e-3, 1e-4
_ROOM = 2e7
"""Logits that are held at once."""


@dataclass
class Sigmoids(Problems):
    """C sum_i cross-entropy_i + |W|^2 / 2 for each class: y (P, N, K) in {0, 1}, weight (P, F, N) >= 0.

    A class of which a weighting has only positives or only negatives would send its intercept to infinity: it is given the rate
    (n + 1/2) / (N + 1) whatever the input.
    """

    positive: Tensor | None = None
    """(K,) what a positive counts for; None: 1."""

    def __post_init__(self):
        self.y = self.y.to(self.x.dtype)
        self.total = self.weight.sum(2).clamp_min(1e-12)
        had = self.weight @ self.y  # (P, F, K)
        self.fixed = ((had == 0) | (had == self.total[..., None]))[:, :, None]
        rate = (had + 0.5) / (self.total[..., None] + 1)
        self.constant = torch.logit(rate)[:, :, None]
        self.gain = torch.ones(self.classes, dtype=self.x.dtype) if self.positive is None else self.positive.to(self.x)

    def logits(self, theta: Tensor) -> Tensor:
        """(P, F, N, K) of theta (P, F, R + 1, K)."""
        return torch.where(self.fixed, self.constant, outputs(self.x, theta))

    def losses(self, theta: Tensor) -> Tensor:
        """(P, F, N) cross-entropy of each row, summed over classes."""
        out, y = self.logits(theta), self.y[:, None]
        return (F.softplus(-out) * y * self.gain + F.softplus(out) * (1 - y)).sum(3)

    def value_and_gradient(self, theta: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
        """(P, F) and theta's shape: weighted mean of `losses` + ridge |W|^2 / 2, ridge = 1 / (C sum of weights)."""
        share = self.weight / self.total[..., None]
        out, y = self.logits(theta), self.y[:, None]
        value = (share * (F.softplus(-out) * y * self.gain + F.softplus(out) * (1 - y)).sum(3)).sum(2)
        chance = torch.sigmoid(out)
        residual = (chance * (1 - y) - (1 - chance) * y * self.gain) * share[..., None]
        residual = residual.masked_fill(self.fixed, 0.0)
        return with_ridge(self.x, theta, value, residual, ridge)

    def bound(self, ridge: Tensor) -> Tensor:
        """(P, F, R + 1, K): a bound of the Hessian's diagonal."""
        share = self.weight / self.total[..., None]
        curvature = (share @ self.x.square() / 4)[..., None] * self.gain + ridge[..., None, None]
        last = torch.full_like(curvature[:, :, :1], 0.25) * self.gain
        return torch.cat([curvature, last], 2)

    def settled(self, theta: Tensor) -> Tensor:
        """theta with the intercepts of classes that were not fitted."""
        last = torch.where(self.fixed, self.constant, theta[:, :, -1:])
        return torch.cat([theta[:, :, :-1].masked_fill(self.fixed, 0.0), last], 2)


def _positive(weights: Sequence[float]) -> Tensor | None:
    return torch.tensor(weights) if len(weights) else None


def fit_sets(
    features: np.ndarray, targets: np.ndarray, held: np.ndarray, held_targets: np.ndarray, *, scale: Scale | None = None,
    weights: Sequence[float] = (), grid: Sequence[float] = GRID, refit: bool = True,
) -> Linear:  # fmt: skip
    """A read-out of `features` (N, D) for targets (N, K) of 0 and 1, its strength chosen on `held`, then (`refit`) fitted on both.

    `weights` (K,): what positives count for.  Cost: a path over the grid, each fit starting from the last.
    """
    scale = scale or Scale.of(features)
    x, h = scale(features), scale(held)
    rows, back = principal(torch.from_numpy(x)[None])
    problems = _problems(rows, targets[None], np.ones((1, 1, len(x)), np.float32), weights)
    fresh = _problems(
        torch.from_numpy(h)[None] @ back, held_targets[None], np.ones((1, 1, len(h)), np.float32), weights
    )
    fresh.fixed, fresh.constant = problems.fixed, problems.constant
    theta, losses, outputs, found = None, [], [], []
    for strength in grid:
        theta = solve(problems, torch.full((1, 1), strength), theta, tolerance=_PATH)
        losses.append(float(fresh.losses(theta).sum()))
        outputs.append(fresh.logits(theta)[0, 0].double().numpy())
        found.append((back.double() @ problems.settled(theta)[:, 0, :-1].double(), problems.settled(theta)[:, 0, -1]))
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break
    best = int(np.argmin(losses))
    if refit:
        both, everything = np.concatenate([x, h])[None], np.concatenate([targets, held_targets])[None]
        ((weight, intercept),) = _solved(both, everything, np.array([grid[best]]), weights)
    else:
        weight, intercept = found[best][0][0].numpy(), found[best][1][0].double().numpy()
    return Linear.folded(weight, intercept, grid[best], scale, outputs[best])


def fit_sets_draws(
    features: np.ndarray, targets: np.ndarray, draws: Sequence[np.ndarray], *, scale: Scale, key: int,
    groups: np.ndarray | None = None, weights: Sequence[float] = (), grid: Sequence[float] = GRID,
) -> list[Linear]:  # fmt: skip
    """One read-out a draw of rows; the strength by cross-validation inside the draw, `groups` (N,) kept together."""
    size, classes = len(draws[0]), targets.shape[1]
    chunk = max(1, int(_ROOM // (5 * size * classes)))
    fitted: list[Linear] = []
    for start in range(0, len(draws), chunk):
        some = draws[start : start + chunk]
        x, y = np.stack([scale(features[d]) for d in some]), np.stack([targets[d] for d in some])
        zeros = np.zeros(size, np.int64)
        fold = np.stack(
            [
                folds(zeros, random.key(key, start + i), None if groups is None else groups[d])
                for i, d in enumerate(some)
            ]
        )
        strengths = _chosen(x, y, fold, weights, grid)
        pairs = _solved(x, y, strengths, weights)
        fitted += [Linear.folded(*pair, float(c), scale) for pair, c in zip(pairs, strengths, strict=True)]
    return fitted


def _problems(rows: Tensor, y: np.ndarray, weight: np.ndarray, weights: Sequence[float]) -> Sigmoids:
    truth = torch.from_numpy(np.ascontiguousarray(y == 1))
    return Sigmoids(rows, truth, torch.from_numpy(weight), truth.shape[2], _positive(weights))


def _chosen(
    x: np.ndarray, y: np.ndarray, fold: np.ndarray, weights: Sequence[float], grid: Sequence[float]
) -> np.ndarray:
    """(P,) strengths by cross-validation; ALONE where there is one fold."""
    count = int(fold.max()) + 1
    if count < 2:
        return np.full(len(x), ALONE)
    rows, _ = principal(torch.from_numpy(x))
    held = fold[:, None] == np.arange(count)[:, None]  # (P, F, N)
    problems = _problems(rows, y, (~held).astype(np.float32), weights)
    theta, losses = None, []
    for strength in grid:
        theta = solve(problems, torch.full(held.shape[:2], strength), theta, tolerance=_PATH)
        losses.append((problems.losses(theta).numpy() * held).sum((1, 2)))
        if len(losses) > 2 and ((losses[-1] > losses[-2]) & (losses[-2] > losses[-3])).all():
            break
    return np.asarray(grid)[np.argmin(losses, axis=0)]


def _solved(
    x: np.ndarray, y: np.ndarray, strength: np.ndarray, weights: Sequence[float]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(D, K) and (K,) of each of P sets of rows x (P, n, D)."""
    rows, back = principal(torch.from_numpy(x))
    problems = _problems(rows, y, np.ones((len(x), 1, x.shape[1]), np.float32), weights)
    theta = problems.settled(solve(problems, torch.from_numpy(np.asarray(strength, np.float32))[:, None], tolerance=_FINAL))[:, 0].double()  # fmt: skip
    whole = back.double() @ theta[:, :-1]
    return [(whole[p].numpy(), theta[p, -1].numpy()) for p in range(len(x))]
