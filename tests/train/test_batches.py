"""Rows of like length in a step: every row once an epoch, the same for a seed, and only where padding is much."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.train.batches import WASTE, Batches

LONG = np.random.default_rng(0).lognormal(8, 0.8, 200).astype(int)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 3))
def test_every_row_comes_once_an_epoch(lengths, count, epoch):
    dealt = Batches.of(np.array(lengths), len(lengths), count, seed=1, purpose="order")
    steps = dealt.epoch(epoch)
    assert len(steps) == count
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(lengths)))
    assert max(map(len, steps)) - min(map(len, steps)) <= 1


def test_an_epoch_is_a_function_of_seed_and_number():
    one, same, other = (Batches.of(LONG, 200, 25, seed=s, purpose="order") for s in (3, 3, 4))
    assert one.alike
    for epoch in (0, 1):
        assert all(np.array_equal(a, b) for a, b in zip(one.epoch(epoch), same.epoch(epoch), strict=True))
    together = [{frozenset(rows.tolist()) for rows in dealt.epoch(e)} for dealt, e in ((one, 0), (one, 1), (other, 0))]
    assert len(together[0] & together[1]) < 8  # other rows meet in the next epoch; lengths far out have few to meet
    assert len(together[0] & together[2]) < 8


def test_short_and_long_steps_come_in_no_order():
    mean = [LONG[rows].mean() for rows in Batches.of(LONG, 200, 25, seed=0, purpose="order").epoch(0)]
    assert abs(np.corrcoef(mean, np.arange(25))[0, 1]) < 0.5


def test_padding_is_cut_to_the_promise_and_said():
    dealt = Batches.of(LONG, 200, 25, seed=0, purpose="order")
    mixed = Batches(LONG, 200, 25, 0, "order")
    assert mixed.padding(0) > 0.4
    assert all(dealt.padding(epoch) < WASTE for epoch in range(5))
    assert dealt.describe().endswith(f"instead of {mixed.padding(0):.0%}.")


@pytest.mark.parametrize("lengths", [None, np.full(200, 900), np.linspace(900, 1000, 200).astype(int)])
def test_where_padding_is_little_rows_stand_together_at_random(lengths):
    dealt = Batches.of(lengths, 200, 25, seed=0, purpose="order")
    assert not dealt.alike
    assert not dealt.describe()
    plain = Batches(None, 200, 25, 0, "order")
    assert all(np.array_equal(a, b) for a, b in zip(dealt.epoch(2), plain.epoch(2), strict=True))
