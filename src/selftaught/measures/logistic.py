"""Multinomial logistic regression for many small problems at once: the solver of the linear probe.

scikit-learn solves one problem a call; a label curve asks for draws x folds x strengths of them, thousands in all, most of them
of a few dozen rows, where the call costs more than the work (benchmarks/probe_speed.py).  The objective is scikit-learn's,
C sum_i w_i cross-entropy_i + |W|^2 / 2 with an intercept that is not penalised (symmetric softmax for two classes too).

Legend: P problems that have their own rows, F weightings of the same rows (folds), N rows, R width, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .softmax import ABSENT, threads_for

HISTORY = 10
ROTATED = 1024  # widths up to here are turned into principal axes, where the preconditioner is exact


@dataclass
class Problems:
    """x (P, N, R), y (P, N) int64 in [0, K), weight (P, F, N) >= 0: F weighted problems over each of P sets of rows."""

    x: Tensor
    y: Tensor
    weight: Tensor
    classes: int

    def __post_init__(self):
        self.total = self.weight.sum(2).clamp_min(1e-12)  # (P, F)
        one_hot = torch.nn.functional.one_hot(self.y, self.classes).to(self.x.dtype)
        # A class that a weighting leaves without rows would send its intercept to minus infinity: it is masked.
        self.absent = (self.weight @ one_hot == 0)[:, :, None]  # (P, F, 1, K)

    def logits(self, theta: Tensor) -> Tensor:
        """(P, F, N, K) of theta (P, F, R + 1, K); absent classes at ABSENT."""
        return outputs(self.x, theta).masked_fill(self.absent, ABSENT)

    def value_and_gradient(self, theta: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
        """(P, F) and theta's shape: weighted mean cross-entropy + ridge |W|^2 / 2, ridge = 1 / (C sum of weights)."""
        log_p = torch.log_softmax(self.logits(theta), dim=-1)
        target = self.y[:, None, :, None].expand(*log_p.shape[:3], 1)
        share = self.weight / self.total[..., None]
        value = -(share * log_p.gather(3, target)[..., 0]).sum(2)
        residual = log_p.exp_()
        residual.scatter_add_(3, target, torch.full_like(residual[..., :1], -1.0))
        residual *= share[..., None]
        return with_ridge(self.x, theta, value, residual, ridge)

    def bound(self, ridge: Tensor) -> Tensor:
        """(P, F, R + 1, 1): the diagonal of Boehning's bound of the Hessian; exact in the rows' principal axes."""
        share = self.weight / self.total[..., None]
        curvature = share @ self.x.square() / 2 + ridge[..., None]
        return torch.cat([curvature, torch.full_like(curvature[..., :1], 0.5)], 2)[..., None]


def outputs(x: Tensor, theta: Tensor) -> Tensor:
    """(P, F, N, K): the rows x (P, N, R) times the weights of theta (P, F, R + 1, K), and its intercepts."""
    p, f, _, k = theta.shape
    flat = theta[:, :, :-1].permute(0, 2, 1, 3).reshape(p, -1, f * k)
    return torch.bmm(x, flat).view(p, -1, f, k).transpose(1, 2) + theta[:, :, -1:]


def with_ridge(x: Tensor, theta: Tensor, value: Tensor, residual: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
    """(P, F) and theta's shape: value + ridge |W|^2 / 2 and its gradient, residual (P, F, N, K) being that of the value by `outputs`."""
    p, f, n, k = residual.shape
    flat = residual.transpose(1, 2).reshape(p, n, f * k)
    slope = torch.bmm(x.transpose(1, 2), flat).view(p, -1, f, k).transpose(1, 2)
    weights = theta[:, :, :-1]
    gradient = torch.cat([slope + ridge[..., None, None] * weights, residual.sum(2, keepdim=True)], 2)
    return value + ridge * weights.square().sum((2, 3)) / 2, gradient


class _Memory:
    """The pairs of limited-memory BFGS for every problem, and the direction they give."""

    def __init__(self, bound: Tensor):
        self.bound = bound
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, step: Tensor, change: Tensor) -> None:
        curvature = _dot(step, change)
        rho = torch.where(curvature > 1e-30, 1 / curvature.clamp_min(1e-30), 0.0)
        self.pairs = [*self.pairs[1 - HISTORY :], (step, change, rho)]

    def direction(self, gradient: Tensor) -> Tensor:
        q, alphas = gradient.clone(), []
        for step, change, rho in reversed(self.pairs):
            alpha = rho * _dot(step, q)
            q -= alpha[..., None, None] * change
            alphas.append(alpha)
        q = q / self.bound
        if self.pairs:
            _, change, rho = self.pairs[-1]
            scale = _dot(change, change / self.bound) * rho
            q = torch.where(scale > 0, 1 / scale.clamp_min(1e-30), 1.0)[..., None, None] * q
        for (step, change, rho), alpha in zip(self.pairs, reversed(alphas), strict=True):
            q += (alpha - rho * _dot(change, q))[..., None, None] * step
        return -q


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3))


def solve(
    problems: Problems, strength: Tensor, start: Tensor | None = None, *, tolerance: float = 1e-5, steps: int = 500
) -> Tensor:
    """theta (P, F, R + 1, K), the last row the intercepts, at C = `strength` (P, F).

    Limited-memory BFGS, preconditioned by Boehning's bound, with backtracking for each problem.  Stops where the largest
    entry of the gradient of the mean objective is below `tolerance`, or where float rounding allows no further descent.
    Cost: 4 P F N R K operations a step.
    """
    p, n, r = problems.x.shape
    with torch.no_grad(), threads_for(p * n * r * problems.weight.shape[1] * problems.classes):
        return _descend(problems, strength, start, tolerance, steps)


def _descend(problems: Problems, strength: Tensor, start: Tensor | None, tolerance: float, steps: int) -> Tensor:
    ridge = 1 / (strength.to(problems.x) * problems.total)
    p, f = problems.weight.shape[:2]
    theta = problems.x.new_zeros((p, f, problems.x.shape[2] + 1, problems.classes)) if start is None else start.clone()
    memory = _Memory(problems.bound(ridge))
    value, gradient = problems.value_and_gradient(theta, ridge)
    rounding = 10 * torch.finfo(value.dtype).eps
    active = torch.ones_like(value, dtype=torch.bool)
    for _ in range(steps):
        active &= gradient.abs().amax((2, 3)) > tolerance
        if not active.any():
            break
        direction = memory.direction(gradient) * active[..., None, None]
        slope = _dot(gradient, direction)
        length = torch.ones_like(value)
        for _ in range(15):
            trial = theta + length[..., None, None] * direction
            new_value, new_gradient = problems.value_and_gradient(trial, ridge)
            # Near the optimum rounding hides the descent of the value: a flatter slope will do (Hager & Zhang 2005).
            descends = new_value <= value + 1e-4 * length * slope
            flatter = (new_value <= value + rounding * value) & (
                _dot(new_gradient, direction).abs() <= 0.9 * slope.abs()
            )
            failed = active & ~(descends | flatter)
            if not failed.any():
                break
            length = torch.where(failed, length / 2, length)
        else:
            active &= ~failed  # no descent left at this precision
            keep = failed[..., None, None]
            trial, new_gradient = torch.where(keep, theta, trial), torch.where(keep, gradient, new_gradient)
            new_value = torch.where(failed, value, new_value)
        memory.add(trial - theta, new_gradient - gradient)
        theta, value, gradient = trial, new_value, new_gradient
    return theta


def choose_together(
    x: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray,
    classes: int,
    grid: Sequence[float],
    *,
    default: float,
    tolerance: float,
) -> np.ndarray:
    """(P,) the strength of each problem by cross-validation, `default` where there is one fold.  x (P, n, D), y and fold (P, n)."""
    count = int(fold.max()) + 1
    if count < 2:
        return np.full(len(x), default)
    rows, _ = principal(torch.from_numpy(x))
    held = torch.from_numpy(fold)[:, None] == torch.arange(count)[:, None]
    problems = Problems(rows, torch.from_numpy(y).long(), (~held).float(), classes)
    # Rows whose class is in no other fold say nothing about the strength.
    target = problems.y[:, None, :, None].expand(*held.shape, 1)
    judged = held & ~problems.absent.expand(-1, -1, held.shape[2], -1).gather(3, target)[..., 0]
    theta, losses = None, []
    for strength in grid:
        theta = solve(problems, torch.full(held.shape[:2], strength), theta, tolerance=tolerance)
        log_p = torch.log_softmax(problems.logits(theta), -1).gather(3, target)[..., 0]
        losses.append(-(log_p * judged).sum((1, 2)).numpy())
        if len(losses) > 2 and ((losses[-1] > losses[-2]) & (losses[-2] > losses[-3])).all():
            break
    return np.asarray(grid)[np.argmin(losses, axis=0)]


def solve_together(
    x: np.ndarray, y: np.ndarray, strength: np.ndarray, classes: int, *, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """(P, D, K) and (P, K): fits of x (P, n, D) at one strength a problem."""
    rows, back = principal(torch.from_numpy(x))
    problems = Problems(rows, torch.from_numpy(y).long(), torch.ones(len(x), 1, x.shape[1]), classes)
    theta = solve(problems, torch.from_numpy(strength)[:, None], tolerance=tolerance)[:, 0].double()
    # A class without rows is predicted never: its intercept says so.
    intercept = theta[:, -1].masked_fill(problems.absent[:, 0, 0], ABSENT)
    return (back.double() @ theta[:, :-1]).numpy(), intercept.numpy()


def principal(x: Tensor) -> tuple[Tensor, Tensor]:
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
    if d > ROTATED:
        return x, torch.eye(d).expand(p, -1, -1)
    _, vectors = torch.linalg.eigh((x.transpose(1, 2) @ x).double())
    return x @ vectors.float(), vectors.float()
