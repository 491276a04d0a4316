import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught import measures
from selftaught.core import random


def noise(rows: int, width: int, key: int = 0) -> torch.Tensor:
    return random.normal(key, torch.arange(rows), (width,)).double()


def with_spectrum(values: list[float], rows: int = 64, key: int = 0) -> torch.Tensor:
    """Centred features whose singular values are `values`."""
    k = len(values)
    left = noise(rows, k, key)
    left, _ = torch.linalg.qr(left - left.mean(0))
    right, _ = torch.linalg.qr(noise(k, k, key + 1))
    return left * torch.tensor(values, dtype=torch.float64) @ right.T


@pytest.mark.parametrize("k", [1, 3, 16])
def test_identity_covariance_has_full_rank(k):
    assert measures.effective_rank(with_spectrum([1.0] * k)) == pytest.approx(k, rel=1e-5)


def test_rank_one_is_one():
    x = noise(50, 1) @ noise(1, 32, 1)
    # eps adds 32 x 1e-7 x log(1e7) to the entropy: no more than that.
    assert measures.effective_rank(x) == pytest.approx(1.0, abs=1e-4)
    assert measures.top_eigenvalue_share(x) == pytest.approx(1.0, abs=1e-12)


def test_entropy_of_a_known_spectrum_with_the_papers_epsilon():
    values = [4.0, 2.0, 1.0, 1.0]
    for eps in (1e-7, 1e-3):
        expected = math.exp(-sum((v / 8 + eps) * math.log(v / 8 + eps) for v in values))
        assert measures.effective_rank(with_spectrum(values), eps=eps) == pytest.approx(expected, rel=1e-9)
    # A larger eps lifts the figure: numbers with another eps are not the paper's.
    assert measures.effective_rank(with_spectrum(values), eps=1e-2) > measures.effective_rank(with_spectrum(values))


def test_a_shift_changes_only_the_uncentred_rank():
    x, shift = noise(200, 32), 3.0
    assert measures.effective_rank(x + shift, centred=True) == pytest.approx(
        measures.effective_rank(x, centred=True), rel=1e-9
    )
    assert measures.effective_rank(x + shift) < 0.8 * measures.effective_rank(x)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-4, 1e4), key=st.integers(0, 1000), centred=st.booleans())
def test_scale_and_rotation_change_nothing(scale, key, centred):
    x = noise(40, 6, key)
    rotation, _ = torch.linalg.qr(noise(6, 6, key + 1))
    before = measures.effective_rank(x, centred=centred)
    assert measures.effective_rank(scale * x @ rotation, centred=centred) == pytest.approx(before, rel=1e-6)
    assert measures.dead_dimensions(scale * x) == measures.dead_dimensions(x)


def test_noise_outranks_signal():
    """Why a label-free number ranks nothing across methods."""
    signal = torch.cat([noise(300, 4), 1e-3 * noise(300, 60, 1)], 1)
    assert measures.effective_rank(noise(300, 64, 2)) > 5 * measures.effective_rank(signal)


def test_constant_features_are_collapsed_by_every_measure():
    x = torch.full((30, 8), 0.7) * torch.arange(1, 9)
    assert measures.effective_rank(x, centred=True) == 0.0
    assert measures.effective_rank(x) == pytest.approx(1.0, abs=1e-4)
    assert measures.dead_dimensions(x) == 1.0
    assert measures.mean_cosine(x) == pytest.approx(1.0)
    assert measures.top_eigenvalue_share(x) == 1.0


def test_zeros_and_non_finite_features():
    assert measures.effective_rank(torch.zeros(10, 4)) == 0.0
    assert measures.dead_dimensions(torch.zeros(10, 4)) == 1.0
    broken = torch.tensor([[1.0, math.nan], [0.0, 1.0]])
    assert math.isnan(measures.effective_rank(broken))
    assert math.isnan(measures.top_eigenvalue_share(broken))


def test_dead_dimensions_counts_those_that_do_not_vary():
    x = noise(100, 8).float()
    x[:, 2] = 1.0
    x[:, 5] = 1e-5 * x[:, 5]
    assert measures.dead_dimensions(x) == pytest.approx(2 / 8)


def test_mean_cosine_equals_the_loop_over_pairs():
    x = noise(12, 5) + 0.3
    unit = [row / row.norm() for row in x]
    pairs = [float(unit[i] @ unit[j]) for i in range(12) for j in range(12) if i != j]
    assert measures.mean_cosine(x) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    with pytest.raises(ValueError, match="two rows"):
        measures.mean_cosine(x[:1])


def test_top_eigenvalue_share_of_a_known_spectrum():
    assert measures.top_eigenvalue_share(with_spectrum([3.0, 1.0, 1.0])) == pytest.approx(9 / 11, rel=1e-9)
