"""Models of transformers from a folder that nobody vouches for, or from the hub by name."""

from __future__ import annotations

import math
import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import torch

from ..core import ModelError, RequestError
from . import files, pretrained_speech, pretrained_text, store
from .architecture import Plan, plan, settings_of
from .borrowed import Borrowed
from .borrowed_text import BorrowedText
from .scrub import SOUND_TYPES, TEXT_TYPES
from .tensors import TensorFile, check_room
from .wav2vec2 import Wav2Vec2

INDEX, PROCESSOR = "model.safetensors.index.json", "preprocessor_config.json"
WANTED = (
    "config.json",
    PROCESSOR,
    "tokenizer.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
    "model.safetensors",
    INDEX,
    "model-*.safetensors",
)
SPARE = 1 << 27
"""Elements that a file may hold beyond four times the network: heads and poolers that are not taken."""


def from_transformers(
    source: str, *, download: bool = False, weights: bool = True, pooling: Literal["auto", "class", "mean", "content", "last"] = "auto",
    mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None,
) -> Borrowed | BorrowedText | Wav2Vec2:  # fmt: skip
    """The encoder of a folder in transformers' format, or of a hub name, in eval mode.

    A hub name is looked up in the local cache; `download` allows the network (never under HF_HUB_OFFLINE).  `weights=False`
    takes the architecture alone, with fresh parameters.  The folder is untrusted: safetensors only, no links, no code, the
    config on an allow-list (see scrub).  Mean and std are read from preprocessor_config.json, brought to pixels in 0-1 where the
    model takes another scale (`do_rescale`, `rescale_factor`); `mean` and `std` overrule them, ImageNet's are assumed without.
    """
    folder, root = (Path(source), None) if os.path.lexists(source) else snapshot(source, download)
    unsafe = files.pickles(folder)
    config = files.read_json(folder, "config.json", root=root)
    if config.get("format") == store.FORMAT:
        raise ModelError(f"{source!r} was saved by selftaught.", f"Write --encoder {source} without 'transformers:'.")
    kind = {**dict.fromkeys(TEXT_TYPES, "texts"), **dict.fromkeys(SOUND_TYPES, "sounds")}.get(
        str(config.get("model_type"))
    )
    unfit = [name for name, value in (("mean", mean), ("std", std)) if kind and value is not None]
    unfit += ["pooling"] if kind == "sounds" and pooling not in ("auto", "mean") else []
    if unfit:
        raise RequestError(f"{source!r} is a model of {kind}; it has no {unfit[0]}.", "Leave it out.")
    if kind == "sounds":
        return pretrained_speech.load(folder, root, config, weights=weights, unsafe=unsafe)
    if kind == "texts":
        return pretrained_text.load(folder, root, config, weights=weights, pooling=pooling, unsafe=unsafe)
    architecture = settings_of(config)
    options = {"architecture": architecture, "pooling": pooling, **_preprocessing(folder, root, plan(architecture))}
    options |= {k: tuple(v) for k, v in (("mean", mean), ("std", std)) if v is not None}
    assumed = tuple(k for k in ("mean", "std") if k not in options)
    if not weights:
        return _with(Borrowed(**options), assumed)
    state = tensors_of(folder, root, unsafe, plan(architecture))
    with torch.random.fork_rng(devices=[]):
        encoder = Borrowed(**options)
        encoder.take_weights(state)
    return _with(encoder.eval(), assumed)


def sound_rate(source: str, *, download: bool = False) -> int | None:
    """Samples a second that a model of sounds in transformers' format hears, from a folder or of a hub name; None of models of other kinds."""
    folder, root = (Path(source), None) if os.path.lexists(source) else snapshot(source, download)
    return pretrained_speech.rate_of(folder, root, files.read_json(folder, "config.json", root=root))


def tensors_of(folder: Path, root: Path | None, unsafe: list[str], wanted: Plan) -> dict[str, torch.Tensor]:
    """{name in the file: tensor} of a folder's safetensors, judged by their headers before one is read."""
    with ExitStack() as opened:
        shards = [opened.enter_context(TensorFile(folder, name, root=root)) for name in _shards(folder, root, unsafe)]
        _check_shards(shards, wanted)
        return {name: tensor for shard in shards for name, tensor in shard.tensors()}


def _with(encoder: Borrowed, assumed: tuple[str, ...]) -> Borrowed:
    vars(encoder)["assumed"] = assumed
    return encoder


def snapshot(name: str, download: bool) -> tuple[Path, Path]:
    """The hub cache's folder of a model, and the folder inside which its links must end."""
    if not re.fullmatch(r"[\w-][\w.-]{0,95}(/[\w-][\w.-]{0,95})?", name):
        raise RequestError(
            f"{name!r} is neither a folder nor the name of a model.", "Names look like facebook/dinov2-small."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        path = Path(snapshot_download(name, allow_patterns=list(WANTED), local_files_only=not download))
    except (HfHubHTTPError, OSError, ValueError) as error:
        remedy = (
            "Check the name and the network."
            if download
            else "Allow the download (--set encoder_options.download=true), or give a folder."
        )
        raise RequestError(
            f"{name!r} is no folder here and no model in the local cache: {str(error)[:200]}", remedy
        ) from error
    return path, path.parents[1]


def _shards(folder: Path, root: Path | None, unsafe: list[str]) -> list[str]:
    """Names of the safetensors files with the weights."""
    if os.path.lexists(folder / "model.safetensors"):
        return ["model.safetensors"]
    if not os.path.lexists(folder / INDEX):
        said = f"only {', '.join(unsafe[:3])}, which can run code when read" if unsafe else "no weights"
        raise ModelError(
            f"{str(folder)!r} holds {said}; model.safetensors is wanted.",
            files.unsafe(str(folder / unsafe[0]))[1] if unsafe else "Save the model with save_pretrained.",
        )
    table = files.read_json(folder, INDEX, root=root).get("weight_map")
    names = sorted({str(v) for v in table.values()}) if isinstance(table, dict) else []
    if not names or len(names) > 256 or not all(re.fullmatch(r"[\w-]+(\.[\w-]+)*\.safetensors", n) for n in names):
        raise ModelError(f"{INDEX!r} lists no safetensors files of this folder.", f"It lists {str(names[:2])[:120]}.")
    return names


def _check_shards(shards: list[TensorFile], wanted: Plan) -> None:
    """Judges the headers before a tensor is read: not far more than the network, floats, no weight of another shape."""
    held: dict[str, set[tuple[int, ...]]] = {}
    count = 0
    for shard in shards:
        for name, entry in shard.entries.items():
            count += entry.numel
            steps = name.split(".")
            for i in range(max(0, len(steps) - 12), len(steps)):
                held.setdefault(".".join(steps[i:]), set()).add(entry.shape)
    need = sum(math.prod(shape) for shape in wanted.shapes.values())
    if count > 4 * need + SPARE:
        raise ModelError(
            f"The folder holds {count:,} weights; its config describes {need:,}.",
            "Refused: they do not belong together.",
        )
    check_room(shards)
    for name, shape in wanted.shapes.items():
        if name in held and shape not in held[name]:
            raise ModelError(f"The weight {name!r} is of shape {min(held[name])}; the config asks for {shape}.")


def _preprocessing(folder: Path, root: Path | None, wanted: Plan) -> dict:
    """mean and std of preprocessor_config.json, for pixels in 0-1; nothing where there is no such file, or it does not say.

    The file says what becomes of pixels in 0-255: (pixels x factor [- 1] - mean) / std, with a factor of 1 where they are not rescaled.
    """
    if not os.path.lexists(folder / PROCESSOR):
        return {}
    given = files.read_json(folder, PROCESSOR, root=root)
    factor = given.get("rescale_factor", 1 / 255) if given.get("do_rescale", True) is not False else 1
    if not _number(factor) or factor <= 0:
        raise ModelError(f"{PROCESSOR!r}: rescale_factor = {str(factor)[:80]} is none.", "Numbers like 1/255 are.")
    shift = 1.0 if given.get("rescale_offset") is True and factor != 1 else 0.0
    found: dict[str, tuple[float, ...]] = {"mean": (0.0,), "std": (1.0,)}
    if given.get("do_normalize", True) is not False:
        found = {
            ours: values
            for ours, theirs in (("mean", "image_mean"), ("std", "image_std"))
            if (values := _channel_numbers(given, ours, theirs, wanted)) is not None
        }
    change = {"mean": lambda v: (v + shift) / (255 * factor), "std": lambda v: v / (255 * factor)}
    exact = factor == 1 / 255 and not shift
    return found if exact else {k: tuple(change[k](v) for v in values) for k, values in found.items()}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e4


def _channel_numbers(given: dict, ours: str, theirs: str, wanted: Plan) -> tuple[float, ...] | None:
    values = given.get(theirs)
    if values is None:
        return None
    values = values if isinstance(values, list) else [values]
    if len(values) not in (1, wanted.channels) or not all(map(_number, values)) or (ours == "std" and min(values) <= 0):
        raise ModelError(f"{PROCESSOR!r}: {theirs} = {str(values)[:80]} is no {ours} of {wanted.channels} channels.")
    return tuple(float(v) for v in values)
