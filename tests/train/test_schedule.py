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


def test_one_cycle_is_torchs_momentum_included():
    steps, share = 41, 0.25
    parameter = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.SGD([parameter], lr=1.0, momentum=0.9)
    cycle = torch.optim.lr_scheduler.OneCycleLR(theirs, max_lr=2.0, total_steps=steps, pct_start=share)
    turn = (share * steps - 1) / (steps - 1)  # where torch has its peak, as a share of the way
    recipe = Recipe(warmup=turn, final=1 / 25 / 1e4, schedule="one-cycle")
    for step in range(steps):
        assert 2.0 * schedule.factor(recipe, step / (steps - 1)) == pytest.approx(cycle.get_last_lr()[0], abs=1e-9)
        momentum = schedule.momentum(recipe, step / (steps - 1))
        assert momentum == pytest.approx(theirs.param_groups[0]["momentum"], abs=1e-9)
        theirs.step()
        if step < steps - 1:
            cycle.step()


def test_slanted_triangle_is_equation_3():
    total, share, ratio = 200, 0.1, 32
    cut = math.floor(total * share)
    recipe = Recipe(warmup=cut / total, schedule="slanted-triangular")
    for t in range(total):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / share - 1))
        assert schedule.factor(recipe, t / total) == pytest.approx((1 + p * (ratio - 1)) / ratio, abs=1e-12)
    assert schedule.momentum(recipe, 0.5) is None


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_the_cycle_moves_the_momentum_of_every_group(kind):
    a = torch.nn.Parameter(torch.zeros(2))
    more = {"betas": (0.9, 0.99)} if kind is torch.optim.AdamW else {"momentum": 0.9}
    optimizer = kind([a], lr=1.0, **more)
    seen = []
    for step in range(40):
        schedule.set_rates(optimizer, Recipe(warmup=0.25, schedule="one-cycle"), step, 40)
        group = optimizer.param_groups[0]
        seen.append(group["betas"][0] if "betas" in group else group["momentum"])
    assert min(seen) == pytest.approx(0.85, abs=1e-3)
    assert seen[0] > 0.94
    assert seen[-1] > 0.94
    if "betas" in more:
        assert optimizer.param_groups[0]["betas"][1] == 0.99
