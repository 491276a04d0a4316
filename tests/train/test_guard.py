import numpy as np
import pytest
import torch

from selftaught.core import Draw
from selftaught.train.guard import compare, kept, worries


def normal(rows: int, width: int, key: int = 0) -> torch.Tensor:
    return Draw(torch.arange(rows), key).normal("features", width)


def counted(a: np.ndarray, b: np.ndarray, k: int) -> float:
    """The share of kept neighbours, by loops."""
    shares = []
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    for i in range(len(a)):
        near = []
        for x in unit:
            cosine = [(-(x[i] @ x[j]), j) for j in range(len(x)) if j != i]
            near.append({j for _, j in sorted(cosine)[:k]})
        shares.append(len(near[0] & near[1]) / k)
    return float(np.mean(shares))


def test_kept_neighbours_are_those_counted_by_loops():
    first = normal(40, 6)
    second = first + 0.7 * normal(40, 6, 1)
    wanted = counted(first.double().numpy(), second.double().numpy(), 5)
    assert 0.2 < wanted < 0.9
    assert kept(first, second, 5) == pytest.approx(wanted, abs=1e-6)
    turn = torch.linalg.qr(normal(6, 6, 2))[0]
    assert kept(first, 3 * first @ turn, 5) == 1.0


def test_by_chance_k_of_the_others_are_kept():
    assert kept(normal(300, 8), normal(300, 8, 1), 10) == pytest.approx(10 / 299, abs=0.01)


def test_the_same_features_raise_nothing():
    start = normal(200, 16)
    figures = compare(start, start, normal(200, 16, 1))
    assert figures["neighbours_kept"] == 1.0
    assert figures["effective_rank"][0] == figures["effective_rank"][1]
    assert worries(figures) == []


def test_planted_harm_is_named():
    start, fresh = normal(200, 16), normal(200, 16, 1)
    constant = start.mean(0) + 1e-6 * start
    assert worries(compare(start, constant, fresh))[0].startswith("collapse")
    flat = start.clone()
    flat[:, 3:] *= 0.01
    said = worries(compare(start, flat, fresh))
    assert said[0].startswith("rank: the features use fewer directions")
    unrelated = worries(compare(start, normal(200, 16, 5), fresh))
    assert [s.partition(":")[0] for s in unrelated] == ["forgotten"]
    assert "selftaught evaluate" in unrelated[0]


def test_a_start_that_was_collapsed_already_is_not_blamed_on_continuing():
    start = 1e-7 * normal(100, 8) + 1
    assert not any(s.startswith("collapse") for s in worries(compare(start, start, normal(100, 8, 1))))
