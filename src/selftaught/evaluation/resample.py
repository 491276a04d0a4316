"""Intervals of figures that are no ratio of sums (mAP, mIoU): pictures are resampled and the figure worked out anew each time.

As in statistics.py: both models on the same pictures, whole groups at a time, percentile intervals widened for few groups (Hesterberg 2015); seeds add a
t-distribution, whose variance is what is left of the seeds' own after that of their interaction with the pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.task import Tally
from .statistics import LEVEL, Interval, _normal, _t, generator

REPEATS = 1000


def counts(rows: int, groups: np.ndarray | None = None, *, seed: int = 0, repeats: int = REPEATS) -> np.ndarray:
    """(repeats, rows) how often each picture counts in each resampling of groups (default: of pictures)."""
    names, where = np.unique(np.arange(rows) if groups is None else groups, return_inverse=True)
    drawn = generator(seed, "resample").multinomial(len(names), np.full(len(names), 1 / len(names)), size=repeats)
    return drawn[:, where]


def interval(
    ours: Sequence[Tally], theirs: Sequence[Tally] | None = None, *, groups: np.ndarray | None = None, seed: int = 0,
    repeats: int = REPEATS,
) -> Interval:  # fmt: skip
    """The 95 % interval of the mean figure of `ours` (one tally a seed), or of its difference to `theirs`: seed for seed where there are as many of
    both, else to their mean.  One picture, or one group, gives an interval of no width: nothing is known of others."""
    rows = len(ours[0])
    if any(len(t) != rows for t in (*ours, *(theirs or ()))):
        raise ValueError("tallies of other pictures are no pairs")
    often = counts(rows, groups, seed=seed, repeats=repeats)
    once = np.ones((1, rows))
    both = np.concatenate([once, often])
    found = np.stack([t.value(both) for t in ours])  # (seeds, 1 + repeats)
    if theirs is not None:
        other = np.stack([t.value(both) for t in theirs])
        found = found - (other if len(other) == len(found) else other.mean(0, keepdims=True))
    units = rows if groups is None else len(np.unique(groups))
    centre, replicates = found[:, 0].mean(), found[:, 1:].mean(0)
    if units > 1:
        wider = np.sqrt(units / (units - 1)) * _t((1 + LEVEL) / 2, units - 1) / _normal((1 + LEVEL) / 2)
        replicates = centre + wider * (replicates - replicates.mean())
    spread = seed_error(found)
    if spread > 0:
        replicates = replicates + spread * generator(seed, "seeds").standard_t(len(found) - 1, repeats)
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(centre), min(float(low), float(centre)), max(float(high), float(centre)))


def seed_error(found: np.ndarray) -> float:
    """Standard error that S seeds contribute beyond the pictures: found (S, 1 + R), the figure itself and its replicates; 0 for one seed."""
    seeds = len(found)
    if seeds < 2:
        return 0.0
    own = found[:, 1:] - found[:, 1:].mean(0)
    interaction = (own - own.mean(1, keepdims=True)).var(axis=1).sum() / (seeds - 1)
    return float(np.sqrt(max(0.0, found[:, 0].var(ddof=1) - interaction) / seeds))
