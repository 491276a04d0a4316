import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from selftaught.core import Kept, ModelError, Paired, RequestError, View
from selftaught.export import to_onnx

from .networks import network


def run(file, **inputs):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(["features"], inputs)[0], session


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small network as a graph of bytes: (encoder, file, what was measured, the exporter's program)."""
    encoder, file = (
        network("resnet-small", mean=(0.3,), std=(0.2,)),
        tmp_path_factory.mktemp("x") / "deep" / "model.onnx",
    )
    programs, honest = [], torch.onnx.export
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.onnx, "export", lambda *args, **kwargs: programs.append(honest(*args, **kwargs)) or programs[-1]
        )
        measured = to_onnx(Kept(encoder), file, pixels="uint8")
    return encoder, file, measured, programs[0]


def test_bytes_to_features_at_any_batch_size(exported):
    encoder, file, measured, _ = exported
    assert measured["beyond"] == 0
    assert measured["difference"] <= 1e-4 * measured["scale"]
    assert [p.name for p in file.parent.iterdir()] == ["model.onnx"]
    for rows in (1, 3, 33):
        pixels = torch.randint(0, 256, (rows, 3, 32, 32), dtype=torch.uint8)
        got, session = run(file, pixels=pixels.numpy())
        with torch.no_grad():
            wanted = encoder(View("image", parts={"pixels": pixels}))
        assert np.abs(got - wanted.numpy()).max() <= 1e-4 * wanted.abs().max()
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["parity"]) == measured
    assert json.loads(facts["inside"]) == {"mean": [0.3], "std": [0.2]}
    assert facts["pixels"] == "uint8 in 0-255"
    assert measured["inputs"] == {"pixels": "uint8 (batch, 3, 32, 32), 0-255"}
    onnx.checker.check_model(onnx.load(file))


def test_text_of_any_length(tmp_path):
    encoder, file = network("text"), tmp_path / "model.onnx"
    assert to_onnx(encoder, file)["inputs"] == {"ids": "int64 (batch, length)", "valid": "bool (batch, length)"}
    for rows, length in ((1, 12), (5, 7)):
        ids = torch.randint(1, 60, (rows, length))
        valid = torch.arange(length) < torch.randint(1, length + 1, (rows, 1))
        got, _ = run(file, ids=ids.numpy(), valid=valid.numpy())
        with torch.no_grad():
            wanted = encoder(View("text", parts={"ids": ids, "valid": valid}))
        assert np.abs(got - wanted.numpy()).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["resnet18", "vit mean", "vit class", "text causal", "series transformer", "series convolutions", "patch code"],
)
def test_every_encoder_becomes_one_graph(name, tmp_path):
    measured = to_onnx(network(name), tmp_path / "model.onnx")
    assert measured["difference"] < 1e-3
    assert measured["batches"] == [1, 2, 5, 16]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["vit", "resnet"])
def test_a_borrowed_network_becomes_one_graph(model_type, tmp_path):
    from transformers import ResNetConfig, ViTConfig

    from selftaught import nets
    from selftaught.nets.architecture import settings_of

    from .networks import lived

    config = {
        "vit": ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=16,
            patch_size=4,
        ),
        "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1]),
    }[model_type]
    encoder = lived(
        nets.build("borrowed", architecture=settings_of(config.to_dict()), image_size=16 if model_type == "vit" else 64)
    )
    assert to_onnx(encoder, tmp_path / "model.onnx")["beyond"] == 0


def test_a_graph_with_other_numbers_is_not_kept(exported, tmp_path, monkeypatch):
    """The comparison is with the encoder as it is: here with one that changed after tracing."""
    changed = network("resnet-small", mean=(0.3,), std=(0.2,))
    with torch.no_grad():
        changed.conv.weight[0] += 0.5
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **kwargs: exported[3])
    with pytest.raises(ModelError, match="differs from the encoder"):
        to_onnx(changed, tmp_path / "model.onnx", pixels="uint8")
    assert list(tmp_path.iterdir()) == []


def test_paired_encoders_are_exported_tower_by_tower(tmp_path):
    pair = Paired().join(image=network("vit mean"), text=network("text"))
    with pytest.raises(RequestError, match="towers"):
        to_onnx(pair, tmp_path / "model.onnx")


def test_without_the_extra_the_request_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(RequestError, match=r"selftaught\[export\]"):
        to_onnx(network("resnet-small"), tmp_path / "model.onnx")
