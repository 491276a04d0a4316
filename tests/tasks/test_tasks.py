import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from selftaught import tasks
from selftaught.core import RequestError, random
from selftaught.data.labels import Labels
from selftaught.tasks.classify import Classify
from selftaught.tasks.cluster import Cluster
from selftaught.tasks.regress import Regress


def classes(*names):
    return tuple(names)


def rows(n: int, high: int, key: int = 0) -> np.ndarray:
    return random.integers(key, torch.arange(n), high).numpy()


def test_tasks_are_found_by_name_and_alias():
    assert tasks.names() == [
        "answer", "classify", "cluster", "detect", "frames", "language-model", "multilabel", "regress", "retrieve", "segment", "similarity", "summarise", "tag",
        "transcribe", "translate", "verify",
    ]  # fmt: skip
    assert tasks.find("regression") is Regress
    assert tasks.name_of(Cluster()) == "cluster"
    with pytest.raises(RequestError, match="classify"):
        tasks.find("clasify")


def test_the_task_follows_from_the_labels():
    task = tasks.fit(Labels(np.array([0, 1, 1, 0, -1]), classes("a", "b")))
    assert isinstance(task, Classify)
    assert task.metric == "accuracy"
    lopsided = tasks.fit(Labels(np.repeat([0, 1], [90, 10]), classes("a", "b")))
    assert lopsided.metric == "balanced accuracy"
    numbers = tasks.fit(Labels(np.array([1.0, 3.0, np.nan, 5.0]), None))
    assert (numbers.mean, numbers.scale) == (3.0, pytest.approx(np.std([1, 3, 5])))
    with pytest.raises(RequestError, match="holds numbers"):
        tasks.fit(Labels(np.array([1.0, 2.0]), None), name="classify")
    with pytest.raises(RequestError, match="2 classes"):
        tasks.fit(Labels(np.array([0, 1]), classes("a", "b")), name="regress")
    with pytest.raises(RequestError, match="parts of pictures"):
        tasks.fit(Labels(np.array([0, 1]), classes("a", "b")), name="detect")


@pytest.mark.parametrize("metric", ["accuracy", "balanced accuracy"])
def test_classification_figures_equal_scikit_learn(metric):
    task = Classify(classes=classes("a", "b", "c", "never"), metric=metric)
    truth, guess = np.minimum(rows(200, 5), 2), rows(200, 3, 1)
    got = task.metrics(guess, truth)
    assert got["accuracy"] == pytest.approx(sk.accuracy_score(truth, guess))
    assert got["balanced accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, guess))
    assert got["f1"] == pytest.approx(sk.f1_score(truth, guess, average="macro"))
    assert next(iter(got)) == metric
    top, bottom = task.items(guess, truth)
    assert top.sum() / bottom.sum() == pytest.approx(got[metric])


def test_regression_figures_equal_scikit_learn():
    task = Regress(mean=2.0, scale=3.0)
    truth = random.normal(0, torch.arange(50)).double().numpy() * 3 + 2
    outputs = (truth[:, None] - 2) / 3 + 0.3 * random.normal(1, torch.arange(50), (1,)).numpy()
    guess = task.predict(outputs)
    got = task.metrics(guess, truth)
    assert got["r2"] == pytest.approx(sk.r2_score(truth, guess))
    assert got["mae"] == pytest.approx(sk.mean_absolute_error(truth, guess))
    assert got["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, guess))
    top, bottom = task.items(guess, truth)
    assert top.sum() / bottom.sum() == pytest.approx(got["r2"])
    np.testing.assert_allclose(task.predict(task.encode(truth)[:, None]), truth)


def test_losses_are_the_definitions():
    outputs = random.normal(0, torch.arange(6), (3,))
    truth = torch.tensor([0, 1, 2, 2, 1, 0])
    expected = -torch.log_softmax(outputs.double(), 1)[torch.arange(6), truth].mean()
    assert float(Classify(classes=classes("a", "b", "c")).loss(outputs, truth)) == pytest.approx(
        float(expected), rel=1e-5
    )
    numbers = torch.tensor([1e6, 1e6 + 2], dtype=torch.float64)
    loss = Regress(mean=1e6 + 1, scale=1.0).loss(torch.zeros(2, 1), numbers)
    assert float(loss) == pytest.approx(1.0)


def test_a_new_head_says_nothing():
    head = Classify(classes=classes("a", "b")).head(5)
    assert torch.equal(head(torch.ones(3, 5)), torch.zeros(3, 2))
    assert Regress().head(5).out_features == 1


def test_draws_are_balanced_nested_and_repeatable():
    labels = Labels(np.where(rows(300, 10, 3) < 1, -1, rows(300, 4)), classes("a", "b", "c", "d"))
    task, within = tasks.fit(labels), np.flatnonzero(labels.known)[:250]
    small, large = (task.draws(labels, within, n, 10, seed=5) for n in (3, 8))
    assert all(np.array_equal(a, b) for a, b in zip(small, task.draws(labels, within, 3, 10, seed=5), strict=True))
    assert len({tuple(d) for d in small}) == 10
    for a, b in zip(small, large, strict=True):
        assert np.array_equal(np.bincount(labels.values[a]), [3] * 4)
        assert set(a) <= set(b) <= set(within)


def test_a_scarce_class_gives_all_it_has():
    labels = Labels(np.repeat([0, 1, 2], [50, 50, 2]), classes("a", "b", "rare"))
    task = tasks.fit(labels)
    for draw in task.draws(labels, np.arange(102), 5, 4, seed=0):
        assert np.array_equal(np.bincount(labels.values[draw]), [5, 5, 2])
    (everything,) = task.draws(labels, np.arange(102), 80, 1, seed=0)
    assert np.array_equal(everything, np.arange(102))


def test_draws_of_numbers_are_that_many_rows():
    labels = Labels(np.linspace(0, 1, 40), None)
    task, within = tasks.fit(labels), np.arange(5, 35)
    small, large = (task.draws(labels, within, n, 3, seed=1) for n in (4, 12))
    for a, b in zip(small, large, strict=True):
        assert len(a) == 4
        assert set(a) <= set(b) <= set(within)


def test_clustering_trains_no_head_and_scores_by_matching():
    truth = np.repeat([0, 1, 2], 20)
    features = np.eye(3)[truth] * 5 + random.normal(0, torch.arange(60), (3,)).numpy() * 0.1
    task = Cluster(k=3)
    found = task.assign(features)
    assert task.metrics(found, truth)["accuracy"] == 1.0
    assert task.items(found, truth)[0].sum() == 60
    with pytest.raises(RequestError, match="no head"):
        task.head(4)
