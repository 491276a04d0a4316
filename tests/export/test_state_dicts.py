import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from selftaught.core import RequestError, View
from selftaught.export import to_timm, to_torchvision
from tests.nets.test_resnet import functional, torchvision_names

from .networks import network


@pytest.mark.parametrize("writer", [to_torchvision, to_timm])
def test_resnets_have_the_names_of_torchvision_and_timm(writer, tmp_path):
    encoder = network("resnet18", width=64)
    assert writer(encoder, tmp_path)["architecture"] == "resnet18"
    state = load_file(tmp_path / "model.safetensors")
    assert {k: tuple(v.shape) for k, v in state.items()} == torchvision_names(18)
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted = encoder(View("image", parts={"pixels": pixels}))
        got = functional(state, encoder.normalise(pixels), 18)
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["mean"]) == [0.485, 0.456, 0.406]


def test_the_lines_build_the_small_stem(tmp_path):
    lines = to_torchvision(network("resnet18", width=64, image_size=32), tmp_path)["load"]
    assert "model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False); model.maxpool = torch.nn.Identity()" in lines
    assert load_file(tmp_path / "model.safetensors")["conv1.weight"].shape == (64, 3, 3, 3)
    assert "maxpool" not in "\n".join(to_torchvision(network("resnet18", width=64), tmp_path)["load"])


def test_vit_has_the_names_of_timm(tmp_path):
    """Worked through by timm's published forward, from names alone."""
    encoder = network("vit mean")
    to_timm(encoder, tmp_path)
    state = {k: v.double() for k, v in load_file(tmp_path / "model.safetensors").items()}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_args"]["embed_dim"] == 16
    pixels = torch.rand(2, 3, 16, 16)
    norm = lambda x, at: torch.nn.functional.layer_norm(x, (16,), state[f"{at}.weight"], state[f"{at}.bias"], 1e-12)  # noqa: E731
    linear = lambda x, at: x @ state[f"{at}.weight"].T + state[f"{at}.bias"]  # noqa: E731
    project = torch.nn.functional.conv2d(
        encoder.normalise(pixels).double(), state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=4
    )
    x = torch.cat([state["cls_token"].expand(2, -1, -1), project.flatten(2).transpose(1, 2) + state["pos_embed"]], 1)
    for i in range(2):
        q, k, v = (
            linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv").view(2, 17, 3, 2, 8).permute(2, 0, 3, 1, 4)
        )
        mixed = ((q @ k.transpose(2, 3)) / 8**0.5).softmax(-1) @ v
        x = x + linear(mixed.transpose(1, 2).flatten(2), f"blocks.{i}.attn.proj")
        hidden = torch.nn.functional.gelu(linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1"))
        x = x + linear(hidden, f"blocks.{i}.mlp.fc2")
    got = norm(x, "norm")[:, 1:].mean(1)
    with torch.no_grad():
        wanted = encoder(View("image", parts={"pixels": pixels}))
    assert (got - wanted).abs().max() < 1e-5


def test_timm_builds_and_loads_the_folder(tmp_path, monkeypatch):
    pytest.importorskip(
        "timm", reason="timm is optional: it needs a torchvision that fits this torch", exc_type=Exception
    )
    for name in ("vit mean", "vit no class", "resnet18"):
        encoder = network(name, **({"width": 64} if name == "resnet18" else {}))
        lines = to_timm(encoder, tmp_path / name)["load"]
        monkeypatch.chdir(tmp_path / name)
        scope: dict = {}
        exec("\n".join(lines), scope)
        pixels = torch.rand(2, 3, *((16, 24) if name == "vit no class" else (16, 16) if "vit" in name else (64, 64)))
        with torch.no_grad():
            got, wanted = (
                scope["model"].eval()(encoder.normalise(pixels)),
                encoder(View("image", parts={"pixels": pixels})),
            )
        assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize(
    ("writer", "name"),
    [(to_torchvision, "vit mean"), (to_torchvision, "resnet18"), (to_timm, "resnet-small"), (to_timm, "text")],
)
def test_networks_that_the_library_lacks_are_refused(writer, name, tmp_path):
    with pytest.raises(RequestError, match=r"has no network like.*\n.*onnx"):
        writer(network(name), tmp_path)
    assert list(tmp_path.iterdir()) == []
