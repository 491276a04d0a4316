"""Equal error rates by brute force over thresholds; ties, inverted scores, resampled speakers."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.measures.verification import Trials


def trials(scores, same) -> Trials:
    """Targets are of speaker 0 with themself, the others of 0 and 1."""
    speakers = np.array([[0, 0] if s else [0, 1] for s in same])
    return Trials(np.asarray(scores, float), speakers, 2)


def by_brute_force(scores, same) -> float:
    """The crossing of the two curves of errors, over every threshold one by one, with a straight line between neighbours."""
    scores, same = np.asarray(scores, float), np.asarray(same, bool)
    points = []
    for threshold in [*sorted(set(scores.tolist())), np.inf]:
        accepted = [s >= threshold for s in scores]
        refused = sum(1 for a, t in zip(accepted, same) if t and not a) / same.sum()
        wrong = sum(1 for a, t in zip(accepted, same) if not t and a) / (~same).sum()
        points.append((refused, wrong))
    for (r0, w0), (r1, w1) in itertools.pairwise(points):
        if r0 - w0 <= 0 <= r1 - w1:
            gap = (r1 - w1) - (r0 - w0)
            share = 0.0 if gap == 0 else -(r0 - w0) / gap
            return r0 + share * (r1 - r0)
    raise AssertionError("the curves cross")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=12))
def test_the_rate_is_that_of_brute_force_ties_included(pairs):
    scores, same = zip(*pairs)
    if all(same) or not any(same):
        return
    held = trials(scores, same)
    assert held.value()[0] == pytest.approx(by_brute_force(scores, same), abs=1e-12)
    assert np.isfinite(held.threshold)
    assert held.threshold in scores


def test_known_answers():
    assert trials([3, 4, 1, 2], [1, 1, 0, 0]).value()[0] == 0.0
    assert trials([3, 4, 1, 2], [1, 1, 0, 0]).threshold == 3.0
    assert trials([1, 1, 1, 1], [1, 0, 1, 0]).value()[0] == 0.5  # all tied: a coin decides
    assert trials([1, 1, 1, 1], [1, 0, 1, 0]).threshold == 1.0
    inverted = trials([1, 2, 3, 4], [1, 1, 0, 0])
    assert inverted.value()[0] == 1.0
    assert "worse than chance" in inverted.warning
    assert not trials([1, 2, 1, 2], [1, 1, 0, 0]).warning
    assert trials([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]).value()[0] == pytest.approx(0.5)


def test_the_order_of_trials_changes_nothing():
    rng = np.random.default_rng(0)
    scores, same = rng.integers(0, 6, 60), rng.random(60) < 0.4
    first = trials(scores, same).figures()
    order = rng.permutation(60)
    assert trials(scores[order], same[order]).figures() == first


def test_the_least_cost_is_that_of_brute_force():
    rng = np.random.default_rng(1)
    same = rng.random(80) < 0.5
    scores = rng.normal(size=80) + same
    costs = [0.01 * np.mean(scores[same] < t) + 0.99 * np.mean(scores[~same] >= t) for t in [*scores.tolist(), np.inf]]
    assert trials(scores, same).least_cost() == pytest.approx(min(costs) / 0.01)
    assert trials(scores[same | ~same], same).least_cost() <= 1.0


def test_speakers_are_resampled_with_both_sides_of_their_trials():
    """Weights of speakers equal a list of trials in which each stands as often as its speakers were drawn."""
    rng = np.random.default_rng(2)
    speakers = rng.integers(0, 4, (50, 2))
    scores = rng.normal(size=50) + (speakers[:, 0] == speakers[:, 1])
    held = Trials(scores, speakers, 4)
    assert len(held) == 4
    for drawn in ([1, 1, 1, 1], [2, 0, 1, 1], [0, 3, 1, 0]):
        often = [drawn[a] if a == b else drawn[a] * drawn[b] for a, b in speakers.tolist()]
        many = np.repeat(np.arange(50), often)
        again = Trials(scores[many], speakers[many], 4)
        assert held.value(np.array([drawn], float))[0] == pytest.approx(again.value()[0])
    alone = held.value(np.array([[4.0, 0, 0, 0]]))[0]  # no trial of two speakers is left: nothing is known
    assert alone == held.value()[0]


def test_many_resamplings_are_worked_out_in_parts(monkeypatch):
    rng = np.random.default_rng(3)
    speakers = rng.integers(0, 5, (40, 2))
    held = Trials(rng.normal(size=40), speakers, 5)
    weights = rng.integers(0, 3, (30, 5)).astype(float)
    whole = held.value(weights)
    monkeypatch.setattr("selftaught.measures.verification._BLOCK", 100)
    assert np.array_equal(whole, held.value(weights))


def test_scores_without_an_order_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        trials([1, np.nan], [1, 0]).value()
