import json

import numpy as np
import pytest
import torch

from selftaught import modalities, nets
from selftaught.core import Kept, ModelError, RequestError
from selftaught.data import Dataset
from selftaught.evaluation import finetune, predict
from selftaught.train.finetune import Plan
from tests.evaluation.test_evaluate import planted
from tests.evaluation.toys import Rows, net


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A saved encoder of pictures and labelled data: stripes across, stripes down, chequers; mirroring changes no class."""
    modality = modalities.find("image")(side=8, channels=1, mean=(0.5,), std=(0.25,))
    y = np.arange(120) % 3
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 60, (120, 8, 8, 1), generator=generator).to(torch.uint8).numpy()
    even = np.arange(8) % 4 < 2
    patterns = [even[:, None] & np.ones(8, bool), even & np.ones((8, 1), bool), even[:, None] ^ even]
    x += (90 * np.stack(patterns)[y, :, :, None]).astype(np.uint8)
    data = Dataset.from_arrays(x, modality, labels=[("across", "down", "mixed")[c] for c in y])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nets.build(
            "resnet-small", widths=(8, 8, 8), stem=8, stride=1, patch=3, channels=1, mean=(0.5,), std=(0.25,)
        )
    folder = tmp_path_factory.mktemp("run")
    nets.store.save(folder / "encoder", Kept(encoder), fill=modality.save)
    return folder, data


@pytest.mark.parametrize("mode", ["head", "full", "gradual", "lora"])
def test_finetune_then_predict_from_the_folder(pictures, mode, tmp_path):
    run, data = pictures
    plan = Plan(epochs=18, batch=16, lr=0.02, layer_decay=1.0)
    found = finetune(run, data, mode=mode, plan=plan, out=tmp_path / "model")
    result = found.result
    assert (result["task"], result["mode"], result["metric"]) == ("classify", mode, "accuracy")
    assert sum(result["rows"].values()) == 120
    assert result["test"]["low"] <= result["test"]["accuracy"] <= result["test"]["high"]
    assert json.loads((tmp_path / "model" / "labels.json").read_text())["options"]["classes"] == [
        "across",
        "down",
        "mixed",
    ]
    table = predict(tmp_path / "model", data, probabilities=True)
    assert table.column_names == ["row", "name", "label", "confidence", "p:across", "p:down", "p:mixed"]
    assert table.equals(predict(found, data, probabilities=True))
    p = np.stack([table[f"p:{c}"].to_numpy() for c in ("across", "down", "mixed")], 1)
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(p.max(1), table["confidence"].to_numpy())
    truth = [("across", "down", "mixed")[i % 3] for i in range(120)]
    assert np.mean([a == b for a, b in zip(table["label"].to_pylist(), truth, strict=True)]) > 0.8


def test_head_mode_leaves_the_encoder_and_equals_the_probe(pictures):
    run, data = pictures
    before = nets.store.load_encoder(run).state_dict()
    found = finetune(run, data, mode="head")
    assert all(torch.equal(v, before[k]) for k, v in found.model.encoder.state_dict().items())


def test_few_labels_train_on_no_more_than_that(pictures):
    run, data = pictures
    tiny = finetune(run, data, mode="head", labels_per_class=2)
    assert tiny.result["rows"]["train"] == 6
    assert tiny.result["rows"]["validation"] == 0
    assert tiny.temperature == 1.0
    some = finetune(run, data, mode="full", labels_per_class=10, plan=Plan(epochs=1))
    assert some.result["rows"]["train"] + some.result["rows"]["validation"] == 30
    with pytest.raises(RequestError, match="900 labels a class"):
        finetune(run, data, labels_per_class=900)


def test_confidences_are_calibrated_on_rows_that_were_not_trained_on():
    rows, _ = planted(800, noise_scale=1.0)
    noisy = np.where(np.arange(800) % 3 == 0, np.roll(rows.y, 1), rows.y)
    plan = Plan(epochs=60, batch=64, lr=0.02, layer_decay=1.0, weight_decay=0.0)
    found = finetune(net(width=32, hidden=64), Rows(rows.x, noisy), plan=plan)
    calibration = found.result["calibration"]
    assert calibration["temperature"] == found.temperature > 1
    assert calibration["after"] < calibration["before"]


def test_test_labels_do_not_reach_training():
    rows, _ = planted(200)
    test = planted(60, key=40)[0]
    plan = Plan(epochs=2)
    one, two = (
        finetune(net(width=32), rows, test=Rows(test.x, labels, classes=tuple("0123")), plan=plan).model.state_dict()
        for labels in (test.y, 3 - test.y)
    )
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_numbers(tmp_path):
    rows, encoder = planted(300)
    z = rows.x @ encoder.map.weight.detach().numpy().T
    found = finetune(encoder, Rows(rows.x, (z[:, 0] * 3 + 50).astype(np.float64)), mode="head")
    assert found.result["metric"] == "r2"
    assert found.result["test"]["r2"] > 0.99
    table = predict(found, rows)
    assert table["confidence"].null_count == 300
    assert np.corrcoef(table["label"].to_numpy(), z[:, 0])[0, 1] > 0.99


def test_what_cannot_be_finetuned_is_said(pictures):
    run, data = pictures
    with pytest.raises(RequestError, match="head, full, gradual, lora"):
        finetune(run, data, mode="both")
    with pytest.raises(RequestError, match="trains no head"):
        finetune(run, data, task="cluster")
    with pytest.raises(RequestError, match="cannot learn"):
        finetune(run, data, task="regress")


@pytest.mark.parametrize(
    "broken",
    [
        {"temperature": 0},
        {"temperature": "nan"},
        {"version": 99},
        {"task": "../../etc"},
        {"options": {"classes": ["a"]}},
        {"options": {"classes": "abc"}},
        {"options": {"__class__": 1}},
    ],
)
def test_a_broken_labels_file_is_refused(pictures, tmp_path, broken):
    run, data = pictures
    finetune(run, data, mode="head", out=tmp_path / "m")
    path = tmp_path / "m" / "labels.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **broken}))
    with pytest.raises(ModelError):
        predict(tmp_path / "m", data)


def test_an_encoder_alone_predicts_nothing(pictures):
    run, data = pictures
    with pytest.raises(ModelError, match="without a task"):
        predict(run, data)
