"""Word and character errors: jiwer's, as sums over clips; normalisation; blanks named."""

import jiwer
import numpy as np
import pytest

from selftaught.core import RequestError
from selftaught.measures.transcripts import TranscriptCounts, normalised

SAID = ["the cat sat", "", "one two three four", "yes"]
HEARD = ["the cat sat on", "um", "one too three", "yes"]


def test_corpus_rates_are_jiwers_and_no_mean_of_rates():
    got = TranscriptCounts.of(HEARD, SAID)
    assert got.figures()["WER"] == pytest.approx((1 + 1 + 2 + 0) / (3 + 0 + 4 + 1))
    assert got.figures()["WER"] == pytest.approx(jiwer.wer(SAID, HEARD))
    assert got.figures()["CER"] == pytest.approx(jiwer.cer(SAID, HEARD))
    assert got.words.tolist() == [[3, 0, 0, 1, 3], [0, 0, 0, 1, 0], [2, 1, 1, 0, 4], [1, 0, 0, 0, 1]]
    assert {k: got.figures()[k] for k in ("substitutions", "deletions", "insertions")} == {
        "substitutions": 1 / 8, "deletions": 1 / 8, "insertions": 2 / 8,
    }  # fmt: skip
    assert got.figures()["exact"] == 1 / 4


def test_resampled_clips_give_what_those_clips_give():
    got = TranscriptCounts.of(HEARD, SAID)
    rng = np.random.default_rng(0)
    for _ in range(10):
        rows = rng.integers(0, 4, 4)
        weights = np.bincount(rows, minlength=4)[None].astype(float)
        alone = TranscriptCounts.of([HEARD[r] for r in rows], [SAID[r] for r in rows])
        assert got.value(weights)[0] == pytest.approx(alone.value()[0])
        assert got.characters_value(weights)[0] == pytest.approx(alone.characters_value()[0])


def test_empty_references_are_defined():
    assert TranscriptCounts.of(["", ""], ["", ""]).figures()["WER"] == 0.0
    assert TranscriptCounts.of(["a b"], [""]).figures()["WER"] == 2.0  # two words inserted where none was said
    assert TranscriptCounts.of([], []).figures()["CER"] == 0.0
    assert TranscriptCounts.of([""], ["a b"]).figures()["WER"] == 1.0


def test_both_sides_are_normalised_alike_and_by_name():
    assert TranscriptCounts.of(["hello world"], ["Hello,  world!"]).value()[0] == 0.0
    assert TranscriptCounts.of(["hello world"], ["Hello, world"], normaliser="none").value()[0] == 0.5
    assert normalised("  Don’t — stop ‘it’, O'Neill's “DÉJÀ” ﬁne\n", "simple") == "don't stop it o'neill's déjà fine"
    assert normalised("well-known 3.5 €", "simple") == "well known 3 5"
    assert normalised(" As It Is. ", "none") == "As It Is."
    with pytest.raises(RequestError, match="simple"):
        normalised("a", "simpel")


def test_blank_collapse_shows_in_the_figures():
    frames = np.array([[10, 10], [20, 20]])
    got = TranscriptCounts.of(["", ""], ["a b", "c"], frames)
    assert got.figures()["blank rate"] == 1.0
    assert got.figures()["length"] == 0.0
    assert got.silent == 2
    assert TranscriptCounts.of(["", "x"], ["", "y"], frames).silent == 0
