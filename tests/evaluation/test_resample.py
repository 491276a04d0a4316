"""Intervals of mAP and mIoU: against the interval of a ratio of sums where a figure is one, and their behaviour with groups and seeds."""

import numpy as np
import pytest

from selftaught.evaluation import resample, statistics
from selftaught.measures.segmentation import Overlaps


class Share:
    """A tally whose figure is a plain mean, so that statistics.interval can answer too."""

    def __init__(self, right):
        self.right = np.asarray(right, float)

    def __len__(self):
        return len(self.right)

    def value(self, weights=None):
        weights = np.ones((1, len(self.right))) if weights is None else weights
        return weights @ self.right / weights.sum(1)

    def figures(self, classes):
        return {"share": float(self.value()[0])}


def test_a_mean_has_the_interval_that_statistics_gives_it():
    rng = np.random.default_rng(0)
    right = rng.normal(0.5, 0.2, (3, 150))
    one, several = resample.interval([Share(right[0])]), resample.interval([Share(r) for r in right])
    wanted = statistics.interval(statistics.Scores(right[:1, None], np.ones(150), None))
    assert (one.mean, one.low, one.high) == pytest.approx((wanted.mean, wanted.low, wanted.high), abs=0.004)
    wanted = statistics.interval(statistics.Scores(right[:, None], np.ones(150), None))
    assert (several.mean, several.low, several.high) == pytest.approx((wanted.mean, wanted.low, wanted.high), abs=0.006)


def test_seeds_that_differ_widen_and_a_difference_is_paired():
    rng = np.random.default_rng(1)
    right = rng.random(200)
    same = resample.interval([Share(right)] * 3)
    apart = resample.interval([Share(right + d) for d in (-0.1, 0.0, 0.1)])
    assert apart.high - apart.low > 3 * (same.high - same.low)
    better = resample.interval([Share(right + 0.01)], [Share(right)])
    assert (better.low, better.mean, better.high) == pytest.approx((0.01, 0.01, 0.01))
    with pytest.raises(ValueError, match="no pairs"):
        resample.interval([Share(right)], [Share(right[:5])])


def test_groups_are_drawn_whole():
    often = resample.counts(6, np.array([0, 0, 1, 1, 1, 2]), repeats=50)
    assert (often[:, 0] == often[:, 1]).all()
    assert (often[:, 2] == often[:, 4]).all()
    assert (often[:, [0, 2, 5]].sum(1) == 3).all()
    rng = np.random.default_rng(2)
    blocks = np.repeat(rng.normal(0.5, 0.2, 20), 10)
    alone, whole = (resample.interval([Share(blocks)], groups=g) for g in (None, np.arange(200) // 10))
    assert whole.high - whole.low > 2 * (alone.high - alone.low)
    assert resample.interval([Share(blocks)], groups=np.zeros(200)).low == pytest.approx(blocks.mean())


def test_the_interval_covers_what_new_pictures_would_show():
    """Of 120 samples of pictures from one population, the interval of mIoU holds the population's own in about 95 of 100."""
    rng = np.random.default_rng(3)
    matrices = rng.multinomial(40, [0.4, 0.1, 0.08, 0.42], size=4000).reshape(-1, 2, 2) + rng.integers(
        0, 10, (4000, 1, 1)
    ) * np.eye(2, dtype=int)
    true = Overlaps.of(matrices).value()[0]
    held = 0
    for _ in range(120):
        some = Overlaps.of(matrices[rng.integers(0, 4000, 40)])
        got = resample.interval([some], repeats=200)
        held += got.low <= true <= got.high
    assert held >= 106
