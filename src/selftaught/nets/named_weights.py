"""State dicts under the names of torchvision and timm, read without either: ResNet, ViT and ConvNeXt.

The architecture is worked out from names and shapes.  The file is untrusted: safetensors only, every name accounted for, every
shape compared with the network before a tensor is read.  What a file does not say (mean, std) is assumed and said: Encoder.assumed.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import nets
from ..core import Encoder, ModelError, RequestError
from . import bounds, files
from .architecture import settings_of
from .blank import blank
from .borrowed import Borrowed
from .tensors import TensorFile, check_room

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
"""{width: attention heads} of the ViTs that torchvision and timm have: shapes do not tell them."""
EPS = 1e-6
"""Of both libraries' layer norms."""
LEFT = re.compile(r"(fc|head|heads|classifier|last_linear)\.|head_dist\.|norm\.num_batches_tracked$")
"""Classifiers stay behind."""

Change = Callable[[TensorFile], Tensor]


@dataclass
class Found:
    """What names and shapes tell: the kind and options of an encoder, and how each of its tensors comes from the file."""

    kind: str
    options: dict[str, Any]
    made_of: dict[str, str | Change]
    """{our name: name in the file, or what makes the tensor}."""
    used: set[str]


def from_torchvision(
    source: str,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    heads: int | None = None,
) -> Encoder:
    """The encoder of a state dict of torchvision (ResNet, ViT, ConvNeXt) in safetensors, in eval mode, without its classifier.

    source: the file, or a folder with model.safetensors.  `mean` and `std` of pixels in 0-1 overrule what the file's metadata say
    (ImageNet's are assumed where it says none); `heads`: attention heads of a ViT of an unusual width.  Raises RequestError for a
    pickle (.pth), with the line that converts it, ModelError for what fits none of the three.
    """
    return from_file(source, {"mean": mean, "std": std, "heads": heads}, "torchvision")


def from_file(source: str, told: dict[str, Any], library: str, root: Path | None = None) -> Encoder:
    """The encoder of a state dict in safetensors; `told` (mean, std, heads, image_size, pooling, eps) is known from elsewhere.

    `root`: links are followed as long as they end inside it (a hub cache).
    """
    folder, name = place(source, library)
    with TensorFile(folder, name, root=root) as file, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a mask token that no file has: the same each time
        told = {**_metadata(file), **{k: v for k, v in told.items() if v is not None}}
        found = _recognise(file, told, library)
        found.options |= {k: tuple(told.get(k, v)) for k, v in IMAGENET.items()}
        encoder = _build(found, file)
    if "mean" not in told or "std" not in told:
        vars(encoder)["assumed"] = ("mean", "std")
    return encoder.eval()


def place(source: str, library: str) -> tuple[Path, str]:
    """(folder, file name) of a state dict; RequestError or ModelError where there is none that may be read."""
    path = Path(source)
    if source.lower().endswith(files.PICKLES):
        raise RequestError(*files.unsafe(source))
    if path.is_dir():
        if not os.path.lexists(path / "model.safetensors"):
            unsafe = files.pickles(path)
            if unsafe:
                raise RequestError(*files.unsafe(str(path / unsafe[0])))
            raise ModelError(
                f"{source!r} holds no model.safetensors.", "Give the file itself, or a folder that has it."
            )
        return path, "model.safetensors"
    if not os.path.lexists(path):
        raise RequestError(
            f"{source!r} is no file here: nothing is downloaded from {library}.",
            f"Save its weights once: safetensors.torch.save_file(model.state_dict(), 'model.safetensors'), then --encoder {library}:model.safetensors.",
        )
    return path.parent, path.name


def _metadata(file: TensorFile) -> dict[str, Any]:
    """What our own export writes beside the weights; nothing where it is absent, ModelError where it is nonsense."""
    out: dict[str, Any] = {}
    number = lambda v: isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e6  # noqa: E731
    whole = lambda v: isinstance(v, int) and number(v) and v > 0  # noqa: E731
    checks = {"mean": number, "std": number, "image_size": whole, "heads": whole, "eps": number}
    for name in (*checks, "pooling"):
        text = file.metadata.get(name)
        if text is None:
            continue
        try:
            value = json.loads(text[:1000])
        except ValueError:
            value = None
        listed = value if isinstance(value, list) else [value]
        if name == "pooling":
            sound = value in ("mean", "class")
        else:
            counts = {"image_size": (1, 2), "heads": (1,), "eps": (1,)}.get(name, (len(listed),))
            sound = bool(listed) and all(map(checks[name], listed)) and len(listed) in counts
            value = value[0] if len(listed) == 1 and isinstance(value, list) and name not in ("mean", "std") else value
        if not sound:
            raise ModelError(f"{file.name!r}: its metadata {name} = {text[:60]!r} is none.", "Save the file again.")
        out[name] = tuple(listed) if isinstance(value, list) else value
    return out


def _recognise(file: TensorFile, told: dict[str, Any], library: str) -> Found:
    names = set(file.entries)
    for mark, read in (
        ({"conv1.weight", "layer1.0.conv1.weight"}, _resnet),
        ({"conv_proj.weight", "encoder.pos_embedding"}, _torchvision_vit),
        ({"patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight"}, _timm_vit),
        ({"features.0.0.weight", "features.1.0.block.0.weight"}, _convnext),
        ({"stem.0.weight", "stages.0.blocks.0.conv_dw.weight"}, _convnext),
    ):
        if mark <= names:
            try:
                found = read(file, told)
            except (KeyError, IndexError) as error:
                raise ModelError(
                    f"{file.name!r} looks like a network of {library}, but {error} is missing.",
                    "Save the whole state_dict of the model.",
                ) from None
            over = sorted(n for n in names - found.used if not LEFT.match(n))
            if over:
                raise ModelError(
                    f"{file.name!r} holds weights that no plain ResNet, ViT or ConvNeXt has: {', '.join(over[:3])} ({len(over)} in all).",
                    "With timm installed, --encoder timm:FOLDER builds its other architectures; many models also exist for transformers.",
                )
            return found
    raise ModelError(
        f"{file.name!r} has no names of a ResNet, ViT or ConvNeXt of {library} (it begins with {', '.join(sorted(names)[:3])}).",
        "Without torchvision only these are read; many other models exist for transformers (--encoder transformers:FOLDER).",
    )


def _build(found: Found, file: TensorFile) -> Encoder:
    bounds.check(found.options)
    check_room([file])
    read = lambda how: file.read(how) if isinstance(how, str) else how(file)  # noqa: E731
    if found.kind == "borrowed":
        borrowed = nets.build("borrowed", **found.options)
        assert isinstance(borrowed, Borrowed)
        borrowed.take_weights({ours: read(how).float() for ours, how in found.made_of.items()})
        return borrowed
    with blank():
        wanted = {k: tuple(v.shape) for k, v in nets.rebuild({"kind": found.kind, "options": found.options}).state_dict().items()}  # fmt: skip
    lacking = [n for n in wanted if n not in found.made_of and not n.endswith(("num_batches_tracked", "mask_token"))]
    for ours, how in found.made_of.items():
        shape = file.entries[how].shape if isinstance(how, str) and how in file.entries else None
        if ours not in wanted or (isinstance(how, str) and shape != wanted[ours]):
            lacking.append(how if isinstance(how, str) else ours)
    if lacking:
        raise ModelError(
            f"{file.name!r} is no plain {found.kind}: {', '.join(lacking[:3])} is missing or of another shape.",
            "Wide, grouped and otherwise changed networks are not read.",
        )
    encoder = nets.build(found.kind, **found.options)
    own = encoder.state_dict()
    with torch.no_grad():
        for ours, how in found.made_of.items():
            tensor = read(how)
            if tensor.shape != own[ours].shape:
                raise ModelError(
                    f"{file.name!r}: {ours!r} would be {tuple(tensor.shape)}, not {tuple(own[ours].shape)}."
                )
            own[ours].copy_(tensor)
    return encoder


def _count(names: dict[str, Any], pattern: str) -> int:
    """How many numbers stand at (\\d+) of the pattern: 0 to n - 1, without a hole."""
    found = {int(m.group(1)) for m in (re.match(pattern, n) for n in names) if m}
    if found != set(range(len(found))):
        raise KeyError(pattern.replace("\\", "").replace("(d+)", str(min(set(range(max(found))) - found))))
    return len(found)


def _resnet(file: TensorFile, told: dict[str, Any]) -> Found:
    entries = file.entries
    counts = tuple(_count(entries, rf"layer{i}\.(\d+)\.") for i in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in entries
    kinds: dict[tuple[bool, tuple[int, ...]], int] = {
        (False, (2, 2, 2, 2)): 18,
        (False, (3, 4, 6, 3)): 34,
        (True, (3, 4, 6, 3)): 50,
    }
    kinds |= {(True, (3, 4, 23, 3)): 101, (True, (3, 8, 36, 3)): 152}
    if (bottleneck, counts) not in kinds:
        raise ModelError(
            f"{file.name!r} is a ResNet of {counts} {'bottlenecks' if bottleneck else 'blocks'}, which has no name.",
            "ResNet-18, 34, 50, 101 and 152 are read.",
        )
    width, channels, kernel = entries["conv1.weight"].shape[:3]
    size = told.get("image_size", 224 if kernel == 7 else 32)
    options = {
        "depth": kinds[bottleneck, counts], "width": width, "channels": channels,
        "stem": "large" if kernel == 7 else "small", "image_size": int(size if isinstance(size, int) else max(size)),
    }  # fmt: skip
    own = {n for n in entries if re.match(r"(conv1|bn1|layer\d)\b", n)}
    return Found("resnet", options, {n: n for n in own}, own)


def _vit(file: TensorFile, told: dict[str, Any], names: dict[str, str], block: str, pooling: str) -> Found:
    """Of the names of the parts outside the blocks, and the pattern of one in them ("{i}.{part}")."""
    entries = file.entries
    width, channels, patch = entries[names["project"] + ".weight"].shape[:3]
    depth = _count(entries, re.escape(block).replace(re.escape("{i}"), r"(\d+)").partition(r"\{part")[0])
    heads = told.get("heads", HEADS.get(width))
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise RequestError(
            f"{file.name!r} is a ViT of width {width}; its number of attention heads ({heads}) is not known or does not divide it.",
            "Say it: --set encoder_options.heads=N.",
        )
    class_token, table = names["class_token"] in entries, entries[names["positions"]].shape
    size = told.get("image_size")
    sides = (size, size) if isinstance(size, int) else size
    places = math.prod(n // patch for n in sides) if sides else 0
    count = table[1] - int(class_token and table[1] != places)
    if sides is None:
        sides = (math.isqrt(count) * patch,) * 2
    if math.prod(n // patch for n in sides) != count:
        raise ModelError(f"{file.name!r}: {count} positions are no grid of {sides} pixels in patches of {patch}.")
    extra = table[1] - count  # 1 where the class token has a position of its own: it is added to the token here
    made: dict[str, str | Change] = {
        "project.weight": names["project"] + ".weight", "project.bias": names["project"] + ".bias",
        "blocks.positions.table": lambda f: f.read(names["positions"])[0, extra:],
        "blocks.norm.weight": names["norm"] + ".weight", "blocks.norm.bias": names["norm"] + ".bias",
    }  # fmt: skip
    used = {names["positions"]}
    if class_token:
        used.add(names["class_token"])
        made["cls_token"] = lambda f: (
            f.read(names["class_token"]).flatten() + (f.read(names["positions"])[0, 0] if extra else 0)
        )
    hidden = 0
    for i in range(depth):
        for part in ("norm1", "attention.qkv", "attention.out", "norm2", "expand", "contract"):
            for leaf in ("weight", "bias"):
                theirs = block.format(i=i, part=names[part])
                theirs = theirs + ("_" if theirs.endswith("in_proj") else ".") + leaf
                made[f"blocks.layer.{i}.{part}.{leaf}"] = theirs
                if part == "expand":
                    hidden = entries[theirs].shape[0]
    options = {
        "image_size": sides[0] if sides[0] == sides[1] else tuple(sides), "patch": patch, "channels": channels,
        "width": width, "depth": depth, "heads": heads, "mlp": hidden / width, "positions": "learned",
        "eps": float(told.get("eps", EPS)), "class_token": class_token,
        "pooling": told.get("pooling", pooling if class_token else "mean"),
    }  # fmt: skip
    return Found("vit", options, made, used | {how for how in made.values() if isinstance(how, str)})


def _torchvision_vit(file: TensorFile, told: dict[str, Any]) -> Found:
    older = "encoder.layers.encoder_layer_0.mlp.linear_1.weight" in file.entries
    names = {
        "project": "conv_proj", "positions": "encoder.pos_embedding", "class_token": "class_token", "norm": "encoder.ln",
        "norm1": "ln_1", "attention.qkv": "self_attention.in_proj", "attention.out": "self_attention.out_proj", "norm2": "ln_2",
        "expand": "mlp.linear_1" if older else "mlp.0", "contract": "mlp.linear_2" if older else "mlp.3",
    }  # fmt: skip
    return _vit(file, told, names, "encoder.layers.encoder_layer_{i}.{part}", "class")


def _timm_vit(file: TensorFile, told: dict[str, Any]) -> Found:
    names = {
        "project": "patch_embed.proj", "positions": "pos_embed", "class_token": "cls_token", "norm": "norm",
        "norm1": "norm1", "attention.qkv": "attn.qkv", "attention.out": "attn.proj", "norm2": "norm2",
        "expand": "mlp.fc1", "contract": "mlp.fc2",
    }  # fmt: skip
    return _vit(file, told, names, "blocks.{i}.{part}", "class")


def _convnext(file: TensorFile, told: dict[str, Any]) -> Found:
    """ConvNeXt of either library as transformers' own, whose pooled output is the normalised mean."""
    entries, timm = file.entries, "stem.0.weight" in file.entries
    at = lambda i, j: f"stages.{i}.blocks.{j}." if timm else f"features.{2 * i + 1}.{j}."  # noqa: E731
    down = lambda i, k: f"stages.{i}.downsample.{k}" if timm else f"features.{2 * i}.{k}"  # noqa: E731
    inner = dict(zip(("dwconv", "layernorm", "pwconv1", "pwconv2"), ("conv_dw", "norm", "mlp.fc1", "mlp.fc2") if timm else ("block.0", "block.2", "block.3", "block.5")))  # fmt: skip
    stem, last = ("stem", "head.norm") if timm else ("features.0", "classifier.0")
    pairs = {"embeddings.patch_embeddings": f"{stem}.0", "embeddings.layernorm": f"{stem}.1", "layernorm": last}
    made: dict[str, str | Change] = {}
    depths, sizes = [], []
    for i in range(4):
        depths.append(_count(entries, re.escape(at(i, "#")).replace(r"\#", r"(\d+)")))
        sizes.append(entries[at(i, 0) + inner["dwconv"] + ".weight"].shape[0])
        pairs |= {f"encoder.stages.{i}.downsampling_layer.{k}": down(i, k) for k in (0, 1) if i}
        for j in range(depths[i]):
            pairs |= {f"encoder.stages.{i}.layers.{j}.{a}": at(i, j) + b for a, b in inner.items()}
            scale = at(i, j) + ("gamma" if timm else "layer_scale")
            made[f"encoder.stages.{i}.layers.{j}.layer_scale_parameter"] = _flat(scale)
    for a, b in pairs.items():
        made |= {f"{a}.{leaf}": f"{b}.{leaf}" for leaf in ("weight", "bias")}
    missing = sorted(how for how in made.values() if isinstance(how, str) and how not in entries)
    if missing:
        raise KeyError(missing[0])
    _, channels, patch = entries[f"{stem}.0.weight"].shape[:3]
    size = told.get("image_size", 224)
    config = {
        "model_type": "convnext", "num_channels": channels, "patch_size": patch, "hidden_sizes": sizes, "depths": depths,
        "layer_norm_eps": EPS, "image_size": int(size if isinstance(size, int) else max(size)),
    }  # fmt: skip
    used = {n for n in entries if n.startswith(("stages.", "features.", f"{stem}.", f"{last}."))}
    known = {how for how in made.values() if isinstance(how, str)}
    used = {n for n in used if n in known or n.endswith(("gamma", "layer_scale"))}
    return Found("borrowed", {"architecture": settings_of(config)}, made, used)


def _flat(name: str) -> Change:
    return lambda file: file.read(name).flatten()
