"""Modules with parameters: encoders by kind, the heads beside them, batch norm over processes, saving and loading."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
from functools import cache
from pathlib import Path

import torch
import torch.nn as nn

from ..core import Encoder, ModelError, Paired, RequestError, module
from ..core.errors import nearest
from . import files

KINDS = {
    "resnet": "selftaught.nets.resnet:ResNet",
    "resnet-small": "selftaught.nets.small:SmallResNet",
    "patch-code": "selftaught.nets.patch_code:PatchCode",
    "vit": "selftaught.nets.vit:ViT",
    "text-transformer": "selftaught.nets.text:TextTransformer",
    "word-vectors": "selftaught.nets.word_vectors:WordVectors",
    "series-transformer": "selftaught.nets.series:SeriesTransformer",
    "series-conv": "selftaught.nets.series:SeriesConv",
    "sound-transformer": "selftaught.nets.sound:SoundTransformer",
    "sound-conv": "selftaught.nets.sound:SoundConv",
    "sound-bank": "selftaught.nets.sound_bank:SoundBank",
    "wav2vec2": "selftaught.nets.wav2vec2:Wav2Vec2",
    "borrowed": "selftaught.nets.borrowed:Borrowed",
    "borrowed-text": "selftaught.nets.borrowed_text:BorrowedText",
    "borrowed-timm": "selftaught.nets.borrowed_timm:Timm",
}
"""{kind: "module:Class"} of what `build` makes and a saved folder may name; the entry-point group `selftaught.nets` adds to it."""

LOADED = {
    "transformers": "selftaught.nets.pretrained:from_transformers",
    "timm": "selftaught.nets.borrowed_timm:from_timm",
    "torchvision": "selftaught.nets.named_weights:from_torchvision",
    "word2vec": "selftaught.nets.words:as_encoder",
    "run": "selftaught.nets.store:load_encoder",
}
"""{kind: "module:function"} of encoders that bring their own sizes (and perhaps weights): never named by a saved folder."""

LIBRARIES = ("transformers", "timm", "torchvision", "word2vec")
"""What may stand before a colon in `--encoder`."""

AROUND = {
    "concat-pooled": "selftaught.nets.concat:rebuild",
    "headed": "selftaught.nets.headed:rebuild",
    "weighted-stages": "selftaught.nets.weighted:rebuild",
}
"""{kind: "module:function"} of encoders around another one, whose config theirs holds."""

PARTS = {
    "ctc": "selftaught.nets.ctc:CtcHead",
    "decoder": "selftaught.nets.decoder:Decoder",
    "dictionary": "selftaught.nets.dictionary:Dictionary",
    "detector": "selftaught.nets.dense:Detector",
    "frames": "selftaught.nets.ctc:FrameHead",
    "language-head": "selftaught.nets.heads:LanguageHead",
    "linear": "selftaught.nets.heads:Linear",
    "mlp": "selftaught.nets.heads:MLP",
    "painter": "selftaught.nets.painter:Painter",
    "quantiser": "selftaught.nets.quantiser:GumbelQuantiser",
    "reader": "selftaught.nets.spans:Reader",
    "vector-decoder": "selftaught.nets.vector_decoder:VectorDecoder",
    "segmenter": "selftaught.nets.dense:Segmenter",
    "text-decoder": "selftaught.nets.text_decoder:TextDecoder",
    "prototypes": "selftaught.nets.heads:Prototypes",
    "random-codes": "selftaught.nets.random_codes:RandomCodes",
    "tagger": "selftaught.nets.spans:Tagger",
}
"""{kind: "module:Class"} of parts beside an encoder that are built again on loading (see store)."""

NAMES: dict[str, tuple[str, dict]] = {
    "resnet18": ("resnet", {"depth": 18}),
    "resnet34": ("resnet", {"depth": 34}),
    "resnet50": ("resnet", {"depth": 50}),
    "vit-tiny": ("vit", {"width": 192, "depth": 12, "heads": 3}),
    "vit-small": ("vit", {"width": 384, "depth": 12, "heads": 6}),
    "vit-base": ("vit", {"width": 768, "depth": 12, "heads": 12}),
}
"""{name: (kind, options)}: the sizes that have a name; a kind is a name too, with its own defaults."""

TOWERS = 8
"""Encoders in a paired one that is loaded, at most."""


def __getattr__(name: str):
    if name == "store":  # it builds encoders, so it cannot be imported first
        return importlib.import_module(".store", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def kinds() -> dict[str, str]:
    """{kind: "module:Class"} of this package and of entry points."""
    points = importlib.metadata.entry_points(group="selftaught.nets")
    return {**{p.name: p.value for p in points}, **KINDS}


def _import(value: str):
    path, _, name = value.partition(":")
    return getattr(importlib.import_module(path), name)


def build(kind: str, **options) -> Encoder:
    """A new encoder of `kind`.  Options are its documented fields; kinds of `LOADED` take their function's arguments.

    Raises RequestError for an unknown kind, option or value.
    """
    if kind in LOADED:
        load = _import(LOADED[kind])
        accepted = inspect.signature(load).parameters
        unknown = next((name for name in options if name not in accepted), None)
        if unknown is not None:
            raise nearest(unknown, accepted, f"option of an encoder that is loaded ({kind})")
        return load(**options)
    if kind not in kinds():
        raise nearest(kind, [*kinds(), *LOADED], "kind of encoder")
    return module.build(_import(kinds()[kind]), options, f"the encoder {kind!r}")


def rebuild(config: dict) -> Encoder:
    """The network of `Encoder.config()`, with fresh parameters.  Raises ModelError where the config is not one."""
    if not isinstance(config, dict) or not isinstance(config.get("kind"), str):
        raise ModelError(
            "An encoder's config is {'kind': NAME, 'options': {...}}.", f"This one is {str(config)[:80]!r}."
        )
    kind, options = config["kind"], config.get("options", {})
    if kind == Paired.kind:
        towers = config.get("towers")
        if not isinstance(towers, dict) or not 0 < len(towers) <= TOWERS:
            raise ModelError(f"The config of paired encoders names no towers, or more than {TOWERS}.")
        built = {name: rebuild(tower) for name, tower in towers.items()}
        if torch.get_default_device().type != "meta":
            return Paired().join(**built)
        paired = Paired()  # a plan for its shapes: the widths are compared when it is built
        paired.towers = nn.ModuleDict(built)
        return paired
    if kind in AROUND:
        inner = rebuild(config.get("encoder"))  # type: ignore[arg-type]  # judged there
        try:
            return _import(AROUND[kind])(config, inner)
        except (RequestError, ValueError, TypeError) as error:
            raise ModelError(f"The options of a {kind} encoder do not describe one: {error}") from error
    if kind not in kinds() or not isinstance(options, dict):
        raise ModelError(f"The encoder's kind {kind!r} is not known here.", f"Known: {', '.join(sorted(kinds()))}.")
    try:
        return build(kind, **options)
    except (RequestError, ValueError, TypeError) as error:
        raise ModelError(f"The options of the encoder {kind!r} do not describe a network: {error}") from error


def part(kind: str, options: dict):
    """A part (head, projector, prototypes) of `kind` with fresh parameters; ModelError where it is not known."""
    if kind not in PARTS:
        raise ModelError(f"The part's kind {kind!r} is not known here.", f"Known: {', '.join(sorted(PARTS))}.")
    try:
        return _import(PARTS[kind])(**options)
    except (ValueError, TypeError) as error:
        raise ModelError(f"The options of the part {kind!r} do not describe one: {error}") from error


def parse(name: str) -> tuple[str, dict]:
    """`--encoder NAME` -> (kind, options) for `build`.

    Accepted: a name of `NAMES`, a kind, transformers:FOLDER_OR_NAME, timm:NAME_FOLDER_OR_FILE, torchvision:FILE, or the folder of a
    run or an encoder.
    """
    library, colon, rest = name.partition(":")
    if colon and library in LIBRARIES:
        if not rest:
            raise RequestError(f"--encoder {name!r} names no model.", f"Write {library}:NAME or {library}:FOLDER.")
        return library, {"source": rest}
    if name in NAMES:
        kind, options = NAMES[name]
        return kind, dict(options)
    if name in kinds() and not name.startswith("borrowed"):
        return name, {}
    if name.lower().endswith(files.PICKLES):
        raise RequestError(*files.unsafe(name))
    if name.lower().endswith(".safetensors"):
        raise RequestError(
            f"{name!r} does not say whose names its tensors have.",
            f"Write torchvision:{name} or timm:{name}; for a model of transformers or of selftaught give its folder.",
        )
    if re.search(r"[/\\.]", name) or Path(name).is_dir():
        return "run", {"folder": name}
    accepted = [
        *NAMES,
        *(k for k in kinds() if not k.startswith("borrowed")),
        "transformers:FOLDER_OR_NAME",
        "timm:NAME_FOLDER_OR_FILE",
        "torchvision:FILE",
        "RUN_FOLDER",
    ]
    raise nearest(name, accepted, "encoder")
