"""Export to a folder that transformers loads with AutoModel, compared with the original after writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core import Encoder, Kept, ModelError, RequestError, View, module
from ..nets.borrowed import Borrowed, quiet
from ..nets.resnet import ResNet
from ..nets.text import TextTransformer
from ..nets.vit import ViT
from . import architectures
from .sample import channels_of, image_side, sample

TOLERANCE = 1e-4


def to_transformers(kept: Kept | Encoder, folder: str | Path, *, modality=None) -> dict:
    """Writes config.json, model.safetensors and the image processor or tokenizer; returns what was measured.

    ViT becomes ViTModel (IJepaModel without a class token), ResNet with the large stem ResNetModel, the text transformer GPT2Model
    (causal) or XLMRobertaXLModel, a borrowed network what it was.  The result is {"architecture", "representation": how to get it
    from the model's output, "difference": largest absolute difference after AutoModel.from_pretrained(folder)}.

    Raises RequestError for an encoder that transformers has no architecture for (with what to do instead), ModelError where
    the folder gives other numbers.
    """
    encoder = kept.encoder if isinstance(kept, Kept) else kept
    folder, was = Path(folder), encoder.training
    folder.mkdir(parents=True, exist_ok=True)
    encoder.eval()
    try:
        with quiet():
            made, representation = _convert(encoder)
            made.eval().save_pretrained(folder)
            _sides(encoder, folder, modality)
            difference = _verify(encoder, folder, representation, modality)
    finally:
        encoder.train(was)
    return {"architecture": type(made).__name__, "representation": representation, "difference": difference}


def _convert(encoder: Encoder) -> tuple[Any, str]:
    """(transformers model, name of the representation in `represent`)."""
    if isinstance(encoder, Borrowed):
        own = encoder.pooling == "auto" and encoder.outline.own
        return encoder.model, "pooler" if own else _token_choice(encoder)
    if isinstance(encoder, ViT):
        return architectures.vit(encoder)
    if isinstance(encoder, ResNet):
        return architectures.resnet(encoder)
    if isinstance(encoder, TextTransformer):
        return architectures.text(encoder)
    raise RequestError(
        f"transformers has no architecture for the encoder {encoder.kind!r}.", "Export it with --to onnx."
    )


def _token_choice(encoder: Borrowed) -> str:
    stages = encoder.features(sample(encoder, 1))
    first = encoder.pooling == "class" or (encoder.pooling == "auto" and stages[-1].prefix > 0)
    return "class" if first else f"mean after {stages[-1].prefix}"


def represent(output, representation: str, mask: Tensor | None = None) -> Tensor:
    """(B, dim) from a model's output, as the exported folder's card says.

    "class": last_hidden_state[:, 0].  "pooler": pooler_output.  "mean after P": the mean of last_hidden_state from token P on (over the
    positions of a map).  "mean over content": over tokens where `mask` (B, L) holds.
    """
    last = output.last_hidden_state
    if representation == "pooler":
        return output.pooler_output.flatten(1)
    if representation == "class":
        return last[:, 0]
    if representation == "mean over content":
        assert mask is not None
        weight = mask[..., None].to(last.dtype)
        return (last * weight).sum(1) / weight.sum(1).clamp_min(1)
    if last.ndim == 4:
        return last.mean((2, 3))
    return last[:, int(representation.rpartition(" ")[2]) :].mean(1)


@torch.no_grad()
def _verify(encoder: Encoder, folder: Path, representation: str, modality) -> float:
    """The largest difference between the encoder and AutoModel on the folder; ModelError beyond 1e-4 of the values."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    view = sample(encoder, 4, seed=1, modality=modality)
    wanted = encoder(view).float()
    if encoder.modality == "text":
        ids, valid = view["ids"], view["valid"]
        content = valid & (ids >= int(module.options(encoder)["specials"]))
        got = represent(model(input_ids=ids, attention_mask=valid.long()), representation, content)
    else:
        got = represent(model(pixel_values=_normalised(encoder, view)), representation)
    difference = (got - wanted).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, wanted.abs().max().item()):
        raise ModelError(
            f"The folder gives other numbers than the encoder: they differ by {difference:.1e}.",
            "It is not to be used; another release of transformers may write it faithfully.",
        )
    return difference


def _normalised(encoder: Encoder, view: View) -> Tensor:
    """The pixels as the image processor gives them."""
    options = module.options(encoder)
    mean, std = (torch.tensor(options[k])[:, None, None] for k in ("mean", "std"))
    return (view["pixels"] - mean) / std


def _sides(encoder: Encoder, folder: Path, modality) -> None:
    if encoder.modality == "image":
        processor = image_processor(encoder, modality)
        (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", "utf-8")
    elif modality is not None:
        (folder / "tokenizer.json").write_text(modality.tokenizer, "utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(modality), indent=2) + "\n", "utf-8")


def image_processor(encoder: Encoder, modality=None) -> dict:
    """preprocessor_config.json: the middle of the picture at the encoder's size, normalised as the encoder does it."""
    options, (high, wide) = module.options(encoder), image_side(encoder, modality)
    channels = channels_of(encoder)
    spread = lambda values: list(values) * (channels if len(values) == 1 else 1)  # noqa: E731
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True, "size": {"shortest_edge": min(high, wide)}, "resample": 2,
        "do_center_crop": True, "crop_size": {"height": high, "width": wide},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": spread(options["mean"]), "image_std": spread(options["std"]),
        "do_convert_rgb": channels == 3,
    }  # fmt: skip


def tokenizer_config(modality) -> dict:
    """tokenizer_config.json beside a tokenizer.json of ours: the marks by their roles, and the longest text."""
    from ..views.text import BEGIN, END, MASK, PAD

    marks = modality.pieces  # under the names that a tokenizer taken over has for them
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": modality.context, "padding_side": "right",
        "pad_token": marks[PAD], "bos_token": marks[BEGIN], "eos_token": marks[END], "mask_token": marks[MASK],
        "split_special_tokens": True, "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }  # fmt: skip
