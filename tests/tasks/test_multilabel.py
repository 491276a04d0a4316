import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from selftaught import tasks
from selftaught.core import RequestError
from selftaught.data import make_label_sets
from selftaught.data.labels import Labels
from selftaught.tasks.multilabel import Multilabel, positive_weights

CLASSES = ("a", "b", "c", "d")


@pytest.fixture
def scored():
    rng = np.random.default_rng(1)
    return rng.normal(size=(60, 4)), (rng.random((60, 4)) < 0.3).astype(np.int8)


def test_figures_equal_scikit_learn_and_the_deciding_one_is_a_ratio_of_sums(scored):
    outputs, truth = scored
    task = Multilabel(classes=CLASSES, threshold=0.4)
    guesses = task.predict(outputs)
    np.testing.assert_allclose(guesses, 1 / (1 + np.exp(-outputs)))
    got, some = task.metrics(guesses, truth), truth.any(1)
    assert not some.all()
    given = guesses >= 0.4
    assert next(iter(got)) == task.metric == "ranking precision"
    assert got["ranking precision"] == pytest.approx(
        sk.label_ranking_average_precision_score(truth[some], outputs[some])
    )
    assert got["map"] == pytest.approx(sk.average_precision_score(truth, outputs, average="macro"))
    assert got["micro f1"] == pytest.approx(sk.f1_score(truth, given, average="micro"))
    assert got["macro f1"] == pytest.approx(sk.f1_score(truth, given, average="macro"))
    top, bottom = task.items(guesses, truth)
    assert top.sum() / bottom.sum() == pytest.approx(got["ranking precision"])
    assert (top[~some] == 0).all()
    assert (bottom[~some] == 0).all()


def test_the_loss_is_its_definition(scored):
    outputs, truth = scored
    p = 1 / (1 + np.exp(-outputs))
    weight = np.array([1.0, 2.0, 5.0, 1.0])
    expected = -(weight * truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean()
    task = Multilabel(classes=CLASSES, weights=tuple(weight))
    assert float(task.loss(torch.from_numpy(outputs), torch.from_numpy(truth))) == pytest.approx(expected, rel=1e-5)


def test_rare_classes_weigh_more_but_not_without_bound():
    truth = np.zeros((100, 4), np.int8)
    truth[:25, 0], truth[:1, 1], truth[:80, 2] = 1, 1, 1
    assert positive_weights(truth) == (3.0, 20.0, 1.0, 20.0)
    task = tasks.fit(Labels(truth, CLASSES), balance=True)
    assert task.weights == (3.0, 20.0, 1.0, 20.0)
    with pytest.raises(RequestError, match="several labels"):
        tasks.fit(Labels(np.array([0, 1, 0]), ("a", "b")), balance=True)


def test_the_threshold_is_the_best_of_all():
    rng = np.random.default_rng(3)
    guesses, truth = rng.random((40, 3)).round(2), (rng.random((40, 3)) < 0.3).astype(np.int8)
    task = Multilabel(classes=("a", "b", "c"))
    found = task.best_threshold(guesses, truth)
    f1 = lambda t: sk.f1_score(truth, guesses >= t, average="micro")  # noqa: E731
    assert f1(found) == pytest.approx(max(f1(t) for t in np.linspace(0, 1, 1001)))
    assert task.best_threshold(guesses, np.zeros_like(truth)) == 0.5


def test_the_task_follows_from_the_labels_and_others_are_refused():
    labels = make_label_sets([("a", "b"), (), None, ("a",), ("b",), ("a",)], "tags")
    assert tasks.name_of(tasks.fit(labels)) == "multilabel"
    assert tasks.fit(labels, name="tagging").classes == ("a", "b")
    with pytest.raises(RequestError, match="several a row"):
        tasks.fit(labels, name="classify")
    with pytest.raises(RequestError, match="2 classes"):
        tasks.fit(Labels(np.array([0, 1]), ("a", "b")), name="multilabel")
    for idle in ("retrieve", "cluster"):
        with pytest.raises(RequestError, match="learns from no labels"):
            tasks.fit(labels, name=idle)


def test_draws_are_so_many_rows_nested_and_repeatable():
    labels = Labels((np.arange(120).reshape(40, 3) % 2).astype(np.int8), ("a", "b", "c"))
    task, within = tasks.fit(labels), np.arange(4, 40)
    small, large = (task.draws(labels, within, n, 3, seed=2) for n in (5, 20))
    for a, b in zip(small, large, strict=True):
        assert len(a) == 5
        assert set(a) <= set(b) <= set(within)
    assert len({tuple(d) for d in small}) == 3
