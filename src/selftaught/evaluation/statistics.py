"""Intervals of scores and of paired differences: over items, few-label draws and seeds.

A score is a ratio of sums over items, sum(numerator) / sum(denominator): accuracy, balanced accuracy, R2.  Items are resampled in
pairs (both models on the same items), whole groups at a time (patients, speakers, near-duplicates); draws and seeds, of which
there are few, contribute a t-distribution, because a percentile bootstrap over 3 (5, 10) of them covers 70 % (83 %, 90 %), not 95 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core import random

REPEATS = 10_000
LEVEL = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; `visible`: the smallest true difference that would be seen four times in five."""

    mean: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Standard error, from the width of the interval."""
        return (self.high - self.low) / (2 * _normal((1 + LEVEL) / 2))

    @property
    def visible(self) -> float:
        return self.error * (_normal((1 + LEVEL) / 2) + _normal(POWER))


def _normal(q: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(q))


def _t(q: float, freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(q, freedom))


def generator(*key: int | str) -> np.random.Generator:
    """A counter-based generator that is a pure function of `key`."""
    return np.random.Generator(np.random.Philox(key=random.key(*key)))


@dataclass(frozen=True)
class Folds:
    """Which fold tested each row, (N,) integers.  Rows of a fold were scored by read-outs of its own, fitted on the other folds: the folds are the units."""

    of: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Folds:
        return Folds(self.of[rows])


Groups = np.ndarray | Folds | None
"""What is resampled as one: groups of rows (patients, speakers), folds, or nothing."""


@dataclass(frozen=True)
class Scores:
    """Per-item numerators (S seeds, R draws, N items) and the denominator (N,) that they share.

    `range`: the least and largest value of one item's score where it is bounded ((0, 1) for accuracy, (-1, 1) for differences).
    """

    numerator: np.ndarray
    denominator: np.ndarray
    range: tuple[float, float] | None = (0.0, 1.0)

    @property
    def mean(self) -> float:
        return float(self.numerator.mean((0, 1)).sum() / self.denominator.sum())

    def minus(self, other: Scores) -> Scores:
        """Paired differences: same items, same draws; seeds in pairs where both have as many, one against each of several, else
        against their mean."""
        ours, theirs = self.numerator, other.numerator
        if not np.array_equal(self.denominator, other.denominator) or ours.shape[1] != theirs.shape[1]:
            raise ValueError("scores of other items or draws are no pairs")
        if len(ours) != len(theirs) and len(ours) > 1:
            theirs = theirs.mean(0, keepdims=True)
        both = (self.range[0] - self.range[1], self.range[1] - self.range[0]) if self.range else None
        return Scores(ours - theirs, self.denominator, both)

    def items(self, keep: np.ndarray) -> Scores:
        """The scores of some items (index or bool)."""
        return Scores(self.numerator[:, :, keep], self.denominator[keep], self.range)

    def draws(self, count: int) -> Scores:
        """The first `count` draws."""
        return Scores(self.numerator[:, :count], self.denominator, self.range)


def units(groups: np.ndarray | None, say: Callable[[str], object], what: str = "group") -> np.ndarray | None:
    """What an interval takes as one: the test rows' `groups`, or each row where all are of one group, of which `say` is told.

    One group is no sample of groups: resampled, it gives an interval of no width, and a verdict of nothing."""
    if groups is None or len(groups) < 2 or (groups != groups[0]).any():
        return groups
    say(f"all test rows are of one {what}: the interval is over rows, and says nothing of another {what}.")
    return None


def interval(scores: Scores, groups: Groups = None, *, seed: int = 0, repeats: int = REPEATS) -> Interval:
    """The 95 % interval of `scores.mean` over new items (groups), new draws and new seeds, as far as there are several.

    Two-level bootstrap: the mean over draws and seeds is bootstrapped over items; to every replicate is added the deviation of
    a t-distribution with (count - 1) degrees of freedom for the draws, and for the seeds, whose variance is what is left after
    that of their interaction with the items, which the item level already holds.  Denominators and groups must be constant
    over draws.  Coverage is simulated in tests/evaluation/test_statistics.py.  Folds: see `over_folds`.  One item (or group) says nothing of others:
    bounded scores can be anything then.
    """
    if isinstance(groups, Folds):
        return over_folds(scores, groups)
    rng = generator(seed, "bootstrap")
    top, bottom = by_group(scores.numerator, scores.denominator, groups)
    if len(bottom) == 1 and scores.range is not None:
        return Interval(scores.mean, *scores.range)
    replicates = _bootstrap(top.mean((0, 1)), bottom, scores, repeats, rng)
    for axis in (1, 0):
        spread = _spread(top.mean(1 - axis), bottom)
        if spread > 0:
            replicates = replicates + spread * rng.standard_t(top.shape[axis] - 1, repeats)
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if scores.range is not None:
        low, high = np.clip([low, high], *scores.range)
    mean = scores.mean
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def over_folds(scores: Scores, folds: Folds) -> Interval:
    """The 95 % t-interval over folds, each with read-outs and few-label draws of its own.

    What varies from fold to fold (the people, the draws, the network, the rows) is all in the spread of the folds' scores, so that nothing is
    added for draws and seeds.  A bootstrap of six folds would be too narrow by a third, and a group at the bound, as single rows need it, too wide by far.
    Any two of J folds learn from nearly the same rows, so that their scores move together and their mean varies more than their spread tells: their variance is taken
    (1 / J + tested / trained) times, tested / trained = 1 / (J - 1), as in the corrected resampled t-test (Nadeau & Bengio 2003).  No unbiased estimate exists
    (Bengio & Grandvalet 2004).  Simulated where read-outs are really learned, it covers 96 to 98 % where 95 are promised, without the correction 87 to 94 %.  With one fold it is all there can be.
    """
    top, bottom = by_group(scores.numerator, scores.denominator, folds)
    means, count = top.mean((0, 1)), len(bottom)
    ratio = float(means.sum() / bottom.sum())
    if count < 2:
        return Interval(ratio, *(scores.range or (-np.inf, np.inf)))
    influence = count * (means - ratio * bottom) / bottom.sum()
    spread = (influence**2).sum() / (count - 1) * (1 / count + 1 / (count - 1))
    half = _t((1 + LEVEL) / 2, count - 1) * float(np.sqrt(spread))
    low, high = ratio - half, ratio + half
    if scores.range is not None:
        low, high = np.clip([low, high], *scores.range)
    return Interval(ratio, float(low), float(high))


def by_group(top: np.ndarray, bottom: np.ndarray, groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """Sums over groups: top (A, B, N) -> (A, B, G), bottom (N,) -> (G,)."""
    if isinstance(groups, Folds):
        groups = groups.of
    if groups is None:
        return top, bottom
    names, where = np.unique(groups, return_inverse=True)
    flat = top.reshape(-1, top.shape[-1])
    sums = np.stack([np.bincount(where, row, minlength=len(names)) for row in flat])
    return sums.reshape(*top.shape[:-1], len(names)), np.bincount(where, bottom, minlength=len(names))


def _bootstrap(top: np.ndarray, bottom: np.ndarray, scores: Scores, repeats: int, rng) -> np.ndarray:
    """(repeats,) ratios of resampled groups.

    Bounded scores get one group more: with even odds it has the least or the largest value (Agresti & Min 2005).  Without it, four
    better answers of a hundred and none worse would already look certain.  The percentile interval is widened as Hesterberg (2015,
    "expanded percentile") has it, so that few groups are not taken for many.
    """
    count = len(top)
    if count == 1:
        return np.full(repeats, top[0] / bottom[0])
    tops, bottoms = np.repeat(top, 2), np.repeat(bottom, 2)
    if scores.range is not None:
        size = bottom.mean()
        tops, bottoms = np.append(tops, size * np.array(scores.range)), np.append(bottoms, [size, size])
        count += 1
    pairs = np.stack([tops, bottoms], 1)
    distinct, often = np.unique(np.round(pairs, 12), axis=0, return_counts=True)
    if len(distinct) <= 256:
        drawn = rng.multinomial(count, often / often.sum(), size=repeats)
        sums = drawn @ distinct
    else:
        sums = np.empty((repeats, 2))
        block = max(1, 4_000_000 // count)
        for start in range(0, repeats, block):
            some = rng.integers(0, len(pairs), size=(min(block, repeats - start), count))
            sums[start : start + block, 0] = tops[some].sum(1)
            sums[start : start + block, 1] = bottoms[some].sum(1)
    ratios = sums[:, 0] / np.maximum(sums[:, 1], 1e-300)
    centre = tops.sum() / bottoms.sum()
    wider = np.sqrt(count / (count - 1)) * _t((1 + LEVEL) / 2, count - 1) / _normal((1 + LEVEL) / 2)
    return centre + wider * (ratios - centre)


def _spread(top: np.ndarray, bottom: np.ndarray) -> float:
    """Standard error that A draws (or seeds) contribute beyond the items: top (A, G); 0 where there is one.

    In a two-way table of influences, the variance of the A means holds that of their interaction with the items, which the
    bootstrap over items holds already.
    """
    count, groups = top.shape
    if count < 2 or groups < 2:
        return 0.0
    ratio = top.mean(0).sum() / bottom.sum()
    influence = groups * (top - ratio * bottom) / bottom.sum()
    means = influence.mean(1)
    rest = influence - means[:, None] - influence.mean(0) + means.mean()
    interaction = (rest**2).sum() / ((count - 1) * (groups - 1))
    return float(np.sqrt(max(0.0, means.var(ddof=1) - interaction / groups) / count))


def visible_difference(items: int, *, disagreement: float = 0.1) -> float:
    """Before anything is run: the smallest difference of accuracies that `items` test items would show four times in five.

    `disagreement`: the share of items on which the two models differ.
    """
    return (_normal((1 + LEVEL) / 2) + _normal(POWER)) * float(np.sqrt(disagreement / items))
