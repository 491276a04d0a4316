"""Strict spans: known answers, the lenient trap, and the likeliest valid sequence against all sequences."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.measures.tags import count_spans, count_words, is_valid, likeliest, spans

TAGS = ("O", "B-x", "I-x", "B-y", "I-y")


def test_spans_of_known_sentences():
    assert spans(["B-x", "I-x", "O", "B-x", "B-x", "I-x"]) == [("x", 0, 2), ("x", 3, 4), ("x", 4, 6)]
    assert spans(["B-x", "I-y", "I-y", "O"]) == [("x", 0, 1)]  # an I of another type goes on with nothing
    assert spans(["O", "O"]) == spans([]) == []
    assert spans(["B-creative-work", "I-creative-work"]) == [("creative-work", 0, 2)]


def test_an_entity_without_its_beginning_is_none():
    strict = count_spans([["I-Phone", "I-Phone"]], [["B-Phone", "I-Phone"]], ["Phone"])
    assert strict.value()[0] == 0.0  # lenient scripts give 1
    assert strict.figures(["Phone"])["recall Phone"] == 0.0


def test_right_type_and_both_borders():
    truth = [["B-x", "I-x", "O", "B-y"], ["B-x", "O", "O", "O"]]
    guess = [["B-x", "O", "O", "B-y"], ["B-y", "O", "O", "B-x"]]
    found = count_spans(guess, truth, ["x", "y"])
    figures = found.figures(["x", "y"])
    assert figures["span F1"] == pytest.approx(2 * 1 / (4 + 3))  # one hit, four said, three true
    assert (figures["precision y"], figures["recall y"], figures["F1 x"]) == (0.5, 1.0, 0.0)
    assert found.value(np.array([[1, 0], [0, 1], [2, 1]])).tolist() == pytest.approx([0.5, 0.0, 4 / 11])


def test_a_type_that_is_nowhere_is_left_out_and_lengths_must_agree():
    assert "F1 z" not in count_spans([["O"]], [["O"]], ["z"]).figures(["z"])
    assert count_spans([["O"]], [["O"]], ["z"]).value()[0] == 0.0
    with pytest.raises(ValueError, match="2 tags for 1"):
        count_spans([["O", "O"]], [["O"]], ["z"])


@given(
    st.lists(st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2)), min_size=1, max_size=6), min_size=1, max_size=4)
)
def test_words_by_a_loop(rows):
    guesses, truths = [np.array([g for _, g in row]) for row in rows], [np.array([t for t, _ in row]) for row in rows]
    pairs = [(t, g) for row in rows for t, g in row if t >= 0]
    found = count_words(guesses, truths, 3)
    wanted = sum(t == g for t, g in pairs) / len(pairs) if pairs else 0.0
    assert found.value()[0] == pytest.approx(wanted)
    assert found.metric == "accuracy"


@given(st.integers(1, 5), st.integers(0, 10_000))
def test_the_likeliest_sequence_by_trying_all(length, seed):
    logp = np.log(np.random.default_rng(seed).dirichlet(np.ones(5), length))
    codes, repaired = likeliest(logp, TAGS)
    every = [c for c in itertools.product(range(5), repeat=length) if is_valid([TAGS[k] for k in c])]
    best = max(sum(logp[n, k] for n, k in enumerate(c)) for c in every)
    assert is_valid([TAGS[k] for k in codes])
    assert sum(logp[np.arange(length), codes]) == pytest.approx(best)
    assert repaired == (not is_valid([TAGS[k] for k in logp.argmax(1)]))
