"""Detection and segmentation from a run to predictions: folders as people have them, a borrowed backbone, models that come back whole."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from selftaught import nets
from selftaught.cli import main
from selftaught.core import DataError, Kept, ModelError, RequestError
from selftaught.evaluation import finetune, load_model, predict
from selftaught.evaluation.dense import DenseFinetuned, finetune_dense, load_dense
from selftaught.modalities import find
from selftaught.nets import store
from selftaught.train import pretrain
from selftaught.train.dense import predictions
from selftaught.train.finetune import Plan

from ..scenes import coco_folder, mask_folder, scene

PLAN = Plan(epochs=3, batch=4, lr=4e-3)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with "run" (an encoder as pretraining leaves it), "coco", "masks" and test sets of both."""
    root = tmp_path_factory.mktemp("dense")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nets.build("resnet-small", widths=(8, 16), blocks=(1, 1), strides=(1, 2), stem=8).eval()
    store.save(root / "run", Kept(encoder), fill=find("image")(side=32).save)
    coco_folder(root / "coco", rows=20)
    coco_folder(root / "coco-test", rows=6, first=50)
    mask_folder(root / "masks", rows=20)
    mask_folder(root / "masks-test", rows=6, first=50)
    return root


@pytest.fixture(scope="module")
def models(work):
    """{"detect", "segment"} finetuned for three epochs."""
    detect = finetune_dense(
        work / "run", work / "coco", task="detect", test=work / "coco-test", plan=PLAN, out=work / "detector"
    )
    segment = finetune_dense(
        work / "run", work / "masks", task="segment", mode="head", plan=PLAN, out=work / "segmenter"
    )
    return {"detect": detect, "segment": segment}


def test_results_say_what_was_scored(models):
    result = models["detect"].result
    assert (result["task"], result["metric"], result["mode"]) == ("detect", "mAP", "full")
    assert result["rows"] == {"train": 16, "validation": 4, "test": 6}
    assert result["test"]["low"] <= result["test"]["mAP"] <= result["test"]["high"]
    assert {"AP50", "AP75", "AP disc", "AP square"} <= set(result["test"])
    segment = models["segment"].result
    assert segment["rows"] == {"train": 13, "validation": 3, "test": 4}
    assert {"pixel accuracy", "IoU ground", "IoU disc"} <= set(segment["test"])
    assert segment["test"]["low"] <= segment["test"]["mIoU"] <= segment["test"]["high"]
    json.dumps([result, segment])


@pytest.mark.parametrize(
    ("task", "folder", "data"), [("detect", "detector", "coco-test"), ("segment", "segmenter", "masks-test")]
)
def test_a_saved_model_answers_as_before(models, work, task, folder, data):
    again = load_model(work / folder)
    assert isinstance(again, DenseFinetuned)
    assert again.task.classes == models[task].task.classes
    assert vars(again.task) == vars(models[task].task)
    assert again.canvas == models[task].canvas
    first, second = predict(models[task], work / data), predict(work / folder, work / data)
    assert first.equals(second)
    assert first.num_rows > 0


def test_found_objects_lie_in_the_pictures_own_pixels(models, work, tmp_path):
    wide = tmp_path / "wide"
    wide.mkdir()
    Image.fromarray(scene(60)[0]).resize((160, 128)).save(wide / "a.png")
    Image.fromarray(scene(60)[0]).save(wide / "b.png")
    (wide / "broken.png").write_bytes(b"nothing")
    table = predict(models["detect"], wide)
    assert table.schema.metadata[b"rejected"] == b"1"
    rows = table.to_pylist()
    large = [r for r in rows if r["name"] == "a.png"]
    assert max(r["x"] + r["width"] for r in large) > 45
    assert all(
        r["x"] >= 0 and r["x"] + r["width"] <= 160.001 and r["y"] >= 0 and r["y"] + r["height"] <= 128.001
        for r in large
    )
    assert all(r["x"] + r["width"] <= 40.001 for r in rows if r["name"] == "b.png")
    assert {r["category_id"] for r in rows} <= {3, 7}


def test_predicted_masks_hold_the_values_of_the_training_masks(models, work):
    table = predict(models["segment"], work / "masks-test")
    held = load_dense(work / "segmenter")
    from selftaught.data.masks import open_masks
    from selftaught.modalities.canvas import Annotated

    source, column, masks = open_masks(work / "masks-test")
    data = Annotated.of(source, column, held.canvas, masks)
    codes = predictions(held.model, held.task, data, np.arange(6))
    for row, wanted in zip(table.to_pylist(), codes, strict=True):
        picture = Image.open(io.BytesIO(row["mask"]))
        assert picture.size == (40, 32)
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), wanted)


def test_coco_results_and_folders_of_masks_from_the_command_line(models, work, tmp_path, capsys):
    assert main(["predict", str(work / "detector"), str(work / "coco-test"), "-o", str(tmp_path / "r.json"), "-q"]) == 0
    rows = json.loads((tmp_path / "r.json").read_text())
    assert {r["image_id"] for r in rows} <= {100, 101, 102, 103, 104, 105}
    assert set(rows[0]) == {"image_id", "category_id", "bbox", "score"}
    assert main(["predict", str(work / "segmenter"), str(work / "masks-test"), "-o", str(tmp_path / "out"), "-q"]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{k:03}.png" for k in range(6)]
    assert (
        main(["predict", str(work / "segmenter"), str(work / "masks-test"), "-o", str(tmp_path / "m.parquet"), "-q"])
        == 0
    )
    assert pq.read_table(tmp_path / "m.parquet").num_rows == 6
    capsys.readouterr()
    for words in (
        ["segmenter", "masks-test"],
        ["segmenter", "masks-test", "-o", "x.csv"],
        ["detector", "coco-test", "-o", "x.png"],
    ):
        assert main(["predict", str(work / words[0]), str(work / words[1]), *words[2:], "--json"]) == 2
    assert (
        main(["predict", str(work / "segmenter"), str(work / "masks-test"), "-o", str(tmp_path / "out"), "--json"]) == 2
    )


def test_finetune_from_the_command_line(work, tmp_path, capsys):
    words = [
        "finetune",
        str(work / "run"),
        str(work / "masks"),
        "--task",
        "segment",
        "--mode",
        "head",
        "--epochs",
        "1",
        "--json",
        "-q",
    ]
    assert main([*words, "--ignore", "2", "--out", str(tmp_path / "m")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["task"], result["metric"]) == ("segment", "mIoU")
    assert "IoU square" not in result["test"]
    for more, code in (
        (["--mode", "lora"], 2), (["--labels-per-class", "5"], 2), (["--labels", "nosuch.json"], 3), (["--size", "3"], 2), (["--ignore", "0", "1"], 3),
    ):  # fmt: skip
        task = "detect" if more[0] == "--labels" else "segment"
        got = main([*words[:3], "--task", task, *words[5:], *more, "--out", str(tmp_path / "x")])
        capsys.readouterr()
        assert got in (code, 2), more
    assert main(["finetune", str(work / "run"), "digits", "--size", "32", "--json"]) == 2
    assert "--task detect" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_requests_that_have_no_answer_say_why(work):
    with pytest.raises(RequestError, match="from the data"):
        finetune(work / "run", work / "coco", task="detect", labels=[1, 2])
    with pytest.raises(RequestError, match="iscrowd"):
        finetune_dense(work / "run", work / "coco", task="detect", ignore=(3,))
    with pytest.raises(RequestError, match=r"annotations\.json"):
        finetune_dense(work / "run", work / "masks" / "images", task="detect")
    with pytest.raises(DataError, match="too few"):
        finetune_dense(work / "run", coco_folder(work / "few", rows=3), task="detect")
    assert load_dense(work / "run") is None


def test_a_broken_model_folder_is_refused(models, work, tmp_path):
    models["detect"].save(tmp_path / "m")
    path = tmp_path / "m" / "labels.json"
    about = json.loads(path.read_text())
    for change in (
        {"canvas": [64, 64]},
        {"canvas": "no"},
        {"version": 99},
        {"options": {"classes": ["one"]}},
        {"options": {"nosuch": 1}},
    ):
        path.write_text(json.dumps({**about, **change}))
        with pytest.raises(ModelError):
            load_model(tmp_path / "m")


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_backbone_of_transformers_from_a_folder(work, tmp_path, kind):
    from transformers import AutoModel, ResNetConfig, ViTConfig

    from selftaught.nets.borrowed import quiet

    config = {
        "vit": lambda: ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=16,
            patch_size=8,
        ),
        "resnet": lambda: ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
    }[kind]()
    with quiet():
        AutoModel.from_config(config).save_pretrained(tmp_path / "given")
    given = f"transformers:{tmp_path / 'given'}"
    pretrain(work / "masks" / "images", method="simclr", encoder=given, steps=0, size=32, out=tmp_path / "run")
    done = finetune_dense(tmp_path / "run", work / "masks", task="segment", mode="full", plan=PLAN, out=tmp_path / "m")
    assert done.canvas.size == (32, 40)
    assert predict(tmp_path / "m", work / "masks-test").equals(predict(done, work / "masks-test"))
