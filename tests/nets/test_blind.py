"""The blind guess: against hand-worked figures, and never above what any constant predictor reaches."""

import math

import numpy as np
import pytest
import torch

from selftaught.nets.blind import BlindGuess


def test_classes_start_at_ln_of_their_number_and_follow_the_counts_of_the_steps_before():
    guess = BlindGuess(4).double()
    first = guess(torch.tensor([0, 0, 0, 1]))
    assert float(first["baseline"]) == pytest.approx(math.log(4))
    assert guess.counts.sum() == 0, "asking changes nothing"
    guess.commit(first)
    wanted = (3 * -math.log(4 / 8) - math.log(1 / 8)) / 4  # (3 + 1, 1 + 1, 0 + 1, 0 + 1) of 8; one row of class 3
    assert float(guess(torch.tensor([0, 0, 0, 3]))["baseline"]) == pytest.approx(wanted)


def test_classes_end_at_the_entropy_of_the_targets():
    share = torch.tensor([0.7, 0.2, 0.1])
    guess, draw = BlindGuess(3), torch.Generator().manual_seed(0)
    for _ in range(200):
        outputs = guess(torch.multinomial(share, 500, replacement=True, generator=draw))
        guess.commit(outputs)
    last = guess(torch.multinomial(share, 50_000, replacement=True, generator=draw))["baseline"]
    assert float(last) == pytest.approx(float(-(share * share.log()).sum()), abs=0.01)


def test_values_lose_their_variance():
    wanted = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 7)) * np.arange(1, 8) + 3)
    outputs = BlindGuess(None)(wanted)
    assert float(outputs["baseline"]) == pytest.approx(float(np.var(wanted.numpy(), axis=0).mean()), abs=1e-12)
    assert set(outputs) == {"baseline"}


def test_nothing_to_predict_is_no_division_by_zero():
    assert float(BlindGuess(5)(torch.zeros(0, dtype=torch.int64))["baseline"]) == 0
    assert float(BlindGuess(None)(torch.zeros(0, 3))["baseline"]) == 0
