"""Pretraining that starts from a model: gentle, said, kept, and the same after a kill though the model is gone."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModel, ViTConfig

from selftaught import train
from selftaught.core import ModelError, RequestError
from selftaught.modalities import find
from selftaught.nets import store
from selftaught.nets.borrowed import quiet
from selftaught.train import starts
from selftaught.train.settings import Settings
from tests.train.test_pretrain import SMALL, Ears, same, stop_after


@pytest.fixture(scope="module")
def pictures():
    rows, _ = find("image").toy(96, 0)
    return np.stack(rows)[:, ::2, ::2]


@pytest.fixture(scope="module")
def first(tmp_path_factory, pictures):
    out = tmp_path_factory.mktemp("starts") / "first"
    return train.pretrain(pictures, method="simclr", steps=3, out=out, **SMALL)


def go_on(pictures, first, out, **changes):
    words = {"method": "simclr", "steps": 3, "recipe": {"batch": 32}, "encoder": str(first.run.folder), **changes}
    return train.pretrain(pictures, out=out, **words)


def test_a_start_is_kept_guarded_and_learns_gently(tmp_path, pictures, first):
    ears = Ears()
    done = go_on(pictures, first, tmp_path / "run", listener=ears)
    about = done.run.read_json("data.json")["start"]
    assert about["model"] == str(first.run.folder)
    assert about["fingerprint"] == store.fingerprint(first.encoder())
    kept, name = starts.read(done.run.folder)
    assert name == about["model"]
    before, after = first.encoder().state_dict(), kept.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    recipe = done.run.config()["recipe"]
    assert (recipe["encoder_rate"], recipe["layer_decay"]) == (starts.ENCODER_RATE, 1.0)
    assert recipe["warmup"] >= starts.WARMUP
    assert any("learns at 0.3 of the rate" in text for text in ears.said)
    guard = done.result["guard"]
    assert guard == json.loads((done.run.folder / "result.json").read_text())["guard"]
    assert (guard["rows"], guard["seen_in_training"]) == (96, True)
    assert guard["neighbours_kept"] > guard["neighbours_untrained"]
    assert guard["warnings"] == []


def test_a_run_that_begins_anew_has_no_start(first):
    assert "guard" not in first.result
    assert "start" not in first.run.read_json("data.json")
    assert starts.read(first.run.folder) is None
    assert first.run.config()["recipe"]["encoder_rate"] == 1.0


def test_a_rate_that_destroys_the_start_is_noticed_without_labels(tmp_path, pictures, first):
    planted = {"batch": 32, "lr": 5.0, "encoder_rate": 1.0, "warmup": 0.0}
    ears = Ears()
    done = go_on(pictures, first, tmp_path / "run", steps=10, recipe=planted, listener=ears)
    assert done.result["guard"]["warnings"]
    assert any(text.startswith("WARNING") for text in ears.said)
    assert not any("of the rate" in text for text in ears.said)
    assert done.run.config()["recipe"]["encoder_rate"] == 1.0


def test_the_guard_looks_at_rows_that_were_held_out(tmp_path, first):
    rows = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3), dtype=np.uint8)
    guard = go_on(rows, first, tmp_path / "run", holdout=0.5).result["guard"]
    assert guard["seen_in_training"] is False
    assert 128 <= guard["rows"] < 200


def test_resuming_needs_the_model_no_more_and_ends_in_the_same_bits(tmp_path, pictures, first):
    copy = tmp_path / "model"
    shutil.copytree(first.run.folder, copy)
    words = {"method": "simclr", "steps": 4, "recipe": {"batch": 32}, "encoder": str(copy)}
    whole = train.pretrain(pictures, out=tmp_path / "whole", **words)
    cut = train.pretrain(pictures, out=tmp_path / "cut", stop=stop_after(2), **words)
    assert not cut.result["finished"]
    shutil.rmtree(copy)
    resumed = train.resume(tmp_path / "cut", data=pictures)
    assert resumed.result["resumed_from_step"] == 2
    assert same(whole, resumed)
    assert resumed.result["guard"] == whole.result["guard"]
    assert resumed.run.read_json("data.json") == whole.run.read_json("data.json")


def test_a_start_that_is_gone_or_was_exchanged_is_not_taken_for_another(tmp_path, pictures, first):
    done = go_on(pictures, first, tmp_path / "run")
    place = done.run.folder / starts.FOLDER
    shutil.rmtree(place)
    with pytest.raises(ModelError, match="which is gone"):
        starts.read(done.run.folder)
    shutil.copytree(done.run.encoder, place)
    with pytest.raises(ModelError, match="not the one that this run began with"):
        starts.read(done.run.folder)


def test_each_layer_learns_at_its_own_rate(pictures, first):
    from selftaught.core import Facts, Recipe
    from selftaught.methods import find as method
    from selftaught.train import optimizers

    encoder = first.encoder()
    learner = method("simclr")()
    learner.setup(encoder, Facts(rows=96, modality=None, batch=32, dim=encoder.dim))
    recipe = Recipe(encoder_rate=0.5, layer_decay=0.8)
    made = optimizers.make(learner, recipe)
    rate = {id(p): g.get("lr_scale", 1.0) for g in made.param_groups for p in g["params"]}
    assert len(rate) == sum(p.requires_grad for p in learner.parameters())
    layers = encoder.layers()
    for depth, layer in enumerate(layers):
        for p in layer:
            assert rate[id(p)] == pytest.approx(0.5 * 0.8 ** (len(layers) - 1 - depth))
    inside = {id(p) for p in encoder.parameters()}
    assert {rate[k] for k in rate if k not in inside} == {1.0}
    plain = optimizers.make(learner, Recipe())
    assert [len(g["params"]) for g in plain.param_groups] == [len(g["params"]) for g in learner.param_groups()]
    decays = {id(p): g["weight_decay"] for g in made.param_groups for p in g["params"]}
    assert decays == {id(p): g["weight_decay"] for g in plain.param_groups for p in g["params"]}


def test_a_folder_of_transformers_is_continued_with_its_mismatches_said(tmp_path, pictures):
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, patch_size=8, image_size=64)  # fmt: skip
    with quiet():
        AutoModel.from_config(config).save_pretrained(tmp_path / "vit")
    ears = Ears()
    words = {"encoder": f"transformers:{tmp_path / 'vit'}", "steps": 1, "recipe": {"batch": 32}, "listener": ears}
    done = train.pretrain(pictures, out=tmp_path / "run", **words)
    assert any(t.startswith("method: simclr") and "closed form and trains no encoder" in t for t in ears.said)
    kinds = {w["kind"] for w in done.run.read_json("data.json")["start"]["warnings"]}
    assert kinds == {"size", "positions", "normalisation"}
    assert sum(text.startswith("WARNING") for text in ears.said) == 3
    assert starts.read(done.run.folder)[0].kind == "borrowed"
    again = train.pretrain(pictures, out=tmp_path / "two", **{**words, "encoder": str(tmp_path / "run")})
    assert again.run.read_json("data.json")["start"]["model"] == str(tmp_path / "run")


def test_a_closed_form_uses_no_start_and_gives_none(tmp_path, pictures, first):
    with pytest.raises(RequestError, match=r"closed form.*cannot use --encoder"):
        go_on(pictures, first, tmp_path / "run", method="sparse-manifold", recipe={})
    fitted = train.pretrain(pictures, method="sparse-manifold", out=tmp_path / "closed")
    with pytest.raises(RequestError, match="can be trained: a closed form made it"):
        go_on(pictures, fitted, tmp_path / "more")
    with pytest.raises(RequestError, match="brings its own options; width"):
        go_on(pictures, first, tmp_path / "more2", encoder_options={"width": 3})


@pytest.mark.parametrize(
    ("name", "options", "weights"),
    [
        (None, {}, False), ("vit-tiny", {}, False), ("transformers:facebook/dinov2-small", {}, True),
        ("transformers:facebook/dinov2-small", {"weights": False}, False), ("timm:resnet18", {}, False),
        ("timm:resnet18.a1_in1k", {}, True), ("torchvision:r.safetensors", {}, True),
    ],
)  # fmt: skip
def test_an_architecture_is_no_start(name, options, weights):
    assert starts.names_weights(Settings(data="x", encoder=name, encoder_options=options)) is weights


def test_a_relative_path_behind_a_library_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    assert starts.absolute("transformers:m") == f"transformers:{tmp_path / 'm'}"
    assert starts.absolute("transformers:facebook/dinov2-small") == "transformers:facebook/dinov2-small"
    assert starts.absolute("m") == str(tmp_path / "m")
    assert starts.absolute("vit-tiny") == "vit-tiny"


@pytest.mark.parametrize("name", ["encoder_rate", "layer_decay"])
def test_shares_of_a_rate_are_checked(name, tmp_path, pictures, first):
    for value in (0.0, 1.5):
        with pytest.raises(RequestError, match=f"{name} = {value} is no share"):
            go_on(pictures, first, tmp_path / f"{value}", recipe={"batch": 32, name: value})
