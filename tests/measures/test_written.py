"""ROUGE by known answers and by brute force; BLEU from resampled counts equals sacrebleu on the resampled texts."""

from itertools import combinations

import numpy as np
import pytest

from selftaught.measures.rouge import _common, rouge, sentences, words
from selftaught.measures.written import BleuCounts, RougeScores


def test_rouge_of_known_texts():
    """Lin 2004, section 3: S1 police killed the gunman; S2 police kill the gunman; S3 the gunman kill police."""
    one, two, three = "police killed the gunman", "police kill the gunman", "the gunman kill police"
    assert rouge(two, one)[:3] == pytest.approx([3 / 4, 1 / 3, 3 / 4])
    assert rouge(three, one)[:3] == pytest.approx([3 / 4, 1 / 3, 2 / 4])
    assert rouge(one, one) == pytest.approx([1, 1, 1, 1])
    assert rouge("", one) == pytest.approx([0, 0, 0, 0])
    assert rouge("a a a", "a") == pytest.approx([2 * 1 / 4, 0, 2 * 1 / 4, 2 * 1 / 4])


def test_summary_level_takes_the_union_of_sentences():
    """Lin 2004, section 3.2: of w1 w2 w3 w4 w5, w1 w2 w6 w7 w8 gives w1 w2 and w1 w3 w8 w9 w5 gives w1 w3 w5: four of five words."""
    got = rouge("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5")
    precision, recall = 4 / 10, 4 / 5
    assert got[3] == pytest.approx(2 * precision * recall / (precision + recall))


def test_words_of_other_scripts_are_words():
    assert words("Größe, naïve: ДОМ 東京 3.5!") == ["grösse", "naïve", "дом", "東京", "3", "5"]
    assert rouge("мама мыла раму", "Мама мыла окно")[0] == pytest.approx(2 / 3)
    assert sentences('He left. "Why?" she asked! No 3.5 here') == ["He left.", '"Why?', "she asked!", "No 3.5 here"]


def test_longest_common_subsequence_equals_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(40):
        a, b = (list("".join(rng.choice(list("abc"), rng.integers(0, 8)))) for _ in range(2))
        longest = max(k for k in range(len(b) + 1) if any(_inside(c, a) for c in combinations(b, k)))
        places = _common(a, b)
        assert len(places) == longest
        assert _inside([b[p] for p in places], a)


def _inside(part, whole):
    rest = iter(whole)
    return all(x in rest for x in part)


GUESSES = [
    "the cat sat on the mat .",
    "a dog",
    "",
    "he reads a long book about the old sea",
    "two men walk in the street today",
]
TRUTHS = [
    "the cat sat on a mat .",
    "a big dog runs",
    "nothing",
    "he reads a long book about the sea",
    "two men are walking in the street",
]


def test_bleu_of_resampled_counts_equals_sacrebleu_on_the_resampled_texts():
    sacrebleu = pytest.importorskip("sacrebleu")
    counts = BleuCounts.of(GUESSES, TRUTHS)
    rng = np.random.default_rng(1)
    weights = np.vstack([np.ones(5), rng.multinomial(5, np.full(5, 0.2), size=30), np.eye(5)])
    got = counts.value(weights)
    for weight, value in zip(weights.astype(int), got):
        guesses, truths = (np.repeat(side, weight).tolist() for side in (GUESSES, TRUTHS))
        assert value * 100 == pytest.approx(sacrebleu.metrics.BLEU().corpus_score(guesses, [truths]).score, abs=1e-9)
    figures = counts.figures()
    assert figures["BLEU"] == pytest.approx(got[0])
    assert figures["chrF"] == pytest.approx(sacrebleu.metrics.CHRF().corpus_score(GUESSES, [TRUTHS]).score / 100)


def test_rouge_of_resampled_texts_is_their_mean():
    scores = RougeScores.of(GUESSES, TRUTHS)
    assert scores.value()[0] == pytest.approx(np.mean([rouge(g, t)[2] for g, t in zip(GUESSES, TRUTHS)]))
    assert scores.value(np.eye(5)) == pytest.approx([rouge(g, t)[2] for g, t in zip(GUESSES, TRUTHS)])
    assert next(iter(scores.figures())) == "ROUGE-L"
