"""Learning rates (and momenta) as functions of the share of the budget that has passed."""

import math

from ..core import Recipe

FIRST, MOMENTA = 1 / 25, (0.95, 0.85)
"""One cycle (Smith 2018, arXiv 1803.09820, with the figures of fastai and torch): the first rate as a share of the peak; momentum at the lowest and
at the highest rate."""
RATIO = 32
"""Slanted triangle (Howard & Ruder 2018, equation 3): how much lower than the peak the first and the last rate are."""


def factor(recipe: Recipe, progress: float) -> float:
    """The rate at `progress` in [0, 1], as a share of the peak: a rise over `warmup`, then cosine, line or plateau."""
    if recipe.schedule == "slanted-triangular":
        return (1 + _height(recipe.warmup, progress) * (RATIO - 1)) / RATIO
    if progress < recipe.warmup:
        risen = progress / recipe.warmup
        return risen if recipe.schedule != "one-cycle" else FIRST + (1 - FIRST) * _half_wave(risen)
    passed = _passed(recipe.warmup, progress)
    if recipe.schedule == "constant":
        return 1.0
    fall = 1 - passed if recipe.schedule == "linear" else 1 - _half_wave(passed)
    return recipe.final + (1 - recipe.final) * fall


def momentum(recipe: Recipe, progress: float) -> float | None:
    """The momentum (AdamW's first beta) at `progress` where the schedule moves it, high where the rate is low; None where it stays."""
    if recipe.schedule != "one-cycle":
        return None
    high, low = MOMENTA
    rising = progress < recipe.warmup
    share = _half_wave(progress / recipe.warmup) if rising else 1 - _half_wave(_passed(recipe.warmup, progress))
    return high - (high - low) * share


def _height(warmup: float, progress: float) -> float:
    """Of a triangle with its peak at `warmup`."""
    return progress / warmup if progress < warmup else 1 - _passed(warmup, progress)


def _passed(warmup: float, progress: float) -> float:
    return (progress - warmup) / max(1e-12, 1 - warmup)


def _half_wave(share: float) -> float:
    """From 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * share)) / 2


def set_rates(optimizer, recipe: Recipe, step: int, horizon: int) -> float:
    """Sets every group's rate for `step` (0-based: the first step is not wasted on a rate of 0) and returns the base rate."""
    progress = (step + 1) / (horizon + 1)
    rate, moved = recipe.lr * factor(recipe, progress), momentum(recipe, progress)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
        if moved is not None and "betas" in group:
            group["betas"] = (moved, group["betas"][1])
        elif moved is not None:
            group["momentum"] = moved
    return rate
