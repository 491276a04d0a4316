"""How much of a budget the timing of steps takes."""

import contextlib

import pytest
import torch

from selftaught import methods
from selftaught.core import ViewSpec
from selftaught.train.calibrate import step_seconds
from tests.methods import small


@pytest.mark.parametrize(("limit", "steps", "points"), [(0.0, 2, [0.65]), (1e9, 16, [0.65, 0.05, 0.95, 0.35])])
def test_a_short_budget_times_two_steps_and_a_long_one_four_points(limit, steps, points):
    method = methods.find("rotation")().setup(small_encoder(), small.facts())
    before, seen, fetched = {k: v.clone() for k, v in method.state_dict().items()}, [], []

    def look(view, draw):
        seen.append(draw.progress)
        return view

    def fetch(number):
        fetched.append(number)
        return torch.arange(6), {"one": small.pictures().with_parts(pixels=small.pictures()["pixels"].float())}

    recipe = method.defaults(small.facts())
    seconds = step_seconds(
        method, recipe, [ViewSpec(look)], fetch, seed=0, autocast=contextlib.nullcontext, limit=limit
    )
    assert seconds > 0
    assert len(fetched) == steps
    assert list(dict.fromkeys(seen)) == points
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())


def small_encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return small.SmallResNet(channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
