"""SQuAD's scores: known answers in several scripts; shared words against loops."""

import numpy as np
import pytest

from selftaught.measures.answers import compare, normalised, overlap
from selftaught.measures.overlap import CLUES, NEAR, Shared, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Panthers' defense.", ["panthers", "defense"]), ("  AN apple, a day ", ["apple", "day"]), ("$5", ["5"]), ("the", ["the"]), ("%", ["%"]), ("", []),
        ("„Straße“", ["strasse"]), ("Ｆｕｌｌ width", ["full", "width"]), ("北京", ["北", "京"]), ("l'été—fin", ["létéfin"]),
    ],
)  # fmt: skip
def test_what_counts_of_an_answer(text, words):
    assert normalised(text) == words


def test_known_scores():
    assert overlap("the Denver Broncos", "Denver Broncos!") == (1.0, 1.0)
    assert overlap("Denver", "Denver Broncos") == (0.0, pytest.approx(2 / 3))
    assert overlap("to to be", "to be or") == (0.0, pytest.approx(2 * 2 / 6))  # a word counts as often as both have it
    assert overlap("", "x") == (0.0, 0.0)


def test_the_best_true_answer_counts_and_silence_is_right_where_there_is_none():
    found = compare(["Broncos", "", "x", "", "x"], [["Denver Broncos", "broncos"], [], [], ["y"], ["y"]])
    assert found.exact.tolist() == [1, 1, 0, 0, 0]
    assert found.figures()["right where there is none"] == 0.5
    assert found.value(np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]])).tolist() == [1.0, 0.0]


def test_words_and_sentences_of_several_scripts():
    text = "In 1999, 北京x was. No?\nYes"
    assert [text[a:b] for a, b in words_of(text)] == ["In", "1999", "北", "京", "x", "was", "No", "Yes"]
    assert Shared.of(text, "").sentence.tolist() == [0, 0, 0, 0, 0, 0, 1, 2]


def test_shared_words_by_loops():
    text = "The cat sat. A dog reported the cat to the police, and the dog sat."
    shared = Shared.of(text, "Who did the dog report?")
    words = [text[a:b].lower()[:5] for a, b in shared.words]
    weigh = {w: np.log(1 + 1 / words.count(w)) for w in ("the", "dog", "repor")}
    wanted = [weigh.get(w, 0.0) / sum(weigh.values()) for w in words]
    np.testing.assert_allclose(shared.weight, wanted)
    near = [sum(wanted[max(0, n - 2) : n + 3]) for n in range(len(words))]
    np.testing.assert_allclose(shared.near(2), near)
    clues = shared.clues()
    assert clues.shape == (len(words), CLUES)
    assert clues[:, 0].tolist() == [w in weigh for w in words]
    assert clues[:, 5].tolist() == [n >= 3 for n in range(len(words))]  # the second sentence holds most
    assert NEAR == (5, 15)
    assert Shared.of("...", "who").clues().shape == (0, CLUES)
