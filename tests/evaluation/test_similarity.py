"""Pairs of texts: the cosine without labels, the probe with all, controls beside, and no text on both sides."""

import csv
import json

import numpy as np
import pytest
import torch
from scipy import stats

from selftaught.core import Encoder, RequestError
from selftaught.data import Aligned, open_source
from selftaught.evaluation.pairs import prepare, shared_texts
from selftaught.evaluation.similarity import similarity
from selftaught.modalities.text import Text
from selftaught.tasks.similarity import Similarity
from selftaught.train import pretrain

from ..cli.shell import run as command

SUBJECTS, VERBS, THINGS = (
    ("cat", "dog", "hen", "fox", "owl"),
    ("eats", "sees", "finds"),
    ("bread", "grass", "milk", "corn"),
)


def sentences(count: int, seed: int = 0):
    """Pairs of sentences and how many of their three words they share."""
    rng = np.random.default_rng(seed)
    first, second, score = [], [], []
    for number in range(count):
        words = [[rng.choice(some) for some in (SUBJECTS, VERBS, THINGS)] for _ in range(2)]
        a, b = (
            f"the {s} number {number} {v} the {t} {side}"
            for (s, v, t), side in zip(words, ("now", "then"), strict=True)
        )
        first.append(a)
        second.append(b)
        score.append(float(sum(x == y for x, y in zip(*words, strict=True))) + rng.normal() * 0.01)
    return first, second, score


def pairs(count=120, seed=0) -> Aligned:
    first, second, score = sentences(count, seed)
    kind = Text.fit(open_source([*first, *second]), "text", size=24)
    source = open_source({"a": first, "b": second, "score": score})
    return Aligned.open(source, {"first": "a", "second": "b"}, kind)


class Bag(Encoder):
    """Counts of each token: knows which words two sentences share."""

    kind = "bag"
    modality = "text"
    vocabulary: int = 8

    def __post_init__(self):
        self.scale = torch.nn.Parameter(torch.ones(self.vocabulary))

    @property
    def dim(self):
        return self.vocabulary

    def forward(self, view):
        weight = (view["valid"] & (view["ids"] >= 4)).float()
        return torch.zeros(len(view), self.vocabulary).scatter_add(1, view["ids"], weight) * self.scale


def test_the_figures_are_scipys_on_the_test_pairs_and_the_probe_may_not_see_them():
    data = pairs()
    bag = Bag(vocabulary=data.modality.vocabulary)
    result = similarity(bag, data, labels="score", seeds=2)
    problem = prepare(data, None, "score", 0)
    with torch.no_grad():
        u, v = (
            bag(
                data.modality.plain(None)(
                    problem.test.parts[r].fetch(np.arange(len(problem.test))), draw(len(problem.test))
                )
            )
            for r in ("first", "second")
        )
    cosine = torch.nn.functional.cosine_similarity(u.double(), v.double()).numpy().round(12)
    (row,) = [r for r in result["rows"] if (r["features"], r["probe"]) == ("pretrained", "cosine")]
    assert row["mean"] == pytest.approx(stats.spearmanr(cosine, problem.targets).statistic, abs=1e-6)
    assert row["low"] < row["mean"] < row["high"]
    (figure,) = [f for f in result["figures"] if (f["features"], f["probe"]) == ("pretrained", "cosine")]
    assert figure["pearson"] == pytest.approx(stats.pearsonr(cosine, problem.targets).statistic, abs=1e-6)
    names = {(r["features"], r["probe"]) for r in result["rows"]}
    assert {("untrained", "linear"), ("raw", "cosine"), ("pretrained", "linear")} <= names
    assert result["verdict"]["answer"] in ("helped", "hurt", "cannot tell")
    assert f"on {len(problem.targets)} test pairs" in result["verdict"]["sentence"]


def draw(rows):
    from selftaught.core import Draw

    return Draw(torch.arange(rows))


def test_features_do_not_depend_on_the_order_of_a_pair():
    u, v = np.random.default_rng(0).normal(size=(2, 5, 3))
    task = Similarity()
    np.testing.assert_array_equal(task.features(u, v), task.features(v, u))
    np.testing.assert_allclose(task.features(u, v)[:, 3:], u * v)
    assert task.cosine(u, np.zeros_like(v)).tolist() == [0] * 5
    assert task.cosine(u, 3 * u) == pytest.approx(np.ones(5))


def test_no_text_stands_on_both_sides():
    contents = [np.array(["a", "c", "e", "x"], object), np.array(["b", "a", "f", "f"], object)]
    groups = shared_texts(contents)
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]
    assert groups[0] != groups[2]
    first, second, score = sentences(60)
    first[:20] = [first[0]] * 20
    source = open_source({"a": first, "b": second, "score": score})
    data = Aligned.open(source, {"first": "a", "second": "b"}, Text.fit(open_source(first), "text", size=24))
    problem = prepare(data, None, "score", 0)
    sides = [problem.pool.subset(problem.train), problem.pool.subset(problem.validation), problem.test]
    held = [set(side.contents("first")) | set(side.contents("second")) for side in sides]
    assert not held[0] & held[1]
    assert not (held[0] | held[1]) & held[2]


def test_a_run_is_evaluated_on_pairs_from_the_command_line(capsys, tmp_path):
    first, second, score = sentences(100)
    for name, rows in (("train", slice(0, 70)), ("test", slice(70, 100))):
        with open(tmp_path / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows(
                [("one", "two", "score"), *zip(first[rows], second[rows], score[rows], strict=True)]
            )
    run = tmp_path / "run"
    pretrain(
        first + second,
        method="tsdae",
        steps=2,
        out=run,
        recipe={"batch": 8},
        encoder_options={"width": 16, "depth": 1, "heads": 2},
    )
    words = ["evaluate", str(run), str(tmp_path / "train.csv"), "--task", "similarity"]
    code, out, err = command(
        capsys, *words, "--test", str(tmp_path / "test.csv"), "--labels", "score", "--columns", "one", "two", "--seeds", "2", "--json"
    )  # fmt: skip
    assert code == 0, err
    result = json.loads(out)
    assert result["task"] == "similarity"
    assert result["test_rows"] == 30
    assert {r["features"] for r in result["rows"]} == {"pretrained", "untrained", "raw", "embeddings"}
    assert json.loads((run / "evaluation.json").read_text()) == result
    code, _, err = command(capsys, *words, "--robustness")
    assert code == 2
    assert "--robustness is for tasks of rows" in err


def test_columns_that_are_no_pair_are_refused():
    data = {
        "a": ["one text of it", "two texts of it"],
        "b": ["x y z z y", "z z y x x"],
        "c": ["w w w w", "v v v v v"],
        "score": [1.0, 2.0],
    }
    bag = Bag(vocabulary=300)
    with pytest.raises(RequestError, match="columns of texts"):
        similarity(bag, data)
    with pytest.raises(RequestError, match="no pair"):
        similarity(bag, data, columns=("a", "a"))
