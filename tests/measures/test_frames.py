"""Stretches of time: from seconds to frames and back; events matched once, as many as can be."""

import itertools

import numpy as np
import pytest

from selftaught.measures.frames import FrameCounts, Segments, covered, matched, one_each, runs


def segments(*parts: tuple[float, float, int]) -> Segments:
    return Segments(
        np.array([[a, b] for a, b, _ in parts]).reshape(-1, 2), np.array([k for _, _, k in parts], np.int64)
    )


def test_frames_are_covered_by_what_overlaps_them():
    share = covered(segments((0.05, 0.25, 0), (0.2, 0.35, 1)), 4, 0.1, 2)
    assert share == pytest.approx(np.array([[0.5, 0], [1, 0], [0.5, 1], [0, 0.5]]))
    rng = np.random.default_rng(0)
    fine = (np.arange(12_000) + 0.5) / 10_000
    for _ in range(20):  # against a fine grid
        ends = np.sort(rng.uniform(0, 1.2, (2, 2)), 1)
        share = covered(Segments(ends, np.array([1, 0])), 12, 0.1, 2)
        for (first, last), k in zip(ends, (1, 0)):
            by_grid = ((fine >= first) & (fine < last)).reshape(12, 1000).mean(1)
            assert share[:, k] == pytest.approx(by_grid, abs=0.002)


def test_a_frame_gets_the_label_that_covers_most_of_it():
    assert one_each(np.array([[0.5, 0], [0.6, 0], [0.3, 0.4], [0.2, 0.1], [0.7, 0.3]])).tolist() == [0, 1, 2, 0, 1]


def test_runs_and_frames_go_round():
    on = np.zeros((9, 2), bool)
    on[1:4, 0] = on[3:9, 1] = on[6, 0] = True
    found = runs(on, 0.5)
    assert found.times.tolist() == [[0.5, 2.0], [1.5, 4.5], [3.0, 3.5]]
    assert found.codes.tolist() == [0, 1, 0]
    assert np.array_equal(covered(found, 9, 0.5, 2) == 1, on)
    assert len(runs(np.zeros((4, 2), bool), 0.5)) == 0


def test_events_are_matched_within_the_collar_and_once():
    truth = segments((1.0, 2.0, 0), (3.0, 3.2, 1))
    assert matched(segments((1.15, 2.45, 0), (3.1, 3.35, 1)), truth, 2).tolist() == [1, 1]
    assert matched(segments((1.25, 2.0, 0)), truth, 2).tolist() == [0, 0]  # begins too late
    assert matched(segments((1.0, 2.6, 0)), truth, 2).tolist() == [0, 0]  # ends too late: half its length is 0.5 s
    assert matched(segments((1.0, 2.0, 1)), truth, 2).tolist() == [0, 0]  # another label
    assert matched(segments((1.0, 2.0, 0), (1.1, 2.1, 0)), truth, 2).tolist() == [1, 0]


def test_as_many_events_are_matched_as_can_be():
    """Brute force over all assignments: the first that fits is not always the right one to take."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        sides = []
        for _ in range(2):
            start = rng.uniform(0, 1.0, 4)
            sides.append(Segments(np.stack([start, start + rng.uniform(0.1, 0.4, 4)], 1), np.zeros(4, np.int64)))
        guess, truth = sides
        slack = np.maximum(0.2, 0.5 * (truth.times[:, 1] - truth.times[:, 0]))
        near = np.abs(guess.times[:, None] - truth.times[None])
        fits = (near[..., 0] <= 0.2) & (near[..., 1] <= slack)
        best = max(sum(fits[g, t] for t, g in enumerate(order)) for order in itertools.permutations(range(4)))
        assert matched(guess, truth, 1).tolist() == [best]


def test_counts_are_sums_over_clips():
    a, b = np.array([[1, 0], [1, 0], [0, 1]], bool), np.array([[1, 0], [0, 1], [0, 1]], bool)
    none = np.zeros((2, 2), bool)
    parts = {"guesses": [a, none], "truths": [b, none], "said": [runs(a, 1.0), runs(none, 1.0)], "true": [runs(b, 1.0), runs(none, 1.0)]}  # fmt: skip
    got = FrameCounts.of(**parts, classes=2, collar=0.2)
    figures = got.figures(("x", "y"))
    assert figures["frame F1"] == pytest.approx(2 * 2 / (3 + 3))
    assert figures["frame accuracy"] == pytest.approx(4 / 5)
    assert figures["event F1"] == 0.0
    assert figures["frame F1 x"] == pytest.approx(2 / 3)
    assert got.value(np.array([[0.0, 5.0], [2.0, 1.0]])).tolist() == pytest.approx([0.0, 2 / 3])
    assert len(got) == 2
