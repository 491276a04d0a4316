"""`compare`: the field is halved by few labels, test rows choose nothing, and a comparison goes on where it stopped."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from selftaught import train
from selftaught.core import DataError, RequestError
from selftaught.core.listener import Listener
from selftaught.data import splits
from selftaught.data.dataset import Dataset
from selftaught.evaluation import compare
from selftaught.evaluation.choice import Choice
from selftaught.evaluation.conclusion import recommend
from selftaught.evaluation.contest import Arm, rungs
from selftaught.evaluation.ledger import Ledger, file_name
from selftaught.evaluation.protocol import prepare
from selftaught.evaluation.statistics import Interval
from selftaught.modalities import open_data
from selftaught.report import comparison

TINY = {
    "encoder": "resnet-small",
    "encoder_options": {"widths": (8, 16), "blocks": (1, 1), "strides": (2, 2), "stem": 8},
}
ARMS = ["simclr", "byol", "rotation", "jigsaw", "simclr:temperature=0.5"]
SMALL = {"steps": 8, "choose_with": 100, "draws": 3, "recipe": {"batch": 32}, **TINY}


class Ears(Listener):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def digits() -> tuple[Dataset, np.ndarray]:
    data = load_digits()
    images = (data.images[:500] * 15.9).astype(np.uint8)
    return open_data(images), data.target[:500]


@pytest.fixture(scope="module")
def found(digits, tmp_path_factory):
    data, labels = digits
    out, ears = tmp_path_factory.mktemp("found") / "comparison", Ears()
    return compare(data, labels=labels, methods=ARMS, seeds=2, out=out, listener=ears, **SMALL), out, ears.said


def test_the_field_is_halved_twice_by_the_few_label_score(found):
    result, _, said = found
    rounds = {}
    for cell in result["choice"]:
        if cell["budget"] and cell["seed"] == 0:
            rounds.setdefault(cell["budget"], {})[cell["arm"]] = cell.get("mean", -1)
    assert [len(r) for r in rounds.values()] == [5, 2, 1]
    assert list(rounds) == [2, 4, 8]
    for now, then in zip(list(rounds.values())[:-1], list(rounds.values())[1:], strict=True):
        assert set(then) == set(sorted(now, key=lambda arm: -now[arm])[: len(then)])
    assert any("go on" in line for line in said)


def test_an_arm_that_cannot_be_trained_is_told_and_the_others_go_on(found):
    (failed,) = [c for c in found[0]["choice"] if "failed" in c]
    assert failed["arm"] == "jigsaw"
    assert "too small" in failed["failed"]


def test_the_result_has_the_stable_shape_and_a_page(found, tmp_path):
    result, out, _ = found
    for row in result["rows"]:
        assert row.keys() == {"features", "method", "seconds", "probe", "layer", "labels_per_class", "mean", "low", "high", "draws", "seeds"}  # fmt: skip
        assert row["low"] <= row["mean"] <= row["high"]
    names = {row["features"] for row in result["rows"]}
    assert {"raw", "untrained"} <= names
    assert len(names) == 3
    assert result["recommendation"].keys() >= {"method", "sentence"}
    assert result["recommendation"]["method"] in names
    assert {r["seeds"] for r in result["rows"] if r["features"] not in ("raw", "untrained")} == {2}
    assert json.loads((out / "compare.json").read_text())["result"] == json.loads(json.dumps(result))
    page = comparison(result, tmp_path / "page.html").read_text()
    assert "Quality against time" in page
    assert "jigsaw" in page
    assert "http://" not in page
    assert "https://" not in page


def test_the_table_is_of_the_verdicts_budget_and_of_neighbours_all_labels_where_asked(digits, found):
    data, labels = digits
    result, out, _ = found
    budgets = {(r["probe"], r["labels_per_class"]) for r in result["rows"]}
    assert len(budgets) == 2
    assert ("knn", "all") in budgets
    more = compare(data, labels=labels, methods=ARMS, seeds=2, out=out, all_labels=True, **SMALL)
    assert {(r["probe"], r["labels_per_class"]) for r in more["rows"]} == budgets | {("linear", "all")}
    assert [r for r in more["rows"] if (r["probe"], r["labels_per_class"]) in budgets] == result["rows"]


def test_the_same_request_again_trains_nothing(digits, found, monkeypatch):
    data, labels = digits
    result, out, _ = found
    monkeypatch.setattr(train, "pretrain", lambda *a, **k: pytest.fail("trained again"))
    again = compare(data, labels=labels, methods=ARMS, seeds=2, out=out, **SMALL)
    assert json.dumps(again) == json.dumps(result)


def test_a_comparison_that_was_cut_off_ends_in_the_same_scores(digits, found, tmp_path, monkeypatch):
    data, labels = digits
    honest, calls = train.pretrain, iter(range(100))

    def cut(*a, **k):
        if next(calls) == 2:
            honest(*a, **k, stop=lambda: True)  # a run that was told to leave
            raise KeyboardInterrupt
        return honest(*a, **k)

    monkeypatch.setattr(train, "pretrain", cut)
    with pytest.raises(KeyboardInterrupt):
        compare(data, labels=labels, methods=ARMS, seeds=2, out=tmp_path / "c", **SMALL)
    monkeypatch.setattr(train, "pretrain", honest)
    again = compare(data, labels=labels, methods=ARMS, seeds=2, out=tmp_path / "c", **SMALL)
    strip = lambda result: [{k: v for k, v in r.items() if k != "seconds"} for r in result["rows"]]  # noqa: E731
    assert strip(again) == strip(found[0])


def test_an_arm_that_is_added_later_trains_alone_and_stands_beside_the_others(digits, tmp_path, monkeypatch):
    data, labels = digits
    once = compare(data, labels=labels, methods=["simclr", "rotation"], whole=True, out=tmp_path / "once", **SMALL)
    compare(data, labels=labels, methods=["simclr"], whole=True, out=tmp_path / "c", **SMALL)
    trained, honest = [], train.pretrain
    monkeypatch.setattr(train, "pretrain", lambda *a, **k: (trained.append(k["method"]), honest(*a, **k))[1])
    joined = compare(data, labels=labels, methods=["simclr", "rotation"], whole=True, out=tmp_path / "c", **SMALL)
    assert trained == ["rotation"]
    strip = lambda rows: [{k: v for k, v in r.items() if k != "seconds"} for r in rows]  # noqa: E731
    assert strip(joined["rows"]) == strip(once["rows"])
    assert joined["differences"] == once["differences"]


def test_a_test_set_of_ones_own_is_the_table_and_is_never_pretrained_on(digits, tmp_path):
    data, labels = digits
    rows, parts = data.modality, []
    for some in (np.arange(350), np.arange(350, 500)):
        parts.append(Dataset.from_arrays(data.rows(some), rows, columns={"label": labels[some]}))
    settings = {**SMALL, "methods": ["simclr"], "budgets": (2, 5), "out": tmp_path / "c"}
    result = compare(parts[0], test=parts[1], **settings)
    assert result["test_rows"] == 150
    assert {r["labels_per_class"] for r in result["rows"] if r["probe"] == "linear"} == {2, 5}
    run = next((tmp_path / "c" / "runs").iterdir())
    assert json.loads((run / "data.json").read_text())["rows"] == 350


def test_methods_of_two_kinds_of_encoder_have_an_untrained_one_each(digits, tmp_path):
    data, labels = digits
    settings = {k: v for k, v in SMALL.items() if k not in TINY} | {"steps": 1}
    result = compare(data, labels=labels, methods=["rotation", "mae"], out=tmp_path / "c", **settings)
    assert {r["features"] for r in result["rows"]} == {
        "rotation",
        "mae",
        "raw",
        "untrained resnet-small",
        "untrained vit",
    }
    gaps = {(d["a"], d["b"], d["probe"], d["labels_per_class"]): d["mean"] for d in result["differences"]}
    means = {(r["features"], r["probe"], r["labels_per_class"]): r["mean"] for r in result["rows"]}
    for (a, b, probe, budget), gap in gaps.items():
        assert gap == pytest.approx(means[a, probe, budget] - means[b, probe, budget], abs=2e-6)


def test_damaged_scores_are_measured_again(digits, tmp_path):
    data, labels = digits
    settings = {**SMALL, "methods": ["simclr"], "out": tmp_path / "c"}
    first = compare(data, labels=labels, **settings)
    for file in (tmp_path / "c" / "scores").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert json.dumps(compare(data, labels=labels, **settings)) == json.dumps(first)


def test_another_request_in_the_same_folder_is_refused(digits, found, tmp_path):
    data, labels = digits
    with pytest.raises(RequestError, match="another seed"):
        compare(data, labels=labels, methods=["simclr"], seed=3, out=found[1], **SMALL)
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(RequestError, match="holds other files"):
        compare(data, labels=labels, methods=["simclr"], out=tmp_path, **SMALL)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "compare.json").write_text("{broken")
    with pytest.raises(DataError, match="is no comparison"):
        Ledger(tmp_path / "b", {})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": ["simclear"]}, "simclr"),
        ({"methods": ["simclr:heat=1"]}, "heat"),
        ({"methods": []}, "no method"),
        ({"seeds": 0}, "too little"),
        ({"choose_with": 5}, "too little"),
    ],
)
def test_wrong_requests_say_so_before_anything_is_trained(digits, tmp_path, wrong, message):
    data, labels = digits
    with pytest.raises(RequestError, match=message):
        compare(data, labels=labels, out=tmp_path / "c", **{**SMALL, "methods": ["simclr"], **wrong})
    assert not (tmp_path / "c").exists()


# the choice --------------------------------------------------------------------------------------------------------


def problem_of(digits):
    data, labels = digits
    return prepare(data, labels=labels, held=splits.hold_out(data, 0.2)[1])


def test_choice_takes_few_rows_balanced_none_of_them_tested(digits):
    problem = problem_of(digits)
    choice = Choice.of(problem, labels=100)
    assert len(choice.rows) == 100
    assert set(np.bincount(problem.labels.values[choice.rows])) == {10}
    assert not set(problem.pool.ids[choice.rows]) & set(problem.test.ids)
    for f in range(choice.fold.max() + 1):
        assert set(np.bincount(problem.labels.values[choice.rows[choice.fold == f]], minlength=10)) <= {2, 3, 4}


def test_choice_scores_rows_by_read_outs_that_have_not_seen_them(digits):
    """Features that hold nothing but each row's own label in code that no other row shares are worth nothing; features of the class are perfect."""
    choice = Choice.of(problem_of(digits), labels=100)
    classes = choice.problem.labels.values[choice.rows]
    assert choice.score(np.eye(10)[classes].astype(np.float32)).mean == 1
    assert choice.score(np.eye(100, dtype=np.float32)).mean < 0.35
    again = choice.score(np.eye(100, dtype=np.float32))
    assert np.array_equal(again.numerator, choice.score(np.eye(100, dtype=np.float32)).numerator)


def test_choice_of_numbers_is_r2(digits):
    data, labels = digits
    noise = torch.randn(500, generator=torch.Generator().manual_seed(0)).numpy()
    problem = prepare(data, labels=labels + 0.001 * noise, task="regress", held=splits.hold_out(data, 0.2)[1])
    choice = Choice.of(problem, labels=100)
    wanted = problem.labels.values[choice.rows][:, None].astype(np.float32)
    assert choice.score(wanted).mean > 0.99
    assert choice.score(np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)).mean < 0.2


# rounds and words --------------------------------------------------------------------------------------------------


def test_rounds():
    assert rungs(3, 4.0, False) == [4.0]
    assert rungs(8, 4.0, False) == [1.0, 2.0, 4.0]
    assert rungs(8, 4.0, True) == [4.0]


def test_arms_are_methods_with_options():
    arm = Arm.of("smt:preset=quick")
    assert (arm.method, arm.options, file_name(arm.name)) == (
        "sparse-manifold",
        {"preset": "quick"},
        "smt-preset=quick",
    )


def test_words_say_no_more_than_the_interval():
    ahead, open_ = Interval(0.05, 0.02, 0.08), Interval(0.01, -0.02, 0.04)
    assert "surely more than byol" in recommend("simclr", "byol", 0.7, ahead, True, 500, ["raw"])
    assert "not surely ahead of byol" in recommend("simclr", "byol", 0.7, open_, False, 500, ["raw"])
    assert "which costs nothing" in recommend("simclr", "raw", 0.7, open_, False, 500, ["raw"])
    assert recommend("raw", "byol", 0.7, ahead, True, 500, ["raw"]).startswith("Take no pretext task")
