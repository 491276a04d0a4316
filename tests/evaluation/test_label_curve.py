"""ULMFiT's story on text, end to end: a language model on the corpus, then labels: gradually, with discriminative rates and one cycle, against scratch."""

import json

import numpy as np
import pytest

from selftaught.core import RequestError
from selftaught.evaluation import finetune, label_curve, load_model, predict
from selftaught.modalities.text import Text
from selftaught.nets.concat import ConcatPooled
from selftaught.train import pretrain
from selftaught.train.finetune import Plan

from ..cli.shell import run as command

TEXTS, FACTORS = Text.toy(160, 0)
LABELS = [str(k) for k in FACTORS["topic"]]
SMALL = {"encoder_options": {"width": 16, "depth": 2, "heads": 2}, "recipe": {"batch": 16}}


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    out = tmp_path_factory.mktemp("lm") / "run"
    pretrain(TEXTS, method="next-token", steps=4, out=out, **SMALL)
    return out


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "labelled.jsonl"
    path.write_text("\n".join(json.dumps({"text": t, "label": k}) for t, k in zip(TEXTS, LABELS, strict=True)))
    return path


def test_the_curve_sets_both_networks_beside_one_another_in_one_command(language_model, table, capsys):
    code, out, err = command(
        capsys, "finetune", str(language_model), str(table), "--curve", "2", "5", "--draws", "2", "--mode", "gradual", "--epochs", "4",
        "--schedule", "slanted-triangular", "--layer-decay", "0.385", "--pool", "concat", "--json",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    names = {(r["features"], r["probe"], r["labels_per_class"]) for r in found["rows"]}
    assert names == {
        (name, probe, budget)
        for name, probe in (("pretrained", "finetune"), ("scratch", "finetune"), ("raw", "linear"), ("blind", "linear"))
        for budget in (2, 5)
    }
    means = {(r["features"], r["labels_per_class"]): r["mean"] for r in found["rows"]}
    for d in found["differences"]:
        assert d["mean"] == pytest.approx(
            means["pretrained", d["labels_per_class"]] - means[d["b"], d["labels_per_class"]], abs=2e-6
        )
        assert d["low"] <= d["mean"] <= d["high"]
    assert [s["labels_per_class"] for s in found["labels_saved"]] == [2, 5]
    assert all(r["low"] <= r["mean"] <= r["high"] for r in found["rows"])


def test_the_same_draws_and_seeds_give_the_same_curve(language_model, table):
    settings = {"budgets": [2], "draws": 1, "plan": Plan(epochs=1, steps=2)}
    first, second = (label_curve(language_model, str(table), **settings) for _ in range(2))
    assert first == second


def test_a_model_with_concat_pooling_predicts_as_it_was_finetuned(language_model, table, tmp_path):
    plan = Plan(epochs=2, schedule="one-cycle", layer_decay=0.4)
    done = finetune(language_model, str(table), pool="concat", plan=plan, out=tmp_path / "model")
    model = load_model(tmp_path / "model")
    assert isinstance(model.model.encoder, ConcatPooled)
    assert model.model.head.in_features == 48
    ours, theirs = (predict(m, str(table)).column("confidence").to_numpy() for m in (done, tmp_path / "model"))
    np.testing.assert_array_equal(ours, theirs)


def test_a_curve_that_is_none_is_refused(language_model, table, capsys):
    with pytest.raises(RequestError, match="evaluate draws the curve"):
        label_curve(language_model, str(table), budgets=[2], mode="head")
    with pytest.raises(RequestError, match="no curve"):
        label_curve(language_model, str(table), budgets=[])
    with pytest.raises(RequestError, match="way to pool"):
        finetune(language_model, str(table), pool="sum")
    code, _, err = command(
        capsys, "finetune", str(language_model), str(table), "--curve", "2", "--labels-per-class", "3"
    )
    assert code == 2
    assert "--labels-per-class is for a model" in err
