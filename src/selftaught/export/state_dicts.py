"""Export of plain weights under the names of torchvision and timm, as safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..core import Encoder, Kept, RequestError, module
from ..nets.borrowed_timm import Timm
from ..nets.resnet import ResNet
from ..nets.vit import ViT
from .architectures import positions
from .sample import image_side
from .to_transformers import image_processor

SMALL_STEM = (
    "model.conv1 = torch.nn.Conv2d({channels}, {width}, 3, 1, 1, bias=False); model.maxpool = torch.nn.Identity()"
)


def to_torchvision(kept: Kept | Encoder, folder: str | Path, *, modality=None) -> dict:
    """Writes model.safetensors with torchvision's names, without `fc`; returns {"architecture", "load": Python lines}.

    For ResNet-18, 34, 50, 101 and 152 of full width; RequestError for others.  The lines build the same network: with the small stem
    they replace torchvision's.
    """
    encoder = kept.encoder if isinstance(kept, Kept) else kept
    if not isinstance(encoder, ResNet) or encoder.width != 64:
        raise RequestError(
            f"torchvision has no network like the encoder {encoder.kind!r} with these options.",
            "Pretrain with --encoder resnet18, resnet34 or resnet50, or export with --to onnx.",
        )
    name = f"resnet{encoder.depth}"
    lines = [
        "import torch, torchvision",
        "from safetensors.torch import load_file",
        f"model = torchvision.models.{name}()",
    ]
    lines += _stem_lines(encoder)
    lines += ["model.fc = torch.nn.Identity()", 'model.load_state_dict(load_file("model.safetensors"))']
    _write(folder, encoder.state_dict(), encoder, modality, {"architecture": name})
    return {"architecture": name, "load": [*lines, _input_line(encoder)]}


def to_timm(kept: Kept | Encoder, folder: str | Path, *, modality=None) -> dict:
    """Writes model.safetensors with timm's names and config.json; returns {"architecture", "load": Python lines}.

    ResNet-18 to 152; ViT without registers; models of timm.  Where timm can build the network from its config, the
    folder loads with timm.create_model("local-dir:FOLDER").  RequestError for others.
    """
    encoder = kept.encoder if isinstance(kept, Kept) else kept
    arguments: dict = {}
    if isinstance(encoder, Timm):
        name, state = encoder.architecture, encoder.model.state_dict()
    elif isinstance(encoder, ResNet) and encoder.width == 64:
        name, state = f"resnet{encoder.depth}", encoder.state_dict()
    elif isinstance(encoder, ViT) and not encoder.registers and not encoder.causal:
        name, state, arguments = "vit_base_patch16_224", _vit_state(encoder), _vit_arguments(encoder)
    else:
        raise RequestError(
            f"timm has no network like the encoder {encoder.kind!r} with these options.", "Export it with --to onnx."
        )
    high, wide = image_side(encoder, modality)
    processor = image_processor(encoder, modality)
    channels = len(processor["image_mean"])
    config = {
        "architecture": name, "num_classes": 0, "num_features": encoder.dim, "model_args": arguments,
        "pretrained_cfg": {
            "num_classes": 0, "input_size": [channels, high, wide], "fixed_input_size": isinstance(encoder, ViT),
            "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center", "mean": processor["image_mean"],
            "std": processor["image_std"],
        },
    }  # fmt: skip
    lines = ["import timm, torch"]
    if isinstance(encoder, ResNet) and encoder.small_stem:
        lines += [
            "from safetensors.torch import load_file",
            f'model = timm.create_model("{name}", num_classes=0, in_chans={channels})',
        ]
        lines += [*_stem_lines(encoder), 'model.load_state_dict(load_file("model.safetensors"))']
    else:
        lines += ['model = timm.create_model("local-dir:.", pretrained=True)']
        if isinstance(encoder, ViT):  # timm's own is 1e-6, which its arguments cannot change
            lines += [
                "for norm in model.modules():",
                "    if isinstance(norm, torch.nn.LayerNorm):",
                f"        norm.eps = {encoder.eps}",
            ]
    _write(folder, state, encoder, modality, {"architecture": name})
    (Path(folder) / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    return {"architecture": name, "load": [*lines, _input_line(encoder)]}


def _stem_lines(encoder: ResNet) -> list[str]:
    if encoder.small_stem:
        return [SMALL_STEM.format(channels=encoder.channels, width=encoder.width)]
    return (
        [f"model.conv1 = torch.nn.Conv2d({encoder.channels}, 64, 7, 2, 3, bias=False)"] if encoder.channels != 3 else []
    )


def _input_line(encoder: Encoder) -> str:
    options = module.options(encoder)
    return f"# input: pixels in 0-1, less {list(options['mean'])}, divided by {list(options['std'])}"


def _vit_arguments(encoder: ViT) -> dict:
    """timm's arguments for the same network; its last norm stands before the pooling ("fc_norm" off)."""
    return {
        "img_size": list(image_side(encoder)), "patch_size": encoder.patch, "in_chans": encoder.channels,
        "embed_dim": encoder.width, "depth": encoder.depth, "num_heads": encoder.heads, "mlp_ratio": encoder.mlp,
        "class_token": encoder.class_token, "no_embed_class": True, "fc_norm": False,
        "global_pool": "token" if encoder.pooling == "class" else "avg", "num_classes": 0,
    }  # fmt: skip


def _vit_state(encoder: ViT) -> dict[str, Tensor]:
    blocks: list[Any] = list(encoder.blocks.layer)
    project: Any = encoder.project
    state: dict[str, Tensor] = {
        "pos_embed": positions(encoder.blocks)[None],
        "patch_embed.proj.weight": project.weight, "patch_embed.proj.bias": project.bias,
        "norm.weight": encoder.blocks.norm.weight, "norm.bias": encoder.blocks.norm.bias,
    }  # fmt: skip
    if encoder.class_token:
        state["cls_token"] = encoder.cls_token[None, None]
    for i, block in enumerate(blocks):
        for ours, theirs in (
            (block.norm1, "norm1"), (block.attention.qkv, "attn.qkv"), (block.attention.out, "attn.proj"),
            (block.norm2, "norm2"), (block.expand, "mlp.fc1"), (block.contract, "mlp.fc2"),
        ):  # fmt: skip
            state[f"blocks.{i}.{theirs}.weight"], state[f"blocks.{i}.{theirs}.bias"] = ours.weight, ours.bias
    return state


def _write(folder: str | Path, state: dict[str, Tensor], encoder: Encoder, modality, facts: dict) -> None:
    processor = image_processor(encoder, modality)
    metadata = {
        "format": "pt", **facts, "mean": json.dumps(processor["image_mean"]), "std": json.dumps(processor["image_std"]),
        "image_size": json.dumps(list(image_side(encoder, modality))),
    }  # fmt: skip
    if isinstance(encoder, ViT):  # what shapes do not tell
        metadata |= {k: json.dumps(getattr(encoder, k)) for k in ("heads", "pooling", "eps")}
    Path(folder).mkdir(parents=True, exist_ok=True)
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
    with torch.no_grad():
        save_file(plain, Path(folder) / "model.safetensors", metadata=metadata)
