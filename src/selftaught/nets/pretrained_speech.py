"""wav2vec 2.0 and HuBERT in transformers' form: its names for our tensors, and a folder of either read back."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from safetensors.torch import save as to_bytes
from torch import Tensor

from ..core import Encoder, ModelError, RequestError
from . import files
from .architecture import Plan, network_config, settings_of
from .blank import blank
from .quantiser import GumbelQuantiser
from .scrub import SOUND_TYPES
from .tensors import TensorFile, check_room
from .wav2vec2 import Wav2Vec2

PROCESSOR = "preprocessor_config.json"
PREFIXES = ("wav2vec2.", "hubert.")
"""Before the names of a network that stands under a head."""
GAINS = {
    "gain": ("parametrizations.weight.original0", "weight_g"),
    "direction": ("parametrizations.weight.original1", "weight_v"),
}
"""{ours: names that the weight norm's two tensors have had}, the present one first."""
BESIDE = "beside.safetensors"
"""In the folder of a start that is kept: the published head's tensors."""
HEAD = ("quantizer.codevectors", "quantizer.weight_proj.weight", "project_hid.weight", "project_q.weight")
"""What Wav2Vec2ForPreTraining has besides, without biases."""


def _pair(name: str, module: Any) -> dict[str, Tensor]:
    held = {f"{name}.weight": module.weight.detach()}
    return held if module.bias is None else held | {f"{name}.bias": module.bias.detach()}


def named(encoder: Wav2Vec2) -> dict[str, Tensor]:
    """{transformers' name: our tensor, or a part of one}: what is copied into them is copied into the encoder."""
    stem, positions = encoder.convolutions, "encoder.pos_conv_embed.conv"
    held: dict[str, Tensor] = {}
    for number, conv in enumerate(stem.conv):
        held |= _pair(f"feature_extractor.conv_layers.{number}.conv", conv)
    for number, norm in enumerate(stem.norm):
        held |= _pair(f"feature_extractor.conv_layers.{number}.layer_norm", norm)
    held |= {
        **_pair("feature_projection.layer_norm", encoder.norm_stem), **_pair("feature_projection.projection", encoder.project),
        "masked_spec_embed": encoder.mask_token.detach(), **_pair("encoder.layer_norm", encoder.norm_context),
        f"{positions}.bias": encoder.positions.bias.detach(),
    }  # fmt: skip
    held |= {f"{positions}.{names[0]}": getattr(encoder.positions, ours).detach() for ours, names in GAINS.items()}
    block: Any
    for number, block in enumerate(encoder.layer):
        at = f"encoder.layers.{number}"
        thirds = zip(
            "qkv", block.attention.qkv.weight.detach().chunk(3), block.attention.qkv.bias.detach().chunk(3), strict=True
        )
        for letter, weight, bias in thirds:
            held |= {f"{at}.attention.{letter}_proj.weight": weight, f"{at}.attention.{letter}_proj.bias": bias}
        held |= {
            **_pair(f"{at}.attention.out_proj", block.attention.out), **_pair(f"{at}.layer_norm", block.norm1),
            **_pair(f"{at}.feed_forward.intermediate_dense", block.expand), **_pair(f"{at}.feed_forward.output_dense", block.contract),
            **_pair(f"{at}.final_layer_norm", block.norm2),
        }  # fmt: skip
    return held


def named_head(quantiser: GumbelQuantiser, predictor: nn.Linear, target: nn.Linear) -> dict[str, Tensor]:
    """The same of what wav2vec 2.0 trains beside the encoder, as Wav2Vec2ForPreTraining names it."""
    return {
        "quantizer.codevectors": quantiser.vectors.detach().flatten(0, 1)[None], **_pair("quantizer.weight_proj", quantiser.score),
        **_pair("project_hid", predictor), **_pair("project_q", target),
    }  # fmt: skip


def take_head(encoder: Wav2Vec2, quantiser: GumbelQuantiser, predictor: nn.Linear, target: nn.Linear) -> str:
    """Copies what a folder of Wav2Vec2ForPreTraining held beside `encoder` where it is of this shape; a sentence on what became of it, "" where there is none."""
    held: dict[str, Tensor] = getattr(encoder, "beside", {})
    if not held:
        return ""
    own = named_head(quantiser, predictor, target)
    if any(name not in held or held[name].shape != tensor.shape for name, tensor in own.items()):
        _, count, width = held["quantizer.codevectors"].shape
        whole = held["project_q.weight"].shape[1]
        groups = whole // width
        return (
            f"the folder's codebook ({groups} x {count // groups} codes in {whole} dimensions) is not of the shape asked for and begins anew: to go on with it set "
            f"groups = {groups}, codes = {count // groups}, code_width = {whole}."
        )
    for name, tensor in own.items():
        tensor.copy_(held[name])
    return "the folder's codebook and projections go on learning."


def settings(encoder: Wav2Vec2) -> dict[str, Any]:
    """The arguments of Wav2Vec2Config or HubertConfig."""
    return {
        "hidden_size": encoder.width, "num_hidden_layers": encoder.depth, "num_attention_heads": encoder.heads,
        "intermediate_size": round(encoder.width * encoder.mlp), "hidden_act": "gelu", "feat_extract_activation": "gelu",
        "conv_dim": list(encoder.channels), "conv_kernel": list(encoder.kernels), "conv_stride": list(encoder.strides), "conv_bias": encoder.bias,
        "feat_extract_norm": encoder.norm, "do_stable_layer_norm": encoder.stable, "num_conv_pos_embeddings": encoder.position_kernel,
        "num_conv_pos_embedding_groups": encoder.position_groups, "layer_norm_eps": encoder.eps, "hidden_dropout": encoder.dropout,
        "activation_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": encoder.dropout, "layerdrop": 0.0,
    }  # fmt: skip


def processor(encoder: Wav2Vec2) -> dict[str, Any]:
    """preprocessor_config.json: what becomes of a wave before the model hears it."""
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1, "sampling_rate": encoder.rate, "padding_value": 0.0,
        "padding_side": "right", "do_normalize": encoder.normalise, "return_attention_mask": encoder.norm == "layer",
    }  # fmt: skip


def _options(config: Any, architecture: str) -> dict[str, Any]:
    """Our options for a config of transformers; ModelError for what our network has not."""
    unfit = {
        "hidden_act": config.hidden_act != "gelu", "feat_extract_activation": config.feat_extract_activation != "gelu",
        "add_adapter": getattr(config, "add_adapter", False), "adapter_attn_dim": getattr(config, "adapter_attn_dim", None) is not None,
        "conv_pos_batch_norm": getattr(config, "conv_pos_batch_norm", False), "feat_proj_layer_norm": not getattr(config, "feat_proj_layer_norm", True),
    }  # fmt: skip
    if wrong := [name for name, so in unfit.items() if so]:
        raise ModelError(
            f"The config's {wrong[0]} is another than that of wav2vec 2.0 and HuBERT as published.",
            "It is not read here.",
        )
    width = config.hidden_size
    return {
        "channels": tuple(config.conv_dim), "kernels": tuple(config.conv_kernel), "strides": tuple(config.conv_stride), "bias": bool(config.conv_bias),
        "norm": config.feat_extract_norm, "stable": bool(config.do_stable_layer_norm), "width": width, "depth": config.num_hidden_layers,
        "heads": config.num_attention_heads, "mlp": config.intermediate_size / width if width else 0.0, "eps": float(config.layer_norm_eps),
        "position_kernel": config.num_conv_pos_embeddings, "position_groups": config.num_conv_pos_embedding_groups,
        "dropout": float(config.hidden_dropout), "architecture": architecture,
    }  # fmt: skip


def _heard(folder: Path, root: Path | None) -> dict[str, Any]:
    """rate and normalise of preprocessor_config.json; the published ones where there is no such file."""
    if not os.path.lexists(folder / PROCESSOR):
        return {}
    given = files.read_json(folder, PROCESSOR, root=root)
    rate, normalise = given.get("sampling_rate", 16000), given.get("do_normalize", True)
    if (
        not isinstance(rate, int)
        or isinstance(rate, bool)
        or not 1000 <= rate <= 384_000
        or not isinstance(normalise, bool)
    ):
        raise ModelError(f"{PROCESSOR!r}: sampling_rate {str(rate)[:20]}, do_normalize {str(normalise)[:20]} are none.")
    return {"rate": rate, "normalise": normalise}


def rate_of(folder: Path, root: Path | None, config: dict) -> int | None:
    """Samples a second that a folder's model hears; None where `config` is of no such model."""
    if config.get("model_type") not in SOUND_TYPES:
        return None
    return _heard(folder, root).get("rate", Wav2Vec2.rate)


def load(folder: Path, root: Path | None, config: dict, *, weights: bool, unsafe: list[str]) -> Wav2Vec2:
    """The encoder of a folder of wav2vec 2.0 or HuBERT, alone or under a head, in eval mode.

    Of Wav2Vec2ForPreTraining quantiser and projections are kept aside (`beside`, {its name: tensor}), so that wav2vec 2.0 goes on with its codes.
    """
    architecture = str(config["model_type"])
    options = {**_options(network_config(settings_of(config)), architecture), **_heard(folder, root)}
    wanted = _plan(options)
    with torch.random.fork_rng(devices=[]):
        encoder = _made(options)
    if not weights:
        return encoder.eval()
    from .pretrained import tensors_of

    held = {_bare(name): tensor for name, tensor in tensors_of(folder, root, unsafe, wanted).items()}
    missing = []
    for name, tensor in named(encoder).items():
        if name in held and held[name].shape == tensor.shape:
            tensor.copy_(held[name])
        elif name != "masked_spec_embed":  # a model that was fine-tuned without masks has none
            missing.append(name)
    if missing:
        raise ModelError(
            f"The weights do not fit the config: {', '.join(sorted(missing)[:3])} missing or of another shape."
        )
    _put_beside(encoder, held)
    return encoder.eval()


def _put_beside(encoder: Wav2Vec2, held: dict[str, Tensor]) -> None:
    beside = {k: v.float() for k, v in held.items() if k.startswith(("quantizer.", "project_hid.", "project_q."))}
    vars(encoder)["beside"] = beside if all(name in beside for name in HEAD) else {}


def kept_beside(encoder: Encoder) -> dict[str, bytes]:
    """{file: content} that goes with a start that is kept (see store.save), so that a run which is begun again begins with the folder's codes; {} where there are none."""
    held: dict[str, Tensor] = getattr(encoder, "beside", {})
    return {BESIDE: to_bytes(held)} if held else {}


def take_beside(encoder: Encoder, folder: Path) -> None:
    """Puts back what `kept_beside` wrote; ModelError where it is damaged."""
    if isinstance(encoder, Wav2Vec2) and os.path.lexists(folder / BESIDE):
        with TensorFile(folder, BESIDE) as file:
            check_room([file])
            _put_beside(encoder, dict(file.tensors()))


def _bare(name: str) -> str:
    """A file's name as `named` has it."""
    name = next((name.removeprefix(p) for p in PREFIXES if name.startswith(p)), name)
    for now, *before in GAINS.values():
        for old in before:
            if name.endswith(f"pos_conv_embed.conv.{old}"):
                return name.removesuffix(old) + now
    return name


def _made(options: dict[str, Any]) -> Wav2Vec2:
    try:
        return Wav2Vec2(**options)
    except (RequestError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise ModelError(f"The config does not describe a network: {str(error)[:300]}") from error


def _plan(options: dict[str, Any]) -> Plan:
    """The shapes of the weights, before any is allocated; ModelError where they would not fit into memory."""
    with blank():
        shapes = {name: tuple(tensor.shape) for name, tensor in named(_made(options)).items()}
    need, left = 4 * sum(math.prod(shape) for shape in shapes.values()), files.memory_left()
    if left is not None and need > left:
        raise ModelError(f"The config asks for {need / 1e9:.1f} GB of weights; {left / 1e9:.1f} GB of memory are left.")
    return Plan(channels=1, size=(1, 1), patch=None, interpolates=False, shapes=shapes)
