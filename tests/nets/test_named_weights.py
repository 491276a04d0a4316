"""State dicts of torchvision and timm without either: equal to a forward that is worked through from their names alone."""

import json
import shlex
import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from selftaught import nets
from selftaught.core import ModelError, RequestError, View
from selftaught.export import to_timm, to_torchvision
from tests.export.networks import network
from tests.nets.test_resnet import functional, torchvision_names


def view(*size: int, rows: int = 2) -> View:
    torch.manual_seed(3)
    return View("image", parts={"pixels": torch.rand(rows, 3, *size)})


def close(a, b) -> bool:
    return (a - b).abs().max() <= 2e-5 * b.abs().max()


def random_state(shapes: dict) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        state[name] = 0.1 * torch.randn(shape) if shape else torch.tensor(1)
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            state[name] = 0.5 + torch.rand(shape)
    return state


def vit_state(width: int = 192, depth: int = 2, patch: int = 8, grid: int = 2, hidden: int = 96) -> dict:
    shapes = {
        "class_token": (1, 1, width), "conv_proj.weight": (width, 3, patch, patch), "conv_proj.bias": (width,),
        "encoder.pos_embedding": (1, 1 + grid * grid, width), "encoder.ln.weight": (width,), "encoder.ln.bias": (width,),
        "heads.head.weight": (5, width), "heads.head.bias": (5,),
    }  # fmt: skip
    for i in range(depth):
        at = f"encoder.layers.encoder_layer_{i}."
        shapes |= {at + f"ln_{k}.{leaf}": (width,) for k in (1, 2) for leaf in ("weight", "bias")}
        shapes |= {at + "self_attention.in_proj_weight": (3 * width, width), at + "self_attention.in_proj_bias": (3 * width,)}  # fmt: skip
        shapes |= {at + "self_attention.out_proj.weight": (width, width), at + "self_attention.out_proj.bias": (width,)}
        shapes |= {at + "mlp.0.weight": (hidden, width), at + "mlp.0.bias": (hidden,)}
        shapes |= {at + "mlp.3.weight": (width, hidden), at + "mlp.3.bias": (width,)}
    return random_state(shapes)


def vit_forward(state: dict, x: torch.Tensor, heads: int) -> torch.Tensor:
    """torchvision's published forward: class token, positions, blocks, norm, the first token."""
    width = state["class_token"].shape[-1]
    norm = lambda x, at: F.layer_norm(x, (width,), state[f"{at}.weight"], state[f"{at}.bias"], 1e-6)  # noqa: E731
    patch = state["conv_proj.weight"].shape[-1]
    x = F.conv2d(x, state["conv_proj.weight"], state["conv_proj.bias"], stride=patch).flatten(2).transpose(1, 2)
    x = torch.cat([state["class_token"].expand(len(x), -1, -1), x], 1) + state["encoder.pos_embedding"]
    for i in range(sum(n.endswith("in_proj_weight") for n in state)):
        at = f"encoder.layers.encoder_layer_{i}."
        y, attention = norm(x, at + "ln_1"), torch.nn.MultiheadAttention(width, heads, batch_first=True)
        own = at + "self_attention."
        attention.load_state_dict({k.removeprefix(own): v for k, v in state.items() if k.startswith(own)})
        x = x + attention(y, y, y, need_weights=False)[0]
        y = F.gelu(F.linear(norm(x, at + "ln_2"), state[at + "mlp.0.weight"], state[at + "mlp.0.bias"]))
        x = x + F.linear(y, state[at + "mlp.3.weight"], state[at + "mlp.3.bias"])
    return norm(x, "encoder.ln")[:, 0]


def convnext_state(sizes=(4, 8, 12, 16), depths=(1, 2, 1, 1)) -> dict:
    shapes = {"features.0.0.weight": (sizes[0], 3, 4, 4), "features.0.0.bias": (sizes[0],)}
    shapes |= {f"features.0.1.{leaf}": (sizes[0],) for leaf in ("weight", "bias")}
    for i, (c, depth) in enumerate(zip(sizes, depths, strict=True)):
        if i:
            shapes |= {f"features.{2 * i}.0.{leaf}": (sizes[i - 1],) for leaf in ("weight", "bias")}
            shapes |= {f"features.{2 * i}.1.weight": (c, sizes[i - 1], 2, 2), f"features.{2 * i}.1.bias": (c,)}
        for j in range(depth):
            at = f"features.{2 * i + 1}.{j}."
            shapes |= {at + "layer_scale": (c, 1, 1), at + "block.0.weight": (c, 1, 7, 7), at + "block.0.bias": (c,)}
            shapes |= {at + "block.2.weight": (c,), at + "block.2.bias": (c,), at + "block.3.weight": (4 * c, c)}
            shapes |= {at + "block.3.bias": (4 * c,), at + "block.5.weight": (c, 4 * c), at + "block.5.bias": (c,)}
    shapes |= {"classifier.0.weight": (sizes[3],), "classifier.0.bias": (sizes[3],)}
    return random_state(shapes | {"classifier.2.weight": (5, sizes[3]), "classifier.2.bias": (5,)})


def convnext_forward(state: dict, x: torch.Tensor) -> torch.Tensor:
    """torchvision's published forward, up to the linear classifier."""
    pair = lambda at: (state[f"{at}.weight"], state[f"{at}.bias"])  # noqa: E731
    norm = lambda x, at: F.layer_norm(x, x.shape[-1:], *pair(at), 1e-6)  # noqa: E731
    last = lambda x: x.permute(0, 2, 3, 1)  # noqa: E731
    first = lambda x: x.permute(0, 3, 1, 2)  # noqa: E731
    x = first(norm(last(F.conv2d(x, *pair("features.0.0"), stride=4)), "features.0.1"))
    for stage in range(1, 8):
        if stage % 2 == 0:
            x = F.conv2d(first(norm(last(x), f"features.{stage}.0")), *pair(f"features.{stage}.1"), stride=2)
            continue
        j = 0
        while f"features.{stage}.{j}.layer_scale" in state:
            at = f"features.{stage}.{j}."
            y = last(F.conv2d(x, *pair(at + "block.0"), padding=3, groups=x.shape[1]))
            y = F.linear(F.gelu(F.linear(norm(y, at + "block.2"), *pair(at + "block.3"))), *pair(at + "block.5"))
            x, j = x + state[at + "layer_scale"] * first(y), j + 1
    return norm(x.mean((2, 3)), "classifier.0")


@pytest.mark.parametrize(
    ("library", "writer", "name"),
    [
        ("torchvision", to_torchvision, "resnet18"), ("timm", to_timm, "resnet18"), ("timm", to_timm, "vit mean"),
        ("timm", to_timm, "vit class"), ("timm", to_timm, "vit no class"),
    ],
)  # fmt: skip
def test_an_export_comes_back_the_same(library, writer, name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    encoder = network(name, **({"width": 64} if name == "resnet18" else {}))
    writer(encoder, tmp_path)
    pixels = view(*((16, 24) if name == "vit no class" else (16, 16)))
    for source in (tmp_path, tmp_path / "model.safetensors"):
        again = nets.build(*nets.parse(f"{library}:{source}")[:1], source=str(source))
        assert not again.training
        assert again.assumed == ()
        with torch.no_grad():
            assert (again(pixels) - encoder(pixels)).abs().max() <= 1e-6
        assert (again.image_size, again.channels) == (encoder.image_size, encoder.channels)
        assert all(len({*v}) == 1 or v == encoder.mean for v in (again.mean, encoder.mean))


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_torchvisions_resnets_of_every_depth(depth, tmp_path):
    encoder = network("resnet18", depth=depth, width=8)
    state = {k: v.clone() for k, v in encoder.state_dict().items() if not k.endswith("num_batches_tracked")}
    state |= {"fc.weight": torch.randn(5, encoder.dim), "fc.bias": torch.randn(5)}
    save_file(state, tmp_path / "old.safetensors")
    again = nets.build("torchvision", source=str(tmp_path / "old.safetensors"))
    assert (again.depth, again.small_stem, again.assumed) == (depth, False, ("mean", "std"))
    with torch.no_grad():
        assert (again(view(64, 64)) - encoder(view(64, 64))).abs().max() <= 1e-6


def test_a_resnet_in_half_precision_is_read_as_float32(tmp_path):
    assert torchvision_names(18)["conv1.weight"] == (64, 3, 7, 7)
    state = random_state(torchvision_names(18))
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "m.safetensors")
    encoder = nets.build("torchvision", source=str(tmp_path / "m.safetensors"))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    rounded = {k: v.half().float() if v.is_floating_point() else v for k, v in state.items()}
    with torch.no_grad():
        assert close(encoder(view(64, 64)), functional(rounded, encoder.normalise(view(64, 64)["pixels"]), 18))


@pytest.mark.parametrize("older", [False, True])
def test_torchvisions_vit(older, tmp_path):
    state = vit_state()
    named = {k.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2") if older else k: v for k, v in state.items()}  # fmt: skip
    save_file(named, tmp_path / "vit.safetensors")
    encoder = nets.build("torchvision", source=str(tmp_path / "vit.safetensors"))
    assert (encoder.kind, encoder.image_size, encoder.patch, encoder.heads, encoder.depth) == ("vit", 16, 8, 3, 2)
    with torch.no_grad():
        assert close(encoder(view(16, 16)), vit_forward(state, encoder.normalise(view(16, 16)["pixels"]), 3))


def test_heads_that_no_shape_tells_are_asked_for(tmp_path):
    save_file(vit_state(width=40), tmp_path / "vit.safetensors")
    with pytest.raises(RequestError, match=r"width 40.*\n.*encoder_options.heads"):
        nets.build("torchvision", source=str(tmp_path / "vit.safetensors"))
    encoder = nets.build("torchvision", source=str(tmp_path / "vit.safetensors"), heads=4)
    with torch.no_grad():
        wanted = vit_forward(vit_state(width=40), encoder.normalise(view(16, 16)["pixels"]), 4)
        assert close(encoder(view(16, 16)), wanted)


def timm_convnext(state: dict) -> dict:
    """torchvision's names -> timm's."""
    out = {}
    for name, tensor in state.items():
        top, stage, *rest = name.split(".")
        if top == "classifier":
            out["head." + {"0": "norm", "2": "fc"}[stage] + "." + rest[0]] = tensor
        elif stage == "0":
            out["stem." + ".".join(rest)] = tensor
        elif int(stage) % 2 == 0:
            out[f"stages.{int(stage) // 2}.downsample." + ".".join(rest)] = tensor
        else:
            leaf = ".".join(rest[1:])
            for a, b in (("block.0", "conv_dw"), ("block.2", "norm"), ("block.3", "mlp.fc1"), ("block.5", "mlp.fc2")):
                leaf = leaf.replace(a, b)
            tensor, leaf = (tensor.flatten(), "gamma") if leaf == "layer_scale" else (tensor, leaf)
            out[f"stages.{int(stage) // 2}.blocks.{rest[0]}.{leaf}"] = tensor.clone()
    return out


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_convnext_of_both_libraries(library, tmp_path):
    state = convnext_state()
    save_file(timm_convnext(state) if library == "timm" else state, tmp_path / "c.safetensors")
    encoder = nets.build(library, source=str(tmp_path / "c.safetensors"))
    assert encoder.dim == 16
    with torch.no_grad():
        assert close(encoder(view(64, 64)), convnext_forward(state, encoder.normalise(view(64, 64)["pixels"])))


def test_mean_and_std_may_be_said(tmp_path):
    save_file(vit_state(), tmp_path / "vit.safetensors")
    encoder = nets.build("torchvision", source=str(tmp_path / "vit.safetensors"), mean=(0.5,), std=(0.25,))
    assert (encoder.mean, encoder.std, encoder.assumed) == ((0.5,), (0.25,), ())


def broken(change):
    state = vit_state()
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"a.weight": torch.ones(2, 2)}, "no names of a ResNet"),
        (broken(lambda s: s.update({"encoder.layers.encoder_layer_0.ls1.gamma": torch.ones(192)})), "no plain ResNet.*ls1"),
        (broken(lambda s: s.pop("encoder.layers.encoder_layer_1.ln_2.bias")), "is missing|of another shape"),
        (broken(lambda s: s.update({"encoder.ln.weight": torch.ones(10)})), "encoder.ln.weight is missing or of another"),
        (broken(lambda s: [s.pop(k) for k in [*s] if "layer_0." in k]), "is missing"),
        (broken(lambda s: s.update({"encoder.pos_embedding": torch.ones(1, 8, 192)})), "no grid"),
        (broken(lambda s: s.update({"encoder.ln.bias": torch.full((192,), torch.nan)})), "not finite"),
        ({k: v for k, v in convnext_state().items() if k != "classifier.0.bias"}, "classifier.0.bias.*is missing"),
    ],
)  # fmt: skip
def test_what_fits_no_network_is_refused_with_the_reason(state, said, tmp_path):
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match=said):
        nets.build("torchvision", source=str(tmp_path / "m.safetensors"))


def test_a_wide_resnet_is_refused(tmp_path):
    state = dict(network("resnet50", channels=3, mean=(0.5,)).state_dict())
    state["layer1.0.conv2.weight"] = torch.randn(16, 16, 3, 3)
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match=r"layer1.0.conv2.weight is missing or of another shape"):
        nets.build("torchvision", source=str(tmp_path / "m.safetensors"))


@pytest.mark.parametrize("text", ["[1, 2, 3", '"x"', "[]", "[true]", '{"a": 1}'])
def test_metadata_that_is_nonsense_is_refused(text, tmp_path):
    save_file(vit_state(), tmp_path / "m.safetensors", metadata={"mean": text})
    with pytest.raises(ModelError, match="metadata mean"):
        nets.build("torchvision", source=str(tmp_path / "m.safetensors"))


def test_a_pickle_is_refused_with_a_line_that_converts_it(tmp_path, monkeypatch):
    state = vit_state()
    torch.save({"state_dict": state}, tmp_path / "vit.pth")
    for name in (f"torchvision:{tmp_path}/vit.pth", f"timm:{tmp_path}/vit.pth", f"torchvision:{tmp_path}"):
        kind, options = nets.parse(name)
        with pytest.raises(RequestError, match="is a pickle") as refused:
            nets.build(kind, **options)
    with pytest.raises(RequestError, match="is a pickle"):
        nets.parse(f"{tmp_path}/vit.pth")
    words = shlex.split(refused.value.remedy.partition("python ")[2])
    assert words[0] == "-c"
    monkeypatch.setattr(sys, "argv", ["-c", *words[2:]])
    exec(words[1], {})
    assert load_file(tmp_path / "vit.safetensors").keys() == state.keys()
    assert nets.build("torchvision", source=str(tmp_path / "vit.safetensors")).kind == "vit"


def test_names_and_files_without_a_library_say_what_to_write(tmp_path):
    with pytest.raises(RequestError, match=r"nothing is downloaded.*\n.*save_file"):
        nets.build("torchvision", source="resnet18")
    with pytest.raises(RequestError, match=r"whose names.*\n.*torchvision:m.safetensors or timm:"):
        nets.parse("m.safetensors")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        nets.build("torchvision", source=str(tmp_path))


def test_a_timm_folder_without_timm_takes_what_its_config_says(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    encoder = network("vit mean")
    to_timm(encoder, tmp_path)
    save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors")  # without metadata
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"]["mean"] = [0.2, 0.3, 0.4]
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = nets.build("timm", source=str(tmp_path))
    assert (again.heads, again.pooling, again.mean, again.image_size) == (2, "mean", (0.2, 0.3, 0.4), 16)
