"""Learning rates as functions of the share of the budget that has passed."""

import math

from ..core import Recipe


def factor(recipe: Recipe, progress: float) -> float:
    """The rate at `progress` in [0, 1], as a share of the peak: a linear rise, then cosine, line or plateau."""
    if progress < recipe.warmup:
        return progress / recipe.warmup
    passed = (progress - recipe.warmup) / max(1e-12, 1 - recipe.warmup)
    if recipe.schedule == "constant":
        return 1.0
    fall = (1 + math.cos(math.pi * passed)) / 2 if recipe.schedule == "cosine" else 1 - passed
    return recipe.final + (1 - recipe.final) * fall


def set_rates(optimizer, recipe: Recipe, step: int, horizon: int) -> float:
    """Sets every group's rate for `step` (0-based: the first step is not wasted on a rate of 0) and returns the base rate."""
    rate = recipe.lr * factor(recipe, (step + 1) / (horizon + 1))
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    return rate
