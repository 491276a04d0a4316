import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught import measures
from selftaught.core import random


def noise(rows: int, width: int, key: int = 0) -> torch.Tensor:
    return random.normal(key, torch.arange(rows), (width,))


def loop_vote(queries, bank, labels, classes, k, temperature, exclude_self=False):
    """kNN by a plain float64 loop: the definition."""
    queries, bank = queries.double().numpy(), bank.double().numpy()
    out = np.zeros((len(queries), classes))
    for i, q in enumerate(queries):
        cosine = [
            (q @ b / (np.linalg.norm(q) * np.linalg.norm(b)), j)
            for j, b in enumerate(bank)
            if not (exclude_self and i == j)
        ]
        for c, j in sorted(cosine, reverse=True)[:k]:
            out[i, labels[j]] += math.exp(c / temperature)
    return out / out.sum(1, keepdims=True)


@settings(max_examples=15, deadline=None)
@given(key=st.integers(0, 10_000), k=st.integers(1, 12), block=st.integers(1, 50), own=st.booleans())
def test_vote_equals_the_loop_for_any_block(key, k, block, own):
    bank = noise(30, 7, key)
    queries = bank if own else noise(13, 7, key + 1)
    labels = random.integers(key, torch.arange(30), 4)
    scores = measures.knn_classify(queries, bank, labels, 4, k=k, exclude_self=own, block=block)
    expected = loop_vote(queries, bank, labels.numpy(), 4, k, 0.07, own)
    np.testing.assert_allclose(scores.numpy(), expected, atol=2e-5)


def test_regression_is_the_weighted_mean_of_the_neighbours():
    bank, queries, values = noise(25, 5), noise(6, 5, 1), noise(25, 1, 2)[:, 0]
    got = measures.knn_regress(queries, bank, values, k=4, temperature=0.1)
    for i in range(6):
        cosine = torch.nn.functional.cosine_similarity(queries[i].double()[None], bank.double())
        top, where = cosine.topk(4)
        weight = torch.exp(top / 0.1)
        assert float(got[i]) == pytest.approx(float((weight * values[where]).sum() / weight.sum()), abs=1e-4)


def test_length_of_a_feature_does_not_matter():
    bank, queries = noise(40, 6), noise(9, 6, 1)
    _, index = measures.nearest(queries, bank, 5)
    _, scaled = measures.nearest(queries * 100, bank * torch.arange(1, 41)[:, None], 5)
    assert torch.equal(index, scaled)


def test_a_row_is_not_its_own_neighbour():
    x = noise(20, 4)
    similarity, index = measures.nearest(x, x, 1)
    assert torch.equal(index[:, 0], torch.arange(20))
    assert similarity.min() > 1 - 1e-5
    _, index = measures.nearest(x, x, 3, exclude_self=True, block=7)
    assert not (index == torch.arange(20)[:, None]).any()


def test_k_is_cut_to_the_bank_and_checked():
    scores = measures.knn_classify(noise(3, 4), noise(5, 4, 1), torch.zeros(5, dtype=torch.int64), 2, k=20)
    assert torch.allclose(scores, torch.tensor([[1.0, 0.0]]).expand(3, 2))
    with pytest.raises(ValueError, match="6 neighbours"):
        measures.nearest(noise(3, 4), noise(5, 4), 6)


def test_view_recall_is_one_for_copies_and_chance_for_strangers():
    x = noise(200, 16)
    assert measures.view_recall(x, x + 0.01 * noise(200, 16, 1)) == 1.0
    assert measures.view_recall(x, noise(200, 16, 2)) < 0.05


def test_alignment_and_uniformity_by_hand():
    a = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    b = torch.tensor([[0.0, 1.0], [0.0, 5.0]])
    assert measures.alignment(a, b) == pytest.approx((2.0 + 0.0) / 2)
    # Unit vectors at right angles: squared distance 2, so log exp(-2 x 2).
    assert measures.uniformity(a) == pytest.approx(-4.0)
    with pytest.raises(ValueError, match="equal shapes"):
        measures.alignment(a, b[:1])


@pytest.mark.parametrize("block", [1, 7, 64])
def test_uniformity_equals_the_loop_for_any_block(block):
    x = torch.nn.functional.normalize(noise(20, 3).double(), dim=1)
    pairs = [math.exp(-2 * float((x[i] - x[j]).square().sum())) for i in range(20) for j in range(20) if i != j]
    assert measures.uniformity(x, block=block) == pytest.approx(math.log(sum(pairs) / len(pairs)), abs=1e-12)


def test_collapse_has_perfect_alignment_and_the_worst_uniformity():
    x = torch.ones(10, 4)
    assert measures.alignment(x, x) == 0.0
    assert measures.uniformity(x) == pytest.approx(0.0, abs=1e-9)
    assert measures.uniformity(noise(100, 8)) < -2
