"""Multinomial logistic regression for many small problems at once: the solver of the linear probe.

scikit-learn solves one problem a call; a label curve asks for draws x folds x strengths of them, thousands in all, and
is more than five times slower that way (benchmarks/probe_speed.py).  The objective is scikit-learn's,
C sum_i w_i cross-entropy_i + |W|^2 / 2 with an intercept that is not penalised (symmetric softmax for two classes too).

Legend: P problems that have their own rows, F weightings of the same rows (folds), N rows, R width, K classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

HISTORY = 10


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
        """(P, F, N, K) of theta (P, F, R + 1, K); absent classes at -1e4."""
        p, f, _, k = theta.shape
        flat = theta[:, :, :-1].permute(0, 2, 1, 3).reshape(p, -1, f * k)
        out = torch.bmm(self.x, flat).view(p, -1, f, k).transpose(1, 2) + theta[:, :, -1:]
        return out.masked_fill(self.absent, -1e4)

    def value_and_gradient(self, theta: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
        """(P, F) and theta's shape: weighted mean cross-entropy + ridge |W|^2 / 2, ridge = 1 / (C sum of weights)."""
        log_p = torch.log_softmax(self.logits(theta), dim=-1)
        target = self.y[:, None, :, None].expand(*log_p.shape[:3], 1)
        share = self.weight / self.total[..., None]
        value = -(share * log_p.gather(3, target)[..., 0]).sum(2)
        residual = log_p.exp_()
        residual.scatter_add_(3, target, torch.full_like(residual[..., :1], -1.0))
        residual *= share[..., None]
        p, f, n, k = residual.shape
        flat = residual.transpose(1, 2).reshape(p, n, f * k)
        slope = torch.bmm(self.x.transpose(1, 2), flat).view(p, -1, f, k).transpose(1, 2)
        weights = theta[:, :, :-1]
        gradient = torch.cat([slope + ridge[..., None, None] * weights, residual.sum(2, keepdim=True)], 2)
        return value + ridge * weights.square().sum((2, 3)) / 2, gradient

    def bound(self, ridge: Tensor) -> Tensor:
        """(P, F, R + 1, 1): the diagonal of Boehning's bound of the Hessian; exact in the rows' principal axes."""
        share = self.weight / self.total[..., None]
        curvature = share @ self.x.square() / 2 + ridge[..., None]
        return torch.cat([curvature, torch.full_like(curvature[..., :1], 0.5)], 2)[..., None]


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


@contextmanager
def _threads_for(work: int) -> Iterator[None]:
    """One thread below a million multiply-adds a step: there, waking others costs more than they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if work < 1 << 20 else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def solve(
    problems: Problems, strength: Tensor, start: Tensor | None = None, *, tolerance: float = 1e-5, steps: int = 500
) -> Tensor:
    """theta (P, F, R + 1, K), the last row the intercepts, at C = `strength` (P, F).

    Limited-memory BFGS, preconditioned by Boehning's bound, with backtracking for each problem.  Stops where the largest
    entry of the gradient of the mean objective is below `tolerance`, or where float rounding allows no further descent.
    Cost: 4 P F N R K operations a step.
    """
    p, n, r = problems.x.shape
    with torch.no_grad(), _threads_for(p * n * r * problems.weight.shape[1] * problems.classes):
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
