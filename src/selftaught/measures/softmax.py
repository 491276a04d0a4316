"""One multinomial logistic regression at many strengths: the solver of the linear probe where there are many rows.

The objective is that of logistic.py, which solves many small problems at once, and of scikit-learn (two classes have the symmetric
softmax here too).  Features of photographs are so unevenly spread that limited-memory BFGS as it stands needs hundreds of passes
over the rows; preconditioned by the curvature of the rows it needs ten or twenty (benchmarks/probe_speed.py).

Legend: N rows, R width, K classes; theta (K, R + 1) holds a class a row, its intercept last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..core import random

ABSENT = -1e4
"""Intercept of a class without rows: it is never predicted."""
HISTORY = 10
WIDE = 8192  # above this width the curvature of each number alone is used: a matrix would cost more than it saves
SAMPLE = 8192  # rows that the curvature is taken from: it steers the way, not the end
STEPS = 500


@contextmanager
def threads_for(work: int) -> Iterator[None]:
    """One thread below a million multiply-adds a step: there, waking others costs more than they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if work < 1 << 20 else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Softmax:
    """C sum_i cross-entropy_i + |W|^2 / 2 over rows (N, R) float32 and labels (N,) in [0, classes); each fit starts from the last.

    Rows in Fortran order are taken as they lie, others are copied.  ValueError where features are not finite.
    """

    def __init__(self, rows: np.ndarray, labels: np.ndarray, classes: int):
        self.classes, (self.present, codes) = classes, np.unique(labels, return_inverse=True)
        columns = torch.from_numpy(rows.T)
        if not torch.isfinite(columns).all():
            raise ValueError("features that are not finite cannot be fitted")
        # (R, N): products run along rows of memory
        self.columns = columns if columns.stride(1) == 1 else columns.contiguous()
        self.codes, self.places = torch.from_numpy(codes.astype(np.int64)), torch.arange(len(rows))
        self.theta = self.columns.new_zeros((len(self.present), len(self.columns) + 1))
        self.gram = None if len(self.present) == 1 else _gram(self.columns)
        if self.gram is not None and not np.isfinite(self.gram).all():
            raise ValueError("features whose squares are not finite cannot be fitted")

    def at(self, strength: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """Weight (R, K) and intercept (K,) float64 at C = `strength`: stops where a further step promises to lower the mean
        objective by less than `tolerance`.

        Cost: 4 N R K operations a step, some ten steps; at first 2 min(N, 8192) R^2 for the curvature, and R^3 / 3 a strength.
        """
        weight, intercept = np.zeros((len(self.columns), self.classes)), np.full(self.classes, ABSENT)
        with torch.no_grad(), threads_for(self.columns.numel() * len(self.present)):
            if len(self.present) > 1:
                self._descend(1 / (strength * len(self.places)), tolerance)
        found = self.theta.double().numpy()
        weight[:, self.present], intercept[self.present] = found[:, :-1].T, found[:, -1] - found[:, -1].mean()
        return weight, intercept

    def _logits(self, theta: Tensor) -> Tensor:
        return torch.addmm(theta[:, -1:], theta[:, :-1], self.columns)

    def _value_and_gradient(self, theta: Tensor, ridge: float) -> tuple[float, Tensor]:
        """The mean cross-entropy + ridge |W|^2 / 2, summed in float64, and its gradient."""
        logits = self._logits(theta)
        logits -= logits.amax(0)
        right = logits[self.codes, self.places].double().mean()
        share = logits.exp_()
        total = share.sum(0)
        value = total.log().double().mean() - right + ridge * theta[:, :-1].double().square().sum() / 2
        share /= total
        share[self.codes, self.places] -= 1
        share /= len(self.places)
        slope = torch.addmm(theta[:, :-1], share, self.columns.T, beta=ridge)
        return float(value), torch.cat([slope, share.sum(1, keepdim=True)], 1)

    def _curvature(self) -> float:
        """How much a row bends the objective in the mean: 1 / K where all classes are as likely, less the surer it is."""
        share = torch.softmax(self._logits(self.theta), 0)
        return max(float((share * (1 - share)).sum(0).mean()) / max(1, len(share) - 1), 1e-3)

    def _descend(self, ridge: float, tolerance: float) -> None:
        """Limited-memory BFGS with backtracking (Nocedal & Wright, algorithm 7.4), preconditioned."""
        assert self.gram is not None
        inverse = _Inverse(self.gram, self._curvature(), ridge)
        theta, pairs = self.theta, _Pairs(inverse)
        value, gradient = self._value_and_gradient(theta, ridge)
        rounding = 1e-6 * abs(value)
        for _ in range(STEPS):
            direction = pairs.direction(gradient)
            slope = float((gradient * direction).sum())
            if slope > -tolerance:
                break
            length = 1.0
            for _ in range(15):
                trial = theta + length * direction
                new_value, new_gradient = self._value_and_gradient(trial, ridge)
                # Near the optimum rounding hides the descent of the value: a flatter slope will do (Hager & Zhang 2005).
                flatter = abs(float((new_gradient * direction).sum())) <= 0.9 * abs(slope)
                if new_value <= value + 1e-4 * length * slope or (new_value <= value + rounding and flatter):
                    break
                length /= 2
            else:
                break  # no descent left at this precision
            pairs.add(trial - theta, new_gradient - gradient)
            theta, value, gradient = trial, new_value, new_gradient
        self.theta = theta


def _gram(columns: Tensor) -> np.ndarray:
    """(R, R) mean of products of features, of up to `SAMPLE` rows; (R,) mean squares where R is above `WIDE`."""
    width, rows = columns.shape
    some = columns.numpy()
    if rows > SAMPLE:
        some = np.ascontiguousarray(
            some[:, np.sort(random.permutation(random.key("curvature"), rows).numpy()[:SAMPLE])]
        )
    if width > WIDE:
        return np.einsum("rn,rn->r", some, some) / some.shape[1]
    return (some @ some.T) / some.shape[1]


class _Inverse:
    """The inverse of curvature x gram + ridge, by which gradients become steps; intercepts see the curvature alone."""

    def __init__(self, gram: np.ndarray, curvature: float, ridge: float):
        bend = torch.from_numpy(gram) * curvature
        self.intercept = 1 / curvature
        if bend.ndim == 1:
            self.factor = None
            self.diagonal = 1 / (bend + ridge)
            return
        extra = 1e-7 * float(bend.diagonal().mean())
        for _ in range(8):  # float32 knows a matrix to about this share; what is below it must not be negative
            self.factor, info = torch.linalg.cholesky_ex(bend + (ridge + extra) * torch.eye(len(bend)))
            if not info:
                return
            extra *= 10
        raise ValueError("features that are so large or so unlike in size cannot be fitted: standardise them")

    def __call__(self, gradient: Tensor) -> Tensor:
        slope = gradient[:, :-1]
        step = slope * self.diagonal if self.factor is None else torch.cholesky_solve(slope.T, self.factor).T
        return torch.cat([step, gradient[:, -1:] * self.intercept], 1)


class _Pairs:
    """The pairs (step, change of gradient) of limited-memory BFGS, and the direction they give."""

    def __init__(self, inverse: _Inverse):
        self.inverse, self.scale = inverse, 1.0
        self.pairs: list[tuple[Tensor, Tensor, float]] = []

    def add(self, step: Tensor, change: Tensor) -> None:
        curvature = float((step * change).sum())
        if curvature > 1e-30:
            self.pairs = [*self.pairs[1 - HISTORY :], (step, change, 1 / curvature)]
            self.scale = curvature / max(float((change * self.inverse(change)).sum()), 1e-30)

    def direction(self, gradient: Tensor) -> Tensor:
        q, alphas = gradient.clone(), []
        for step, change, rho in reversed(self.pairs):
            alpha = rho * (step * q).sum()
            q -= alpha * change
            alphas.append(alpha)
        q = self.inverse(q) * self.scale
        for (step, change, rho), alpha in zip(self.pairs, reversed(alphas), strict=True):
            q += (alpha - rho * (change * q).sum()) * step
        return -q
