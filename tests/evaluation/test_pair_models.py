"""Finetuning on pairs of texts: the loss, what the epoch is chosen on, what stands beside, what predict writes."""

import csv
import json

import numpy as np
import pytest
import torch
from scipy import stats

from selftaught.core import DataError, Facts, ModelError
from selftaught.data import Aligned, open_source
from selftaught.evaluation import load_model, predict
from selftaught.evaluation.pair_models import finetune_pairs, predict_pairs
from selftaught.evaluation.pairs import prepare
from selftaught.modalities.text import Text
from selftaught.tasks.similarity import Similarity
from selftaught.train import pretrain
from selftaught.train.finetune import Plan
from selftaught.train.pairs import cosines, tune

from ..cli.shell import run as command
from .test_similarity import pairs, sentences

SMALL = {"width": 32, "depth": 1, "heads": 2}
PLAN = Plan(epochs=4, batch=16, lr=3e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two steps on the sentences of the pairs."""
    out = tmp_path_factory.mktemp("pairs") / "run"
    first, second, _ = sentences(160)
    pretrain(
        first + second, method="masked-token", steps=2, out=out, recipe={"batch": 8}, encoder_options=SMALL, size=24
    )
    return out


def table(path, rows: slice, count=160, **more):
    first, second, score = sentences(count)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("one", "two", "score"),
                *zip(first[rows], second[rows], score[rows], strict=True),
                *more.get("further", ()),
            ]
        )
    return str(path)


def test_the_loss_is_the_squared_distance_of_the_cosine_from_the_scaled_number():
    task = Similarity(low=1.0, high=5.0)
    cosine, number = [0.9, -0.2, 0.5], [5.0, 1.0, 2.0]
    wanted = sum((c - (n - 1) / 4) ** 2 for c, n in zip(cosine, number, strict=True)) / 3
    found = task.loss(torch.tensor(cosine, dtype=torch.float64), torch.tensor(number, dtype=torch.float64))
    assert float(found) == pytest.approx(wanted, abs=1e-6)
    np.testing.assert_allclose(task.number([0.0, 1.0, 0.25]), [1.0, 5.0, 2.0])


def test_finetuning_learns_which_word_counts(folder):
    """A pair's number says whether one word of each text is the same; the other words, which bags count as much, say nothing."""
    rng = np.random.default_rng(0)
    fillers = [f"{a}{b}" for a in ("now", "then", "here") for b in ("by", "to", "at", "of", "up", "in")]
    keys = rng.choice(["hen", "fox", "owl"], (300, 2))
    first, second = ([f"{rng.choice(fillers)} {rng.choice(fillers)} {key}" for key in side] for side in keys.T)
    score = (keys[:, 0] == keys[:, 1]) + rng.normal(size=300) * 0.01
    plan = Plan(epochs=8, batch=16, lr=3e-3)
    done = finetune_pairs(folder, {"a": first, "b": second, "score": score}, labels="score", column="a,b", plan=plan)
    (before,) = done.result["frozen"]
    assert before["difference"]["low"] > 0
    assert done.result["test"]["spearman"] == pytest.approx(before["spearman"] + before["difference"]["mean"], abs=1e-9)
    assert {row["name"] for row in done.result["blind"]} == {"shared tokens", "lengths alone"}
    assert done.result["rows"]["test"] == len(done.tally.targets)
    wanted = stats.spearmanr(done.tally.guesses, done.tally.targets).statistic
    assert done.result["test"]["spearman"] == pytest.approx(wanted)


def test_the_epoch_is_the_best_on_pairs_that_share_no_text(folder):
    data = pairs()
    problem = prepare(data, None, "score", 0)
    encoder = load_encoder(data)
    model, history = tune(
        encoder, problem.task, problem.pool, problem.labels, problem.train, problem.validation, plan=PLAN
    )
    scored = [h["spearman"] for h in history.validation]
    assert len(scored) == 4
    assert history.kept == 1 + int(np.argmax(scored))
    held = cosines(model, problem.task, problem.pool, problem.validation)
    assert stats.spearmanr(held, problem.labels[problem.validation]).statistic == pytest.approx(max(scored))
    again, _ = tune(encoder, problem.task, problem.pool, problem.labels, problem.train, problem.validation, plan=PLAN)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def load_encoder(data):
    return data.modality.encoder(Facts(rows=len(data), modality=data.modality), frozenset(), **SMALL)


@pytest.mark.parametrize("mode", ["gradual", "lora"])
def test_other_ways_to_train_move_what_they_should(mode):
    data = pairs(60)
    problem = prepare(data, None, "score", 0)
    encoder = load_encoder(data)
    plan = Plan(epochs=2, batch=16, lr=3e-3, mode=mode)
    model, _ = tune(encoder, problem.task, problem.pool, problem.labels, problem.train, problem.validation, plan=plan)
    before, after = encoder.state_dict(), model.encoder.state_dict()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(p.requires_grad for p in model.encoder.parameters())


def test_from_the_command_line_and_back(folder, tmp_path, capsys):
    train = table(tmp_path / "train.csv", slice(0, 120))
    test = table(tmp_path / "test.csv", slice(120, 160))
    words = ["finetune", str(folder), train, "--test", test, "--task", "similarity", "--column", "one,two"]
    code, out, err = command(capsys, *words, "--labels", "score", "--epochs", "2", "--out", str(tmp_path / "m"))
    assert code == 0, err
    assert "similarity (full): spearman" in out
    assert "the encoder before finetuning: " in out
    assert "blind, shared tokens: " in out
    more = table(tmp_path / "new.csv", slice(0, 5), further=[("", "no first text", 0), ("cat", "cat", 3), ("hen " * 500, "cat", 1)])  # fmt: skip
    code, out, err = command(capsys, "predict", str(tmp_path / "m"), more, "-o", str(tmp_path / "p.jsonl"), "--json")
    assert code == 0, err
    assert json.loads(out) == {"rows": 7, "rejected": 1, "out": str(tmp_path / "p.jsonl")}
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == [0, 1, 2, 3, 4, 6, 7]
    assert rows[5]["cosine"] == pytest.approx(1.0)
    model = load_model(tmp_path / "m")
    assert rows[5]["label"] == pytest.approx(model.task.high)
    assert rows[0]["label"] == pytest.approx(model.task.low + rows[0]["cosine"] * (model.task.high - model.task.low))
    code, out, err = command(capsys, "predict", str(tmp_path / "m"), more)
    assert code == 0, err
    assert "cosine 1.000" in out
    exported = tmp_path / "st"
    code, _, err = command(
        capsys, "export", str(tmp_path / "m"), "--to", "sentence-transformers", "--out", str(exported)
    )
    assert code == 0, err


def test_what_cannot_be_is_refused(folder, tmp_path, capsys):
    train = table(tmp_path / "train.csv", slice(0, 60))
    words = ["finetune", str(folder), train, "--task", "similarity", "--labels", "score"]
    for more, said in (
        (["--mode", "head"], "no head"),
        (["--labels-per-class", "5"], "no classes"),
        (["--column", "one"], "no pair"),
        (["--column", "one,three"], "three"),
        (["--balance"], "--balance is for"),
        (["--curve", "5"], "--curve is for"),
    ):
        code, _, err = command(capsys, *words, *more)
        assert code == 2, (more, err)
        assert said in err
    first, second, _ = sentences(60)
    with pytest.raises(DataError, match="nothing to predict"):
        finetune_pairs(folder, {"a": first, "b": second, "score": [1.0] * 60}, labels="score", column="a,b")
    with pytest.raises(ModelError, match="without a task"):
        predict(folder, train)
    with pytest.raises(ModelError, match="no model of pairs"):
        predict_pairs(folder, train)


def test_pairs_of_one_group_stay_on_one_side():
    first, second, score = sentences(120)
    writer = [f"writer {k // 6}" for k in range(120)]
    source = open_source({"a": first, "b": second, "score": score, "writer": writer})
    columns = {"first": "a", "second": "b"}
    data = Aligned.open(source, columns, Text.fit(open_source(first), "text", size=24))
    problem = prepare(data, None, "score", 0, group="writer")
    sides = [problem.pool.subset(problem.train), problem.pool.subset(problem.validation), problem.test]
    held = [set(side.first.values("writer")) for side in sides]
    assert not (held[0] & held[1]) | (held[0] & held[2]) | (held[1] & held[2])
    assert len(np.unique(problem.groups)) == len(held[2])
