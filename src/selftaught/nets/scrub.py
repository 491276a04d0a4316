"""Judging the config of a transformers model that nobody vouches for: what names code is refused, the rest is an allow-list."""

from __future__ import annotations

import inspect
import re

from ..core import ModelError
from . import bounds

MODEL_TYPES = frozenset({
    "aimv2_vision_model", "beit", "bit", "clip_vision_model", "convnext", "convnextv2", "cvt", "data2vec-vision",
    "deit", "dinov2", "dinov2_with_registers", "dinov3_convnext", "dinov3_vit", "efficientnet", "focalnet", "glpn",
    "hiera", "ijepa", "levit", "mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "pixio", "poolformer",
    "pvt", "pvt_v2", "regnet", "resnet", "segformer", "siglip_vision_model", "swiftformer", "swin", "swinv2",
    "textnet", "vit", "vit_msn", "vitdet",
})  # fmt: skip
"""Architectures whose AutoModel turns pixels alone into a map or a sequence, and reads nothing else."""

TEXT_TYPES = frozenset({
    "bert", "camembert", "distilbert", "electra", "gpt2", "gpt_neox", "llama", "mistral", "modernbert", "mpnet", "opt", "qwen2",
    "qwen3", "roberta", "xlm-roberta", "xlm-roberta-xl",
})  # fmt: skip
"""Architectures whose AutoModel turns token ids alone into a sequence of one width."""

SOUND_TYPES = frozenset({"hubert", "wav2vec2"})
"""Architectures of waves, read into a network of our own."""

CODE = frozenset({
    "auto_map", "auto_class", "trust_remote_code", "custom_pipelines", "custom_generate", "quantization_config",
    "quantization", "kernel_config", "use_kernels", "kernels", "adapter_config", "peft_config",
    "base_model_name_or_path", "code_revision", "backbone", "use_timm_backbone", "use_pretrained_backbone",
})  # fmt: skip
"""Keys by which configs have had code, kernels or further models loaded."""

IGNORED = frozenset({
    "_name_or_path", "name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "id2label",
    "label2id", "num_labels", "problem_type", "_commit_hash", "out_features", "out_indices", "output_attentions",
    "output_hidden_states", "return_dict", "torchscript", "use_cache", "tie_word_embeddings", "finetuning_task",
    "license", "tags", "model_type",
})  # fmt: skip
"""Keys that say nothing of the network: left out."""

ATTENTION = frozenset({"eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"})


def scrub(config: dict) -> dict:
    """The part of a config.json that describes a network, {"model_type", ...}; ModelError for what is refused.

    Refused: a model_type off the list; keys that name code, kernels, adapters or other models, at any depth; strings that could
    be a path, an address or a repository; numbers beyond any network.  Left out: names of labels, and what transformers
    does not know as a setting of that architecture.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in MODEL_TYPES | TEXT_TYPES | SOUND_TYPES:
        raise ModelError(
            f"The model_type {str(model_type)[:60]!r} is not one that is borrowed here.",
            f"Accepted: {', '.join(sorted(MODEL_TYPES | TEXT_TYPES | SOUND_TYPES))}.",
        )
    _refuse_code(config, "config")
    from transformers import CONFIG_MAPPING

    known = set(inspect.signature(CONFIG_MAPPING[model_type].__init__).parameters) - {"self", "kwargs"} - IGNORED
    kept = {key: value for key, value in sorted(config.items()) if key in known and value is not None}
    _refuse_references(kept, "config")
    bounds.check(kept)
    return {"model_type": model_type, **kept}


def _refuse_code(value: object, where: str) -> None:
    if isinstance(value, list):
        for child in value:
            _refuse_code(child, where)
    if not isinstance(value, dict):
        return
    for key, child in value.items():
        name = f"{where}.{key[:60]}"
        if key.lstrip("_") in CODE or key.endswith("_internal"):
            if child not in (None, False):
                raise ModelError(
                    f"The {name} can have code or another model loaded.",
                    "Refused: ask the author for a folder of safetensors and plain settings.",
                )
        elif key.endswith(("attn_implementation", "experts_implementation")):
            if child is not None and (not isinstance(child, str) or child not in ATTENTION):
                raise ModelError(f"The {name} = {str(child)[:60]!r} names a kernel to load.", "Refused.")
        elif key not in IGNORED:
            _refuse_code(child, name)
            _refuse_references(child, name)


def _refuse_references(value: object, where: str) -> None:
    if isinstance(value, dict):
        for key, child in value.items():
            _refuse_references(child, f"{where}.{key[:60]}")
    elif isinstance(value, list):
        for child in value:
            _refuse_references(child, where)
    elif isinstance(value, str) and not re.fullmatch(r"[A-Za-z0-9_. -]{0,80}", value):
        raise ModelError(f"The {where} = {value[:60]!r} could be a path, an address or a model.", "Refused.")
