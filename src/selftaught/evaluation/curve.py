"""The label curve: how many labels pretraining saved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .statistics import LEVEL, Groups, Scores, by_group, generator

REPEATS = 2_000


@dataclass(frozen=True)
class Saved:
    """A control needs `needs` labels a class (low to high, 95 %) to score what pretraining does at `budget`.

    None: more than the largest budget of the curve.
    """

    control: str
    budget: int
    needs: float | None
    low: float | None
    high: float | None

    def plain(self) -> dict:
        return {
            "control": self.control,
            "labels_per_class": self.budget,
            "needs": self.needs,
            "low": self.low,
            "high": self.high,
        }


def labels_saved(
    pretrained: Scores,
    curve: dict[int, Scores],
    *,
    control: str,
    budget: int,
    groups: Groups = None,
    seed: int = 0,
) -> Saved:
    """The budget at which the control's `curve` reaches the score of `pretrained` at `budget`.

    Between budgets the score is taken as linear in the logarithm of the budget, and as never falling.  The interval is a
    bootstrap that resamples test items (groups) and draws, the same ones for both.
    """
    budgets = sorted(curve)
    tops = np.stack([s.numerator.mean(0) for s in (pretrained, *(curve[b] for b in budgets))])  # (1 + B, R, N)
    bottom = pretrained.denominator
    if groups is not None:
        tops, bottom = by_group(tops, bottom, groups)
    rng = generator(seed, "labels saved")
    draws, items = tops.shape[1:]
    found = []
    for _ in range(REPEATS):
        weight = np.bincount(rng.integers(0, items, items), minlength=items)
        some = np.bincount(rng.integers(0, draws, draws), minlength=draws) / draws
        found.append(_crossing(np.einsum("brn,r,n->b", tops, some, weight, optimize=True) / (bottom @ weight), budgets))
    point = _crossing(tops.mean(1).sum(1) / bottom.sum(), budgets)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return Saved(control, budget, *(None if np.isinf(v) else float(v) for v in (point, low, high)))


def _crossing(means: np.ndarray, budgets: list[int]) -> float:
    """Where the curve means[1:] first reaches means[0]; inf where it does not."""
    target, curve = means[0], np.maximum.accumulate(means[1:])
    if curve[-1] < target:
        return np.inf
    k = int(np.argmax(curve >= target))
    if k == 0:
        return float(budgets[0])
    share = (target - curve[k - 1]) / (curve[k] - curve[k - 1])
    return float(np.exp(np.log(budgets[k - 1]) + share * (np.log(budgets[k]) - np.log(budgets[k - 1]))))
