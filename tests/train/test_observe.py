"""Alarms ring when they should, once, and say what to do; healthy features ring nothing."""

import pytest
import torch

from selftaught import measures
from selftaught.train.observe import Collapse, FewCodes, Moment, NoProgress, Starvation


def moment(step=50, features=None, loss=1.0, wait=0.0, **scalars):
    return Moment(step, 100, loss, scalars, features, 0.1, 10.0, 100.0, wait)


def noise(rows=128, dims=32):
    return torch.randn(rows, dims, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "features",
    [
        torch.ones(128, 32) + 1e-6 * noise(),  # one point
        torch.randn(128, 1, generator=torch.Generator().manual_seed(1)) @ torch.ones(1, 32),  # one line
        torch.cat([noise(dims=1), torch.zeros(128, 31)], 1),  # one living dimension
    ],
)
def test_collapse_rings_once(features):
    alarm = Collapse()
    rung = [alarm(moment(step, features)) for step in range(40, 46)]
    assert sum(r is not None for r in rung) == 1
    assert "collapse" in next(r for r in rung if r)


def test_health_and_a_constant_offset_ring_nothing():
    alarm = Collapse()
    assert all(alarm(moment(step, noise() + 0.5)) is None for step in range(40, 50))


def test_few_codes():
    alarm = FewCodes()
    assert alarm(moment(code_perplexity=100.0, codes=300.0)) is None
    assert "1.2 of 300" in alarm(moment(code_perplexity=1.2, codes=300.0))
    assert alarm(moment(code_perplexity=1.2, codes=300.0)) is None


def test_starvation_needs_a_run_of_waits():
    alarm = Starvation()
    assert [bool(alarm(moment(wait=0.9))) for _ in range(7)] == [False] * 4 + [True, False, False]


def test_no_progress_over_a_blind_guess():
    alarm = NoProgress()
    assert all(alarm(moment(step=s, loss=5.0, baseline=4.0)) is None for s in (10, 20, 30, 40))
    assert "5.000 is not below that of a blind guess, 4.000" in alarm(moment(step=60, loss=5.0, baseline=4.0))
    assert alarm(moment(step=70, loss=5.0, baseline=4.0)) is None, "an alarm rings once"


def test_progress_is_loss_against_the_guess_on_the_same_batches():
    """Hard batches lift both: what counts is the difference."""
    alarm = NoProgress()
    assert all(alarm(moment(step=s, loss=3.9 + s % 7, baseline=4.0 + s % 7)) is None for s in range(40, 90))


def test_uniformity_says_collapse_in_words():
    """Rows a fiftieth apart: no dimension is dead, the rank is full, and yet it is one point on the sphere."""
    alarm = Collapse()
    close = torch.ones(128, 32) + 0.04 * noise()
    scalars = {"uniformity": measures.uniformity(close), "alignment": 0.0004}
    rung = [alarm(moment(step, close, **scalars)) for step in range(40, 43)]
    assert rung[:2] == [None, None]
    assert "uniformity -0.006, where 0 is a single point: that views of one row agree (alignment 0.000)" in rung[2]
    assert all(alarm(moment(step, noise(), uniformity=-3.0, alignment=0.1)) is None for step in range(43, 50))
