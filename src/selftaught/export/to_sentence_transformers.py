"""Export to a folder that SentenceTransformer loads, compared with the original on texts after writing.

The representation is the mean over tokens that are not marks, while sentence-transformers' mean counts every attended token.  A module
WordWeights between the two, with weight 0 for the marks and 1 for everything else, makes them the same: that module's sum of weights is what its
Pooling divides by.  A server that reads 1_Pooling/config.json alone counts the two marks too.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from .. import __version__
from ..core import Draw, Encoder, Kept, ModelError, Ragged, RequestError, View
from ..nets.borrowed import quiet
from ..views.text import MARKS
from .to_transformers import TOLERANCE, to_transformers

WEIGHTS, POOLING = "2_WordWeights", "1_Pooling"
TEXTS = (
    "A man is playing a guitar.", "someone plays music", "The [MASK] and [PAD] of a text are ordinary words here.", "Zwei Hunde laufen \u00fcber den Schnee!",
    "long " * 400,
)  # fmt: skip
"""What the folder and the encoder are compared on: short, odd, and longer than any context."""


def to_sentence_transformers(kept: Kept | Encoder, folder: str | Path, *, modality=None) -> dict:
    """Writes the transformers model with its tokenizer, and sentence-transformers' modules around it; returns what was measured.

    modules.json, 1_Pooling (mean), 2_WordWeights (marks count nothing; where the representation is that mean), sentence_bert_config.json,
    config_sentence_transformers.json.  The result is that of `to_transformers`, with "difference" the largest one between the folder, read
    by transformers alone as sentence-transformers reads it, and the encoder on texts.

    Raises RequestError for an encoder that reads no text or has no tokenizer beside it, ModelError where the numbers differ.
    """
    encoder = kept.encoder if isinstance(kept, Kept) else kept
    if encoder.modality != "text" or modality is None:
        what = f"one of {encoder.modality}" if encoder.modality != "text" else "an encoder without its tokenizer"
        raise RequestError(
            f"sentence-transformers embeds texts; this is {what}.",
            "Export it with --to onnx or transformers, or name the folder of a run that learned from text.",
        )
    folder = Path(folder)
    measured = to_transformers(kept, folder, modality=modality)
    for name, content in modules(measured["representation"], encoder.dim, modality).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return {**measured, "difference": _verify(encoder, folder, modality)}


def modules(representation: str, dim: int, modality) -> dict[str, bytes]:
    """{file: content} of what stands around the transformers model."""
    way = {"class": "cls"}.get(representation, "mean")
    chain = [("", "Transformer"), (POOLING, "Pooling")]
    files: dict[str, bytes] = {
        f"{POOLING}/config.json": _json({
            "word_embedding_dimension": dim, "pooling_mode_cls_token": way == "cls", "pooling_mode_mean_tokens": way == "mean",
            "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False,
        }),
        "sentence_bert_config.json": _json({"max_seq_length": modality.context, "do_lower_case": False}),
        "config_sentence_transformers.json": _json({
            "__version__": {"selftaught": __version__, "pytorch": torch.__version__}, "prompts": {}, "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        }),
    }  # fmt: skip
    if representation == "mean over content":
        chain.insert(1, (WEIGHTS, "WordWeights"))
        words, marks = modality.pieces, modality.specials
        weights = torch.ones(len(words), 1)
        weights[:marks] = 0
        files[f"{WEIGHTS}/config.json"] = _json(
            {"vocab": words, "word_weights": dict.fromkeys(words[:marks], 0.0), "unknown_word_weight": 1.0}
        )
        files[f"{WEIGHTS}/model.safetensors"] = to_bytes({"emb_layer.weight": weights})
    files["modules.json"] = _json(
        [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for number, (path, kind) in enumerate(chain)
        ]
    )
    return files


@torch.no_grad()
def read(folder: str | Path, texts: list[str]) -> Tensor:
    """(B, dim) of `texts` by the files of an exported folder alone: transformers' model and tokenizer, weights and pooling as
    sentence-transformers applies them."""
    from transformers import AutoModel, AutoTokenizer

    folder = Path(folder)
    with quiet():
        model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    longest = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=longest)
    last = model(**batch).last_hidden_state
    if json.loads((folder / POOLING / "config.json").read_text())["pooling_mode_cls_token"]:
        return last[:, 0]
    weight = batch["attention_mask"].float()
    if (folder / WEIGHTS).is_dir():
        held = json.loads((folder / WEIGHTS / "config.json").read_text())
        by_id = torch.tensor([held["word_weights"].get(w, held["unknown_word_weight"]) for w in held["vocab"]])
        weight = weight * by_id[batch["input_ids"]]
    return (last * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp_min(1e-9)


@torch.no_grad()
def _verify(encoder: Encoder, folder: Path, modality) -> float:
    """The largest difference on `TEXTS` between the folder and the encoder on clean views; ModelError beyond 1e-4 of the values."""
    was = encoder.training
    encoder.eval()
    texts = [t for t in TEXTS if not spells_a_mark(modality, t)]
    try:
        wanted = encoder(clean_view(modality, texts)).float()
    finally:
        encoder.train(was)
    difference = float((read(folder, texts) - wanted).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(wanted.abs().max())):
        raise ModelError(
            f"The folder gives other numbers than the encoder on texts: they differ by {difference:.1e}.",
            "It is not to be used; another release of transformers may read it faithfully.",
        )
    return difference


def spells_a_mark(modality, text: str) -> bool:
    """Whether the tokenizer takes a part of `text` for a mark, as vocabularies of unigram pieces do with "[MASK]": unknown to `embed`, a mask to
    whoever loads the folder."""
    return any(number < len(MARKS) for number in modality.bpe.encode(text, add_special_tokens=False).ids)


def clean_view(modality, texts: list[str]) -> View:
    """The view that evaluation and `embed` make of these texts."""
    rows = [torch.from_numpy(modality.decode(text).astype("int64")) for text in texts]
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0)
    view = modality.collate(Ragged(torch.cat(rows), offsets))
    return modality.plain(None)(view, Draw(torch.arange(len(texts))))


def _json(content) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
