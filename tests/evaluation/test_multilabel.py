import numpy as np
import pytest
import torch

from selftaught.core import DataError, RequestError
from selftaught.data.label_sets import make_label_sets
from selftaught.data.labels import Labels
from selftaught.evaluation import evaluate, finetune, predict
from selftaught.evaluation.choice import Choice
from selftaught.evaluation.embed import embed
from selftaught.evaluation.protocol import prepare
from selftaught.train.finetune import Plan
from tests.evaluation.toys import Linear, Rows, noise

CLASSES = ("bark", "leaf", "moss")


class Tagged(Rows):
    """Rows with several labels: y (N, K) of 0 and 1."""

    def labels(self, column=None, kind=None):
        return Labels(self.y, CLASSES, "tags", "read as a test has it")

    def subset(self, places):
        return Tagged(self.x[places], self.y[places], self.ids[places], fingerprint=self.fingerprint + "part")


def planted(rows: int = 160, key: int = 0):
    """Three hidden causes, of which each row has any number, in twelve dimensions full of louder noise; and the map that sees them."""
    causes = noise(rows, 3, key) > 0.5
    basis = np.linalg.qr(noise(12, 12, 7))[0].astype(np.float32)
    x = (
        np.concatenate([causes * 2.0 + 0.2 * noise(rows, 3, key + 1), 3 * noise(rows, 9, key + 2)], 1).astype(
            np.float32
        )
        @ basis
    )
    encoder = Linear(width=12, hidden=3)
    with torch.no_grad():
        encoder.map.weight.copy_(torch.from_numpy(basis[:3]))
    return Tagged(x, causes.astype(np.int8)), encoder


@pytest.mark.parametrize("mode", ["head", "full"])
def test_finetune_and_predict_give_the_sets_that_were_planted(mode):
    data, encoder = planted()
    plan = Plan(epochs=25, batch=32, lr=0.05, layer_decay=0.5)
    found = finetune(encoder, data, mode=mode, plan=plan)
    assert (found.result["task"], found.result["metric"]) == ("multilabel", "ranking precision")
    test = found.result["test"]
    assert test["map"] > 0.95
    assert test["micro f1"] > 0.9
    assert test["low"] <= test["ranking precision"] <= test["high"]
    assert 0 < found.task.threshold < 1
    assert found.result["threshold"] == found.task.threshold
    table = predict(found, data, probabilities=True)
    rows = table.to_pylist()
    sets = np.array([[name in row["label"] for name in CLASSES] for row in rows])
    assert (sets == data.y).mean() > 0.95
    for row in rows:
        assert row["confidence"] == sorted(row["confidence"], reverse=True)
        assert row["confidence"] == [row[f"p:{name}"] for name in row["label"]]


def test_few_labels_are_so_many_rows_and_without_validation_the_threshold_is_a_half():
    data, encoder = planted()
    rows = finetune(encoder, data, mode="head", labels_per_class=20).result["rows"]
    assert rows["train"] + rows["validation"] == 20
    tiny = finetune(encoder, data, mode="head", labels_per_class=4)
    assert (tiny.task.threshold, tiny.temperature, tiny.result["rows"]["validation"]) == (0.5, 1.0, 0)


def test_evaluate_sees_that_the_causes_help():
    data, encoder = planted(240)
    result = evaluate(encoder, data, budgets=[10], draws=3, seeds=2, controls=("blind", "raw", "untrained"))
    assert result["task"] == "multilabel"
    mean = {(r["features"], r["probe"], r["labels_per_class"]): r["mean"] for r in result["rows"]}
    assert mean["pretrained", "linear", 10] > mean["raw", "linear", 10] > mean["blind", "linear", 10] - 0.1
    assert mean["pretrained", "linear", "all"] > 0.97
    assert mean["pretrained", "knn", "all"] > 0.9
    assert result["verdict"]["answer"] == "helped"
    figures = {one["features"]: one for one in result["figures"]}
    assert figures["pretrained"]["map"] > figures["raw"]["map"] - 0.02
    assert result["retrieval"] == []


def test_a_blind_guess_ranks_by_how_common_classes_are():
    data, encoder = planted(240)
    result = evaluate(encoder, data, budgets=[10], draws=2, seeds=1, controls=("blind", "raw"))
    blind = next(r["mean"] for r in result["rows"] if r["features"] == "blind" and r["labels_per_class"] == "all")
    problem = prepare(data)
    rate = problem.labels.values.mean(0)
    truth = problem.targets[problem.targets.any(1) == 1]
    order = np.argsort(-rate)
    each = []
    for row in truth[:, order]:
        places = np.flatnonzero(row) + 1
        each.append(np.mean([(k + 1) / place for k, place in enumerate(places)]))
    assert blind == pytest.approx(np.mean(each), abs=1e-5)


def test_a_choice_between_encoders_reads_sets_too():
    data, encoder = planted()
    choice = Choice.of(prepare(data), labels=60)
    seen = choice.score(embed(encoder, choice.problem.pool, rows=choice.rows)).mean
    blank = choice.score(noise(60, 12, 77)).mean
    assert 1 >= seen > 0.95 > blank > 0.3


def test_labels_from_python_as_lists_or_columns():
    data, _encoder = planted()
    lists = [[c for c, v in zip(CLASSES, row, strict=True) if v] for row in data.y.tolist()]
    listed = prepare(data, labels=lists)
    assert listed.labels.classes == CLASSES
    columns = prepare(data, labels=data.y, task="multilabel")
    np.testing.assert_array_equal(listed.labels.values, columns.labels.values)
    with pytest.raises(RequestError, match="159 labels"):
        prepare(data, labels=lists[1:])


def test_a_test_set_with_another_class_widens_the_list():
    data, _ = planted()
    other = planted(40, 30)[0]
    names = [
        [*(c for c, v in zip(CLASSES, row, strict=True) if v), *(["new"] if k % 9 == 0 else [])]
        for k, row in enumerate(other.y)
    ]
    labels = make_label_sets(names, "tags")
    other.labels = lambda column=None, kind=None: labels
    problem = prepare(data, test=other)
    assert problem.task.classes == (*CLASSES, "new")
    assert problem.targets.shape == (40, 4)
    assert (problem.labels.values[:, 3] == 0).all()
    other.labels = lambda column=None, kind=None: Labels(np.arange(40) % 2, ("bark", "leaf"), "tags")
    with pytest.raises(DataError, match="several labels a row in one"):
        prepare(data, test=other)


def test_names_that_look_like_several_are_pointed_at():
    data, _ = planted()
    words = [";".join(c for c, v in zip(CLASSES, row, strict=True) if v) or None for row in data.y.tolist()]
    notes = prepare(data, labels=words).notes
    assert any("--task multilabel" in note for note in notes)
    assert prepare(data, labels=words, task="multilabel").labels.classes == CLASSES
