import json
import os

import pytest
import torch
from transformers import AutoModel

from selftaught import export
from selftaught.core import Kept, RequestError, View
from selftaught.nets import store

from .networks import network


@pytest.fixture
def run(tmp_path):
    """A run folder as `pretrain` leaves it."""
    from selftaught.modalities.image import Image

    encoder = network("vit mean")
    modality = Image(side=16, channels=3, mean=(0.1, 0.2, 0.3), std=(0.25,) * 3)
    store.save(tmp_path / "run" / "encoder", Kept(encoder), fill=modality.save)
    (tmp_path / "run" / "config.toml").write_text('data = "pictures"\nmethod = "mae"\n')
    return tmp_path / "run", encoder


def test_a_run_is_exported_with_card_and_record(run, tmp_path):
    folder, encoder = run
    made = export.export(folder, "transformers", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [
        "README.md", "card.json", "config.json", "export.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    record = json.loads((made.folder / "export.json").read_text())
    assert record["measured"] == made.measured
    assert record["format"] == "transformers"
    card = (made.folder / "README.md").read_text()
    assert "| method | mae |" in card
    assert "output.last_hidden_state[:, 1:].mean(1)" in card
    view = View("image", parts={"pixels": torch.rand(2, 3, 16, 16)})
    with torch.no_grad():
        output = AutoModel.from_pretrained(made.folder, local_files_only=True).eval()(
            pixel_values=encoder.normalise(view["pixels"])
        )
        assert (output.last_hidden_state[:, 1:].mean(1) - encoder(view)).abs().max() < 1e-5


def test_an_export_is_replaced_only_where_that_is_asked(run, tmp_path):
    folder, _ = run
    export.export(folder, "timm", tmp_path / "out")
    with pytest.raises(RequestError, match="already"):
        export.export(folder, "transformers", tmp_path / "out")
    export.export(folder, "transformers", tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "preprocessor_config.json").is_file()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(RequestError, match="something else"):
        export.export(folder, "timm", tmp_path / "other", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["other", "out", "run"]


def test_a_refused_export_leaves_nothing(run, tmp_path):
    folder, _ = run
    with pytest.raises(RequestError, match="torchvision has no network"):
        export.export(folder, "torchvision", tmp_path / "out")
    assert os.listdir(tmp_path) == ["run"]
    with pytest.raises(RequestError, match="'onnx'"):
        export.export(folder, "onx", tmp_path / "out")


def test_the_modality_gives_the_size_where_the_encoder_has_none(tmp_path):
    from selftaught.modalities.image import Image

    modality = Image(side=20, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    encoder = network("resnet-small")
    assert export.sample.image_side(encoder, modality) == (20, 20)
    assert export.sample.image_side(encoder) == (32, 32)
    assert export.sample.sample(encoder, 2, modality=modality)["pixels"].shape == (2, 3, 20, 20)
