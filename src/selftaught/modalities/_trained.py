"""A trained network that a request names, opened to be asked: a run, an encoder, a fine-tuned model, one of transformers or timm."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch.nn as nn

from .. import nets
from ..core import Encoder, ModelError, RequestError
from ..nets import files

SAME = ("name", "tokenizer", "channels")
"""Settings of a modality in which two networks must agree to read the same rows."""


@dataclass(frozen=True)
class Trained:
    """A network, and what to know of its answers."""

    net: nn.Module
    """View -> (B, width)."""
    width: int
    side: int | None
    """Of the pictures that it was trained on, in pixels; None where it has no such size."""
    labels: dict | None
    """labels.json, where the answers are scores of classes."""


def open_trained(
    name: str, modality: Any, load: Callable[[Path], Any], *, wanted: Literal["auto", "features", "classes"] = "auto"
) -> Trained:
    """The network `name` (see nets.parse) for rows of `modality`; its classes' scores where it is a fine-tuned classifier, else its features.

    `load`: modalities.load.  Raises ModelError for a folder that is missing or broken, RequestError for a network without trained weights, one
    that reads other data, or one without classes where these are wanted.
    """
    kind, options = nets.parse(name)
    source = options.get("source", "")
    if kind not in nets.LOADED or (kind == "timm" and "." not in source and not os.path.lexists(source)):
        raise RequestError(f"{name!r} is an untrained network: it has nothing to teach.", "Name trained weights.")
    if kind != "run":
        encoder = nets.build(kind, **options)
        _agree(name, {"name": encoder.modality}, modality)
        return _features(name, encoder, _side(encoder), wanted)
    home = nets.store.find(options["folder"])
    beside = load(home).config()
    _agree(name, beside, modality)
    labels = None if wanted == "features" else _labels(home)
    if labels is None:
        return _features(name, nets.store.load_encoder(home), beside.get("side"), wanted)
    kept = nets.store.load(home, parts=["head"])
    head, classes = kept.parts["head"], labels["options"]["classes"]
    if (getattr(head, "in_features", None), getattr(head, "out_features", None)) != (kept.encoder.dim, len(classes)):
        raise ModelError(f"The head in {name!r} does not fit its encoder and labels.", "Finetune the model again.")
    return Trained(nn.Sequential(kept.encoder, head), len(classes), beside.get("side"), labels)


def _features(name: str, encoder: Encoder, side: int | None, wanted: str) -> Trained:
    if wanted == "classes":
        raise RequestError(
            f"{name!r} has no classes to match.", "Finetune it first (selftaught finetune), or match its features."
        )
    return Trained(encoder, encoder.dim, side, None)


def _agree(name: str, theirs: dict, modality: Any) -> None:
    ours = modality.config()
    for key in SAME:
        if key in theirs and theirs[key] != ours.get(key):
            raise RequestError(
                f"{name!r} reads other data: its {'kind' if key == 'name' else key} is {str(theirs[key])[:40]!r}, that of these rows "
                f"{str(ours.get(key))[:40]!r}.",
                "Name a network for these data, or start from its encoder (--encoder) so that rows are read alike.",
            )


def _side(encoder: Any) -> int | None:
    """The side of pictures that a borrowed network was made for."""
    side = getattr(encoder, "image_size", None) or encoder.plan.size[0]
    return side if isinstance(side, int) else None


def _labels(home: Path) -> dict | None:
    """labels.json of a classifier; None where there is none, or where the model's task has no classes."""
    if not os.path.lexists(home / nets.store.LABELS):
        return None
    about = files.read_json(home, nets.store.LABELS)
    options = about.get("options")
    if about.get("task") != "classify":
        return None
    classes = options.get("classes") if isinstance(options, dict) else None
    if not isinstance(classes, list) or len(classes) < 2:
        raise ModelError(f"{nets.store.LABELS} in {str(home)!r} names no classes.", "Finetune the model again.")
    return about
