"""Export to a folder that transformers loads with AutoModel, compared with the original after writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..core import Encoder, Kept, ModelError, RequestError, View, module
from ..nets.blank import blank
from ..nets.borrowed import Borrowed, quiet
from ..nets.borrowed_text import BorrowedText
from ..nets.heads import LanguageHead
from ..nets.pretrained_speech import processor as feature_extractor
from ..nets.resnet import ResNet
from ..nets.text import TextTransformer
from ..nets.text_decoder import TextDecoder
from ..nets.vit import ViT
from ..nets.wav2vec2 import Wav2Vec2
from . import architectures, seq2seq
from .sample import channels_of, image_side, sample

TOLERANCE = 1e-4
Head = Literal["auto", "none", "causal"]


def to_transformers(kept: Kept | Encoder, folder: str | Path, *, modality=None, head: Head = "auto") -> dict:
    """Writes config.json, model.safetensors and the image processor, feature extractor or tokenizer; returns what was measured.

    ViT becomes ViTModel (IJepaModel without a class token), ResNet with the large stem ResNetModel, the text transformer GPT2Model
    (causal) or XLMRobertaXLModel, with a text decoder among the parts BlenderbotForConditionalGeneration, a borrowed network what it was, and
    wav2vec2 Wav2Vec2ForPreTraining (Wav2Vec2Model without its quantiser, or with head "none") or HubertModel.
    The result is {"architecture", "representation": how to get it from the model's output ("logits": it writes texts), "difference":
    largest absolute difference after AutoModel.from_pretrained(folder)}.

    head "auto": with the language model's head where there is one and the architecture has it (GPT2LMHeadModel, XLMRobertaXLForMaskedLM; tied
    weights are written once): the result then has "model", the class that loads it, and "logits", their largest difference; else "head" says why it
    stays behind.  "none": without.  "causal": a hybrid run as a model that looks back alone, representation included.

    Raises RequestError for an encoder that transformers has no architecture for (with what to do instead), ModelError where
    the folder gives other numbers.
    """
    encoder, top, left = _headed(kept, head)
    kept = kept if isinstance(kept, Kept) else Kept(kept)
    decoder = seq2seq.decoder_of(kept)
    folder, was = Path(folder), encoder.training
    folder.mkdir(parents=True, exist_ok=True)
    encoder.eval()
    try:
        with quiet():
            parts = kept.parts if head != "none" else {}
            made, representation = _convert(encoder, top, parts) if decoder is None else _writer(encoder, decoder)
            made.eval().save_pretrained(folder)
            _sides(encoder, folder, modality, sentinels=0 if decoder is None else decoder.outputs - decoder.vocabulary)
            measured: dict[str, Any] = {"architecture": type(made).__name__, "representation": representation}
            if decoder is None:
                measured["difference"] = _verify(encoder, folder, representation, modality)
            else:
                measured["difference"] = seq2seq.verify(kept, folder, modality)
            if top is not None and decoder is None:
                measured |= _verify_logits(encoder, top, folder, modality)
    finally:
        encoder.train(was)
    return measured | ({"head": left} if left else {})


def _headed(kept: Kept | Encoder, head: Head) -> tuple[Encoder, LanguageHead | None, str]:
    """The encoder as it is written, the head that goes along, and why one stays behind."""
    encoder, top = (kept.encoder, kept.parts.get("head")) if isinstance(kept, Kept) else (kept, None)
    if head == "causal":
        able = isinstance(encoder, TextTransformer) and isinstance(top, LanguageHead) and top.predicts == "next"
        if not able:
            raise RequestError(
                "This model does not predict the next token.", "--head causal is for runs of next-token and hybrid."
            )
        if not encoder.causal:  # type: ignore[union-attr]
            encoder = _looking_back(encoder, top)  # type: ignore[arg-type]
    if head == "none" or top is None or not isinstance(encoder, TextTransformer):
        return encoder, None, ""
    why = architectures.head_fits(encoder, top)
    more = "; --head causal writes the model that looks back" if why and getattr(top, "predicts", "") == "next" else ""
    return (encoder, top, "") if why is None else (encoder, None, f"left behind: {why}{more}")  # type: ignore[return-value]


def _looking_back(encoder: TextTransformer, head: LanguageHead) -> TextTransformer:
    """The encoder read causally, on the same tensors."""
    with blank():
        twin = encoder.sibling(causal=True)
    twin.load_state_dict(encoder.state_dict(keep_vars=True), assign=True)
    if head.weight is encoder.embedding.weight:
        twin.embedding.weight = encoder.embedding.weight  # type: ignore[union-attr]
    return twin  # type: ignore[return-value]


def _convert(encoder: Encoder, head: LanguageHead | None, parts: dict[str, Any]) -> tuple[Any, str]:
    """(transformers model, name of the representation in `represent`)."""
    if isinstance(encoder, Borrowed):
        own = encoder.pooling == "auto" and encoder.outline.own
        return encoder.model, "pooler" if own else _token_choice(encoder)
    if isinstance(encoder, BorrowedText):
        return encoder.model, {"mean": "mean over valid", "content": "mean over content"}.get(
            encoder.pooling, encoder.pooling
        )
    if isinstance(encoder, ViT):
        return architectures.vit(encoder)
    if isinstance(encoder, ResNet):
        return architectures.resnet(encoder)
    if isinstance(encoder, TextTransformer):
        return architectures.text(encoder, head)
    if isinstance(encoder, Wav2Vec2):
        return architectures.speech(encoder, parts)
    raise RequestError(
        f"transformers has no architecture for the encoder {encoder.kind!r}.", "Export it with --to onnx."
    )


def _writer(encoder: Encoder, decoder: TextDecoder) -> tuple[Any, str]:
    """An encoder with its decoder, whose representation is what it writes."""
    if not isinstance(encoder, TextTransformer):
        raise RequestError(
            f"transformers has no architecture for {encoder.kind!r} with a text decoder.", "Export the encoder alone."
        )
    return seq2seq.seq2seq(encoder, decoder.eval()), "logits"


def _token_choice(encoder: Borrowed) -> str:
    stages = encoder.features(sample(encoder, 1))
    first = encoder.pooling == "class" or (encoder.pooling == "auto" and stages[-1].prefix > 0)
    return "class" if first else f"mean after {stages[-1].prefix}"


def represent(output, representation: str, mask: Tensor | None = None) -> Tensor:
    """(B, dim) from a model's output, as the exported folder's card says.

    "class": last_hidden_state[:, 0].  "pooler": pooler_output.  "mean after P": the mean of last_hidden_state from token P on (over the
    positions of a map).  "mean over content", "mean over valid", "mean over frames": over tokens where `mask` (B, L) holds.  "last": the last of these.
    """
    last = output.last_hidden_state
    if representation == "pooler":
        return output.pooler_output.flatten(1)
    if representation == "class":
        return last[:, 0]
    if representation == "last":
        assert mask is not None
        return last[torch.arange(len(last)), mask.long().cumsum(1).argmax(1)]
    if representation in ("mean over content", "mean over valid", "mean over frames"):
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
        content = (
            valid & (ids >= int(module.options(encoder)["specials"]))
            if representation == "mean over content"
            else valid
        )
        got = represent(model(input_ids=ids, attention_mask=valid.long()), representation, content)
    elif isinstance(encoder, Wav2Vec2):
        got = _spoken(encoder, model, view, representation)
    else:
        got = represent(model(pixel_values=_normalised(encoder, view)), representation)
    difference = (got - wanted).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, wanted.abs().max().item()):
        raise ModelError(
            f"The folder gives other numbers than the encoder: they differ by {difference:.1e}.",
            "It is not to be used; another release of transformers may write it faithfully.",
        )
    return difference


def _spoken(encoder: Wav2Vec2, model, view: View, representation: str) -> Tensor:
    """What the model gives for clips one by one, as its feature extractor prepares them: padding would count in a group norm."""
    from transformers import Wav2Vec2FeatureExtractor

    prepare = Wav2Vec2FeatureExtractor(**feature_extractor(encoder))
    rows = []
    for wave, length in zip(view["wave"], view["length"].tolist(), strict=True):
        values = prepare(wave[:length].numpy(), sampling_rate=encoder.rate, return_tensors="pt").input_values
        output = model(input_values=values)
        rows.append(represent(output, representation, torch.ones(output.last_hidden_state.shape[:2], dtype=torch.bool)))
    return torch.cat(rows)


@torch.no_grad()
def _verify_logits(encoder: Encoder, head: LanguageHead, folder: Path, modality) -> dict:
    """{"model", "tied", "logits"}: the class that loads the folder, and the largest difference of its logits; ModelError beyond 1e-4 of the values."""
    import transformers

    name = "AutoModelForCausalLM" if head.predicts == "next" else "AutoModelForMaskedLM"
    model = getattr(transformers, name).from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    view = sample(encoder, 4, seed=2, modality=modality)
    wanted = head(encoder.trunk(encoder.tokenize(view)).values)[view["valid"]].float()
    got = model(input_ids=view["ids"], attention_mask=view["valid"].long()).logits[view["valid"]]
    difference = (got - wanted).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, wanted.abs().max().item()):
        raise ModelError(
            f"The folder's head gives other numbers than the model: they differ by {difference:.1e}.",
            "Export it with --head none; another release of transformers may write it faithfully.",
        )
    return {"model": name, "tied": bool(model.config.tie_word_embeddings), "logits": difference}


def _normalised(encoder: Encoder, view: View) -> Tensor:
    """The pixels as the image processor gives them."""
    options = module.options(encoder)
    mean, std = (torch.tensor(options[k])[:, None, None] for k in ("mean", "std"))
    return (view["pixels"] - mean) / std


def _sides(encoder: Encoder, folder: Path, modality, sentinels: int = 0) -> None:
    if encoder.modality == "image":
        processor = image_processor(encoder, modality)
        (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", "utf-8")
    elif isinstance(encoder, Wav2Vec2):
        (folder / "preprocessor_config.json").write_text(
            json.dumps(feature_extractor(encoder), indent=2) + "\n", "utf-8"
        )
    elif modality is not None:
        (folder / "tokenizer.json").write_text(
            seq2seq.with_sentinels(modality.tokenizer, modality.vocabulary, sentinels), "utf-8"
        )
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
    from ..nets.vocabulary import BEGIN, END, MASK, PAD

    marks = modality.pieces  # under the names that a tokenizer taken over has for them
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": modality.context, "padding_side": "right",
        "pad_token": marks[PAD], "bos_token": marks[BEGIN], "eos_token": marks[END], "mask_token": marks[MASK],
        "split_special_tokens": True, "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }  # fmt: skip
