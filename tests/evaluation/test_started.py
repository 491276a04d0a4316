"""The arm "start": a planted gain and a planted loss are named, and no other model is compared with in its place."""

import json
import shutil

import numpy as np
import pytest
import torch

from selftaught import nets
from selftaught.cli.evaluate import words
from selftaught.core import Kept
from selftaught.evaluation import evaluate
from selftaught.modalities import open_data
from selftaught.nets import store
from tests.train.test_pretrain import Ears

QUICK = {"budgets": [5], "seeds": 1, "controls": ("raw", "untrained")}


@pytest.fixture(scope="module")
def data():
    """Pictures whose class is their left-to-right slope, under noise."""
    rng, y = np.random.default_rng(0), np.arange(240) % 3
    ramp = np.linspace(-1, 1, 8)[None, None, :, None]
    x = 128 + 40 * (y - 1)[:, None, None, None] * ramp + rng.normal(0, 12, (240, 8, 8, 3))
    return np.clip(x, 0, 255).astype(np.uint8), y


def network(good: bool) -> nets.Encoder:
    torch.manual_seed(1)
    encoder = nets.build("resnet-small", widths=(8, 16), blocks=(1, 1), strides=(2, 2), stem=8, mean=(0.5,), std=(0.2,))
    if (
        not good
    ):  # differences of neighbours from top to bottom: a slope from left to right leaves nothing, the noise remains
        with torch.no_grad():
            first = next(p for p in encoder.parameters() if p.ndim == 4)
            sign = torch.sign(first[:, :, 0, 0]).clone()
            first.zero_()
            first[:, :, 0, 0], first[:, :, 1, 0] = sign, -sign
    return encoder.eval()


def run_of(folder, start, end, data):
    modality = open_data(data[0]).modality
    store.save(folder / "encoder", Kept(end), fill=modality.save)
    store.save(folder / "start", Kept(start), fill=modality.save)
    about = {"model": "the model", "fingerprint": store.fingerprint(start), "warnings": []}
    (folder / "data.json").write_text(json.dumps({"start": about}))
    return folder


@pytest.fixture(scope="module")
def hurt(tmp_path_factory, data):
    return run_of(tmp_path_factory.mktemp("hurt"), network(True), network(False), data)


def test_continuing_that_lost_everything_hurt(hurt, data):
    ears = Ears()
    found = evaluate(hurt, data[0], labels=data[1], listener=ears, **QUICK)
    start = found["start"]
    assert start["answer"] == "hurt"
    assert start["sentence"].startswith("Continuing hurt against its start: with ")
    assert start["high"] < 0
    assert "the model, as it was before continuing" in " ".join(ears.said)
    at = start["labels_per_class"]
    scores = {r["features"]: r["mean"] for r in found["rows"] if (r["probe"], r["labels_per_class"]) == ("linear", at)}
    assert start["mean"] == pytest.approx(scores["pretrained"] - scores["start"], abs=1e-5)
    (paired,) = [
        d for d in found["differences"] if (d["b"], d["probe"], d["labels_per_class"]) == ("start", "linear", at)
    ]
    assert (paired["low"], paired["high"]) == (start["low"], start["high"])
    assert words(found).endswith(f"against its start: hurt\n{start['sentence']}")
    json.dumps(found, allow_nan=False)


def test_continuing_that_learned_helped(tmp_path, data):
    run = run_of(tmp_path, network(False), network(True), data)
    start = evaluate(run, data[0], labels=data[1], **QUICK)["start"]
    assert (start["answer"], start["low"] > 0) == ("helped", True)
    assert start["sentence"].startswith("Continuing helped against its start")


def test_continuing_that_changed_nothing_cannot_tell(tmp_path, data):
    run = run_of(tmp_path, network(True), network(True), data)
    start = evaluate([run, run], data[0], labels=data[1], **QUICK)["start"]
    assert (start["answer"], start["mean"]) == ("cannot tell", 0.0)


def test_a_start_that_is_gone_or_changed_is_said_and_not_replaced(hurt, data, tmp_path):
    for change in ("gone", "changed"):
        run = tmp_path / change
        shutil.copytree(hurt, run)
        shutil.rmtree(run / "start")
        if change == "changed":
            shutil.copytree(hurt / "encoder", run / "start")
        ears = Ears()
        found = evaluate(run, data[0], labels=data[1], listener=ears, **QUICK)
        assert found["start"]["answer"] == "not compared"
        assert any("not compared" in text for text in ears.said)
        assert "start" not in {r["features"] for r in found["rows"]}


def test_a_run_that_began_anew_has_no_second_answer(tmp_path, data):
    store.save(tmp_path / "encoder", Kept(network(True)), fill=open_data(data[0]).modality.save)
    (tmp_path / "data.json").write_text("{}")
    found = evaluate(tmp_path, data[0], labels=data[1], **QUICK)
    assert "start" not in found
    assert "against its start" not in words(found)


def test_only_some_of_several_runs_with_a_start_are_not_mixed(hurt, data, tmp_path):
    anew = tmp_path / "anew"
    store.save(anew / "encoder", Kept(network(True)), fill=open_data(data[0]).modality.save)
    found = evaluate([hurt, anew], data[0], labels=data[1], **QUICK)
    assert "Only some of these runs" in found["start"]["sentence"]
