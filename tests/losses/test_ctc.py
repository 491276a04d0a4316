"""CTC by its definition: the probability of a sequence is the sum over every path of frames that spells it."""

import itertools
import math

import pytest
import torch

from selftaught.core import Ragged
from selftaught.losses.ctc import ctc, frames_needed
from selftaught.nets.ctc_search import collapsed


def ragged(*rows: list[int]) -> Ragged:
    offsets = torch.tensor([0, *itertools.accumulate(map(len, rows))])
    return Ragged(torch.tensor([v for row in rows for v in row], dtype=torch.int64), offsets)


def over_all_paths(logp: torch.Tensor, wanted: tuple[int, ...]) -> float:
    """-log of the sum over all V^T paths."""
    frames, labels = logp.shape
    total = 0.0
    for path in itertools.product(range(labels), repeat=frames):
        if collapsed(path) == wanted:
            total += math.exp(sum(float(logp[t, k]) for t, k in enumerate(path)))
    return -math.log(total)


@pytest.mark.parametrize("rows", [[[1, 2], [1, 1], []], [[2], [1, 2, 1], [2, 2]]])
def test_nats_are_the_sum_over_all_paths(rows):
    logits = torch.randn(3, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    frames = torch.tensor([5, 4, 3])
    got = ctc(logits, frames, ragged(*rows))
    assert got.dtype == torch.float64
    for row, wanted in enumerate(rows):
        logp = logits[row, : frames[row]].log_softmax(1)
        assert float(got[row]) == pytest.approx(over_all_paths(logp, tuple(wanted)), rel=1e-9)


def test_what_stands_behind_the_end_of_a_row_changes_nothing():
    logits = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    frames, targets = torch.tensor([6, 4]), ragged([1, 3], [2])
    wide = torch.cat([logits, 100 * torch.ones(2, 5, 4)], 1)
    wide[1, 4:] = 7.0
    assert torch.allclose(ctc(wide, frames, targets), ctc(logits, frames, targets))


def test_frames_needed_count_a_blank_between_labels_that_are_alike():
    held = ragged([1, 1, 1], [], [1], [2, 1, 2], [3, 3])
    assert frames_needed(held).tolist() == [5, 0, 1, 3, 3]
    assert frames_needed(ragged()).tolist() == []
    assert frames_needed(ragged([1], [1])).tolist() == [1, 1]  # alike across a border is no repeat


def test_a_row_that_cannot_be_spelled_is_an_error_and_no_zero():
    logits = torch.zeros(2, 2, 3)
    with pytest.raises(ValueError, match="1 of 2 rows"):
        ctc(logits, torch.tensor([2, 2]), ragged([1, 2], [1, 1]))


def test_half_precision_is_lifted():
    logits = torch.randn(1, 40, 30, generator=torch.Generator().manual_seed(2))
    targets = ragged([3, 5, 5, 7])
    exact = ctc(logits.bfloat16().double(), torch.tensor([40]), targets)
    with torch.autocast("cpu", torch.bfloat16):
        got = ctc(logits.bfloat16(), torch.tensor([40]), targets)
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(float(exact), rel=1e-5)
