"""What texts are set against: TF-IDF equals scikit-learn's, a bag of n-grams learns, and the verdict says who wins."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from selftaught import modalities, nets
from selftaught.core import random
from selftaught.evaluation import evaluate, texts
from selftaught.evaluation.opening import read_again
from selftaught.evaluation.protocol import prepare
from selftaught.measures.topics import topics

GOOD, BAD, REST = ["great", "fine", "lovely", "superb"], ["dull", "poor", "awful", "weak"], ["film", "story", "actor", "scene", "music", "camera"]  # fmt: skip


def reviews(rows: int) -> tuple[list[str], list[str]]:
    draw = random.integers(random.key("reviews"), torch.arange(rows), 1000, (12,)).numpy()
    labels = ["good" if n % 2 else "bad" for n in range(rows)]
    found = []
    for n, row in enumerate(draw):
        words = [(GOOD if n % 2 else BAD)[row[0] % 4], *(REST[k % 6] for k in row[1:]), f"number{n}"]
        found.append(" ".join(words[k] for k in np.argsort(row[: len(words)], kind="stable")))
    return found, labels


@pytest.fixture(scope="module")
def problem():
    found, labels = reviews(200)
    data = modalities.open_data({"text": found, "label": labels}, modality="text", column="text", size=16)
    return prepare(data)


def test_whole_texts_come_back_in_order(problem):
    found, _ = reviews(200)
    held = texts.Texts.of(problem)
    assert held.test == [found[i] for i in problem.test.ids]


def test_a_draw_has_the_outputs_of_scikit_learn(problem, monkeypatch):
    found, rows = texts.TfIdf(problem), problem.probe_train[:40]
    rows = np.sort(rows)
    monkeypatch.setattr(texts, "read_outs", _one_strength)
    (got,) = texts._of_draw(problem, found.pool, [found.test], rows, 0)
    # two opposite vectors pay half of the penalty of the one that scikit-learn has for two classes
    wanted = LogisticRegression(C=0.1 * texts.STRETCH**2 * 2, tol=1e-8, max_iter=1000)
    wanted.fit(found.pool[rows], problem.labels.values[rows])
    np.testing.assert_allclose(got[:, 1] - got[:, 0], wanted.decision_function(found.test), atol=2e-2)


def _one_strength(task, features, targets, draws, *, scale, key, groups=None):
    from selftaught import measures

    return measures.fit_draws(features, targets, draws, classes=task.outputs, scale=scale, key=key, groups=groups, grid=(1e-1,))  # fmt: skip


def test_tf_idf_is_fitted_on_training_texts_alone(problem):
    held = texts.Texts.of(problem)
    made = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit([held.pool[r] for r in problem.probe_train])  # fmt: skip
    found = texts.TfIdf(problem, held)
    np.testing.assert_allclose(found.test.toarray(), made.transform(held.test).toarray(), atol=1e-12)
    scored = found.probed({2: [problem.probe_train[:8]]})
    assert scored.scores["linear", "all"].mean > 0.9
    assert scored.scores["linear", 2].numerator.shape == (1, 1, len(problem.targets))
    fold = np.arange(60) % 5
    assert found.chosen(np.sort(problem.everything[:60]), fold, 0).mean > 0.8


def test_a_bag_of_n_grams_learns_and_is_the_same_again(problem):
    held, draws = texts.Texts.of(problem), {"all": []}
    first, second = (texts.fasttext(problem, held, draws) for _ in range(2))
    assert first.scores["finetune", "all"].mean > 0.85
    assert np.array_equal(first.scores["finetune", "all"].numerator, second.scores["finetune", "all"].numerator)
    assert len(texts.hashed("a b c")) == 5
    assert len(texts.hashed("")) == 1
    assert texts.hashed("A b")[0] == texts.hashed("a c")[0]


def test_topics_by_hand():
    rows = ["apple pie apple", "apple tart", "car road", "car wheel road", "unique"]
    found = topics(rows, np.array([0, 0, 1, 1, 1]))
    assert found[0] == ["apple"]
    assert sorted(found[1]) == ["car", "road"]
    assert topics(["", "x"], np.array([3, 4])) == {3: [], 4: []}


def test_the_verdict_names_what_wins_and_clusters_say_what_they_speak_of(problem):
    found, labels = reviews(160)
    data = modalities.open_data({"text": found, "label": labels}, modality="text", column="text", size=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nets.build(
            "text-transformer", vocabulary=data.modality.vocabulary, context=16, width=8, depth=1, heads=1
        )
        other = nets.build("text-transformer", vocabulary=300, context=16, width=8, depth=1, heads=1)
    small = modalities.find("text").fit(data.source, "text", size=16, tokenizer="bytes")
    result = evaluate(encoder, data, budgets=[4], draws=2, seeds=2, controls=("untrained", "tf-idf", "fasttext"), shelf={"bytes": (other, small)})  # fmt: skip
    names = {row["features"] for row in result["rows"]}
    assert {"tf-idf", "fasttext", "shelf:bytes"} <= names
    assert {"pretrained - tf-idf"} <= {f"{d['a']} - {d['b']}" for d in result["differences"]}
    assert sum(t["rows"] for t in result["topics"]) == len(range(32))
    assert all(t["words"] for t in result["topics"] if t["rows"] > 5)
    gap = next(d for d in result["differences"] if d["b"] == "tf-idf" and d["labels_per_class"] == 4)
    if gap["high"] < 0:
        assert "take that" in result["verdict"]["sentence"]


def test_rows_are_read_again_with_another_tokenizer(problem):
    small = modalities.find("text").fit(problem.pool.source, "text", size=16, tokenizer="bytes")
    again = read_again(problem.test, small)
    found = [small.text_of(row) for row in (again.rows([k]).values.numpy() for k in range(len(again)))]
    assert found == texts.texts_of(problem.test)
    assert read_again(problem.test, None) is problem.test
