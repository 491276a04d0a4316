"""Rates against their formulas, worked out apart."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selftaught.core import Recipe
from selftaught.train import schedule


@given(progress=st.floats(0, 1), warmup=st.floats(0, 0.9), final=st.floats(0, 1))
def test_cosine_with_a_linear_rise(progress, warmup, final):
    recipe = Recipe(warmup=warmup, final=final, schedule="cosine")
    if progress < warmup:
        expected = progress / warmup
    else:
        passed = (progress - warmup) / (1 - warmup)
        expected = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * passed))
    assert schedule.factor(recipe, progress) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("kind", "expected"), [("linear", 0.5), ("constant", 1.0), ("cosine", 0.5)])
def test_half_way_after_the_rise(kind, expected):
    assert schedule.factor(Recipe(warmup=0.2, schedule=kind), 0.6) == pytest.approx(expected)


def test_every_step_has_a_rate_above_zero_and_groups_keep_their_scale():
    a, b = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr_scale": 0.1}], lr=1.0)
    recipe = Recipe(lr=0.4, warmup=0.1)
    for step in range(20):
        rate = schedule.set_rates(optimizer, recipe, step, 20)
        assert rate > 0
        assert optimizer.param_groups[0]["lr"] == rate
        assert optimizer.param_groups[1]["lr"] == pytest.approx(0.1 * rate)
