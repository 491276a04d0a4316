"""Bits per byte, perplexity, the frequencies of other documents, and the area under the ROC curve, against loops and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from selftaught.measures import bits_per_byte, perplexity, ranked_above, unigram_nats


def test_bits_per_byte_is_that_of_a_fair_coin_a_bit():
    assert bits_per_byte(8 * 100 * math.log(2), 100) == pytest.approx(8)
    assert perplexity(50 * math.log(7), 50) == pytest.approx(7)
    assert math.isnan(perplexity(0.0, 0))


def test_bits_per_byte_does_not_change_when_two_tokens_become_one():
    """Perplexity does: the same text at the same chance, cut in 6 tokens or in 3."""
    chances = [0.5, 0.25, 0.125, 0.5, 0.9, 0.1]
    joined = [a * b for a, b in zip(chances[::2], chances[1::2], strict=True)]
    fine, coarse = (-sum(map(math.log, c)) for c in (chances, joined))
    assert bits_per_byte(fine, 20) == pytest.approx(bits_per_byte(coarse, 20))
    assert perplexity(fine, 6) != pytest.approx(perplexity(coarse, 3))


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=8), min_size=1, max_size=6))
def test_unigram_leaves_the_own_document_out(documents):
    tokens = np.array([t for d in documents for t in d])
    owner = np.array([i for i, d in enumerate(documents) for _ in d])
    wanted = []
    for i, d in enumerate(documents):
        rest = [t for j, other in enumerate(documents) if j != i for t in other]
        wanted += [-math.log((rest.count(t) + 1) / (len(rest) + 7)) for t in d]
    np.testing.assert_allclose(unigram_nats(tokens, owner, 7), wanted, rtol=1e-12)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_ranked_above_is_the_area_under_the_curve_ties_and_all(pairs):
    scores, truth = (torch.tensor(x) for x in zip(*pairs, strict=True))
    found = ranked_above(scores.float(), truth.bool()).item()
    both = 0 < int(truth.sum()) < len(truth)
    assert found == pytest.approx(roc_auc_score(truth.numpy(), scores.numpy()) if both else 0.5, abs=1e-6)
