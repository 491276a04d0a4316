"""Handing an encoder over to other libraries, each time with a card that says what was measured."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from .. import __version__
from ..core import Encoder, Kept, RequestError
from ..core.errors import nearest
from ..nets import files
from . import card as cards
from .card import Card
from .onnx_graph import to_onnx
from .state_dicts import to_timm, to_torchvision
from .to_sentence_transformers import to_sentence_transformers
from .to_transformers import Head, to_transformers

__all__ = [
    "FORMATS",
    "Card",
    "Exported",
    "export",
    "open_encoder",
    "to_onnx",
    "to_sentence_transformers",
    "to_timm",
    "to_torchvision",
    "to_transformers",
]

FORMATS = ("onnx", "transformers", "sentence-transformers", "torchvision", "timm")
RECORD = "export.json"
"""Beside every export: its format and what was measured.  A folder without it is not replaced."""


@dataclass(frozen=True)
class Exported:
    """What was written where, and what was measured."""

    folder: Path
    to: str
    measured: dict = field(default_factory=dict)


def open_encoder(folder: str | Path) -> tuple[Kept, object | None]:
    """What a run or encoder folder holds, and its modality where it is saved beside."""
    from .. import modalities
    from ..nets import store

    home = store.find(folder)
    kept = store.load(home)
    return kept, modalities.load(home) if (home / "preprocessor.json").is_file() else None


def export(
    source: str | Path | Kept | Encoder,
    to: Literal["onnx", "transformers", "sentence-transformers", "torchvision", "timm"],
    out: str | Path,
    *,
    card: Card | None = None,
    modality=None,
    pixels: Literal["float", "uint8"] = "float",
    head: Head = "auto",
    overwrite: bool = False,
) -> Exported:
    """Writes the encoder of a run (or given as object) to the folder `out` in another library's format, with README.md.

    The folder appears whole or not at all, and only after its numbers were compared with the encoder's (ONNX, transformers, sentence-transformers) or
    its names are the library's (torchvision, timm).  `head`: whether a language model's head goes along to transformers (see
    to_transformers).  `card` defaults to what the run's folder says of itself.  Raises
    RequestError for a format or encoder that do not fit, ModelError where the numbers differ.
    """
    if to not in FORMATS:
        raise nearest(str(to), FORMATS, "format")
    out = Path(out)
    _check_out(out, overwrite)
    if isinstance(source, Kept | Encoder):
        kept = source if isinstance(source, Kept) else Kept(source)
    else:
        kept, saved = open_encoder(source)
        modality = modality if modality is not None else saved
        card = card or cards.of_run(source)
    card = card or Card()
    measured: dict = {}

    def write(folder: Path) -> None:
        measured.update(_write(kept, to, folder, modality, pixels, head))
        record = {"format": to, "selftaught": __version__, "encoder": kept.encoder.config(), "measured": measured}
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        usage = {f"How to load it ({to})": _usage(kept.encoder, to, measured)}
        (folder / "README.md").write_text(cards.render(kept.encoder, card, usage), "utf-8")
        (folder / "card.json").write_text(json.dumps(asdict(card), indent=2, default=str) + "\n", "utf-8")

    files.replace_folder(out, write)
    return Exported(out, to, measured)


def _write(kept: Kept, to: str, folder: Path, modality, pixels, head: Head) -> dict:
    if to == "transformers":
        return to_transformers(kept, folder, modality=modality, head=head)
    if to == "onnx":
        return to_onnx(kept, folder / "model.onnx", modality=modality, pixels=pixels)
    writer = {"sentence-transformers": to_sentence_transformers, "torchvision": to_torchvision, "timm": to_timm}[to]
    return writer(kept, folder, modality=modality)


def _check_out(out: Path, overwrite: bool) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise RequestError(f"{str(out)!r} is no folder.", "Choose another --out.")
    if out.is_dir() and any(out.iterdir()):
        if not (out / RECORD).is_file():
            raise RequestError(
                f"{str(out)!r} holds something else than an export: it is not replaced.", "Choose another --out."
            )
        if not overwrite:
            raise RequestError(f"{str(out)!r} holds an export already.", "Choose another --out, or --overwrite.")


_CALLS = {
    "class": "features = output.last_hidden_state[:, 0]",
    "pooler": "features = output.pooler_output.flatten(1)",
    "mean over content": "weight = content[..., None]  # attention_mask, without special tokens\n"
    "features = (output.last_hidden_state * weight).sum(1) / weight.sum(1)",
}


_LANGUAGE = {
    "AutoModelForCausalLM": (
        "", "from transformers import AutoModelForCausalLM", 'writer = AutoModelForCausalLM.from_pretrained(".").eval()',
        "ids = batch.input_ids[:1, :-1]  # without the end mark", "print(writer.generate(ids, do_sample=True, max_new_tokens=20))",
    ),
    "AutoModelForMaskedLM": (
        "", "from transformers import AutoModelForMaskedLM", 'filler = AutoModelForMaskedLM.from_pretrained(".").eval()',
        "logits = filler(**batch).logits",
    ),
}  # fmt: skip
"""Python lines for the language model's head."""


def _usage(encoder: Encoder, to: str, measured: dict) -> str:
    """Python lines that load the export and give the representation."""
    if to in ("torchvision", "timm"):
        return "\n".join(measured["load"])
    if to == "onnx":
        from .sample import INPUTS

        given = ", ".join(f'"{name}": {name}' for name in INPUTS[encoder.modality])
        said = "; ".join(f"{name}: {kind}" for name, kind in measured["inputs"].items())
        return f'import onnxruntime\n# {said}\nsession = onnxruntime.InferenceSession("model.onnx")\n(features,) = session.run(None, {{{given}}})'
    if to == "sentence-transformers":
        return (
            'from sentence_transformers import SentenceTransformer\nfeatures = SentenceTransformer(".").encode(texts)'
        )
    way = measured["representation"]
    start = int(way.rpartition(" ")[2]) if way.startswith("mean after") else 0
    mean = f"features = output.last_hidden_state[:, {start}:].mean(1)  # of a map: .mean((2, 3))"
    if way == "logits":
        return "\n".join([
            "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer",
            'model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(".").eval(), AutoTokenizer.from_pretrained(".")',
            'batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)',
            "written = tokenizer.batch_decode(model.generate(**batch, num_beams=4), skip_special_tokens=True)",
        ])  # fmt: skip
    if encoder.modality == "text":
        return "\n".join([
            "from transformers import AutoModel, AutoTokenizer", 'model = AutoModel.from_pretrained(".").eval()',
            'batch = AutoTokenizer.from_pretrained(".")(texts, return_tensors="pt", padding=True, truncation=True)',
            "output = model(**batch)", "content = batch.attention_mask * (batch.input_ids > 3)", _CALLS.get(way, mean),
            *_LANGUAGE.get(measured.get("model", ""), ()),
        ])  # fmt: skip
    if way == "mean over frames":
        return "\n".join([
            "from transformers import AutoFeatureExtractor, AutoModel",
            'model, prepare = AutoModel.from_pretrained(".").eval(), AutoFeatureExtractor.from_pretrained(".")',
            f'batch = prepare(wave, sampling_rate={encoder.rate}, return_tensors="pt")  # one clip: (samples,) floats in -1..1',
            "features = model(batch.input_values).last_hidden_state.mean(1)",
        ])  # fmt: skip
    return "\n".join([
        "from transformers import AutoImageProcessor, AutoModel", 'model = AutoModel.from_pretrained(".").eval()',
        'batch = AutoImageProcessor.from_pretrained(".")(pictures, return_tensors="pt")',
        "output = model(**batch)", _CALLS.get(way, mean),
    ])  # fmt: skip
