"""Counter-based random numbers: known answers, uniformity, and that a row's numbers depend on that row alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from selftaught.core import Batch, Draw, View, random

# Outputs of the public reference generator (Vigna's splitmix64.c) for seeds 0 and 1234567.
SPLITMIX64 = {
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B],
    1234567: [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821],
}


@pytest.mark.parametrize("seed", SPLITMIX64)
def test_bits_are_splitmix64(seed):
    ours = random.bits(seed, torch.arange(5)).numpy().view(np.uint64)
    assert ours.tolist() == SPLITMIX64[seed]


def test_key_depends_on_order_type_and_every_part():
    keys = [
        random.key(1, 2),
        random.key(2, 1),
        random.key("1", 2),
        random.key(12),
        random.key(1, 2, "x"),
        random.key("a", "b"),
        random.key("ab"),
    ]
    assert len(set(keys)) == len(keys)
    assert all(0 <= k < 1 << 63 for k in keys)


@pytest.mark.parametrize("bins", [16, 97])
def test_uniform_is_uniform(bins):
    values = random.uniform(random.key("chi"), torch.arange(4000), (10,)).flatten().numpy()
    assert 0 <= values.min() < values.max() < 1
    assert stats.chisquare(np.histogram(values, bins, (0, 1))[0]).pvalue > 1e-3


def test_neighbouring_rows_keys_and_positions_are_uncorrelated():
    index = torch.arange(20000)
    a = random.uniform(random.key("a"), index, (2,)).double()
    b = random.uniform(random.key("b"), index, (2,)).double()
    pairs = [(a[:-1, 0], a[1:, 0]), (a[:, 0], a[:, 1]), (a[:, 0], b[:, 0]), (a[:-1, 1], a[1:, 0])]
    correlations = [abs(float(torch.corrcoef(torch.stack(p))[0, 1])) for p in pairs]
    assert max(correlations) < 4 / 20000**0.5


def test_normal_is_normal():
    values = random.normal(random.key("n"), torch.arange(30000)).numpy()
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert np.isfinite(values).all()


@pytest.mark.parametrize("high", [2, 4, 10])
def test_integers_cover_their_range_evenly(high):
    values = random.integers(random.key("i"), torch.arange(20000), high).numpy()
    assert stats.chisquare(np.bincount(values, minlength=high)).pvalue > 1e-3
    assert values.max() == high - 1


@settings(max_examples=25)
@given(st.lists(st.integers(0, 2**40), min_size=2, max_size=9), st.integers(0, 2**62), st.integers(1, 7))
def test_a_rows_numbers_do_not_depend_on_the_batch(rows, seed, count):
    index = torch.tensor(rows)
    whole = Draw(index, seed, step=3, view=1)
    for i, row in enumerate(rows):
        alone = Draw(torch.tensor([row]), seed, step=3, view=1)
        assert torch.equal(whole.uniform("x", count)[i], alone.uniform("x", count)[0])
        assert torch.equal(whole.normal("x", count)[i], alone.normal("x", count)[0])
        assert torch.equal(whole.integers("x", 9, count)[i], alone.integers("x", 9, count)[0])
        assert torch.equal(whole.permutations("x", count)[i], alone.permutations("x", count)[0])


def test_longer_draws_begin_like_shorter_ones():
    """So that padding, which changes the number of tokens of a batch, changes no row's mask."""
    index = torch.arange(5)
    assert torch.equal(random.uniform(7, index, (9,))[:, :4], random.uniform(7, index, (4,)))


def test_purpose_step_view_and_seed_all_change_the_numbers():
    index = torch.arange(64)
    draws = [Draw(index), Draw(index, seed=1), Draw(index, step=1), Draw(index, view=1)]
    numbers = [d.uniform("x") for d in draws] + [draws[0].uniform("y"), Batch([], index).draw().uniform("x")]
    for i, a in enumerate(numbers):
        for b in numbers[:i]:
            assert not torch.equal(a, b)


@given(st.integers(0, 2**62), st.integers(0, 300))
def test_permutation_is_a_permutation(seed, n):
    assert sorted(random.permutation(seed, n).tolist()) == list(range(n))


def test_row_permutations_are_even_over_places():
    places = random.permute_rows(random.key("p"), torch.arange(6000), 6)
    assert torch.equal(places.sort(1).values, torch.arange(6).expand(6000, 6))
    for column in places.T:
        assert stats.chisquare(np.bincount(column.numpy(), minlength=6)).pvalue > 1e-4


def test_views_and_losses_never_share_numbers():
    batch = Batch([View("image")], torch.arange(8), seed=5, step=2)
    assert not torch.equal(batch.draw().uniform("crop"), Draw(batch.index, 5, 2).uniform("crop"))
