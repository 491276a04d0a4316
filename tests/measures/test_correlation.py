import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from selftaught import measures


def test_known_values():
    x, y = np.array([1.0, 2, 3, 4]), np.array([10.0, 20, 30, 1000])
    assert measures.spearman(x, y)[0] == pytest.approx(1)
    assert measures.spearman(x, -y)[0] == pytest.approx(-1)
    assert measures.pearson(x, 3 * x + 1)[0] == pytest.approx(1)
    assert measures.spearman(x, np.ones(4))[0] == 0
    assert measures.pearson(x + 1e9, np.full(4, 7.0))[0] == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 30), st.integers(0, 10_000))
def test_resampled_items_are_items_that_stand_there_several_times(rows, seed):
    """Weights are copies: scipy on the copied rows, ties included, gives the same."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 6, rows).astype(float), rng.normal(size=rows)
    weights = rng.multinomial(rows, np.full(rows, 1 / rows), size=3)
    for ours, theirs in ((measures.spearman, stats.spearmanr), (measures.pearson, stats.pearsonr)):
        found = ours(x, y, weights)
        for value, often in zip(found, weights, strict=True):
            a, b = np.repeat(x, often), np.repeat(y, often)
            if len(set(a)) > 1 and len(set(b)) > 1:
                assert value == pytest.approx(theirs(a, b).statistic, abs=1e-9)
            else:
                assert value == 0
