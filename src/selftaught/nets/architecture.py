"""From the settings of a transformers model to a network: judged, planned on the meta device, then built."""

from __future__ import annotations

import inspect
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
import torch.nn as nn

from ..core import ModelError
from . import files
from .blank import blank
from .scrub import scrub


@dataclass(frozen=True)
class Plan:
    """What is known of a network before it is built: its input, and the shapes of its weights."""

    channels: int
    size: tuple[int, int]
    """Of the images in pixels: (height, width)."""
    patch: int | None
    """Side of a patch where the config names one."""
    interpolates: bool
    """Whether forward takes interpolate_pos_encoding, for images of other sizes."""
    shapes: dict[str, tuple[int, ...]] = field(repr=False)
    """{name that transformers writes to files: shape}."""


@dataclass(frozen=True)
class Outline:
    """What running a network shows."""

    width: int
    """Of the last hidden state."""
    pooled: int
    """Of the representation that the model itself pools, else `width`."""
    own: bool
    """Whether the model itself pools."""
    stages: int


@contextmanager
def _judged():
    """Turns whatever a nonsensical config makes transformers raise into a ModelError."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except ModelError:
        raise
    except (
        ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NotImplementedError, RuntimeError, TypeError,
        ValueError, StrictDataclassError,
    ) as error:  # fmt: skip
        raise ModelError(
            f"The config does not describe a network: {type(error).__name__}: {str(error)[:300]}"
        ) from error


def network_config(text: str):
    """The transformers config object of the JSON `text` (see scrub); ModelError where it is refused or makes no sense."""
    with _judged():
        from transformers import CONFIG_MAPPING

        settings = scrub(files.parse_json(text.encode(), "config"))
        return CONFIG_MAPPING[settings.pop("model_type")](**settings)


def network_class(config) -> tuple[Any, dict]:
    """The AutoModel class of a config and its arguments: no pooling layer that nothing would train."""
    from transformers import MODEL_MAPPING

    kind: Any = MODEL_MAPPING[type(config)]
    names = inspect.signature(kind.__init__).parameters
    return kind, {"add_pooling_layer": False} if "add_pooling_layer" in names else {}


def make(text: str) -> nn.Module:
    """The network with fresh parameters, in training mode; ModelError where it would not fit into memory."""
    need, left = sum(_numel(s) for s in plan(text).shapes.values()) * 4, files.memory_left()
    if left is not None and need > left:
        raise ModelError(f"The config asks for {need / 1e9:.1f} GB of weights; {left / 1e9:.1f} GB of memory are left.")
    with _judged():
        config = network_config(text)
        kind, arguments = network_class(config)
        return kind(config, **arguments).train()


def _numel(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


@lru_cache(maxsize=32)
def plan(text: str) -> Plan:
    """The plan of a config: the network is built on the meta device, where nothing is allocated.

    It is not run there: some models keep tensors of their first run for all later ones.
    """
    with _judged(), blank():
        config = network_config(text)
        kind, arguments = network_class(config)
        model = kind(config, **arguments)
        patch = getattr(config, "patch_size", None)
        return Plan(
            channels=getattr(config, "num_channels", 3),
            size=image_size(config),
            patch=patch if isinstance(patch, int) else None,
            interpolates="interpolate_pos_encoding" in inspect.signature(kind.forward).parameters,
            shapes={k: tuple(v.shape) for k, v in portable(model).items()},
        )


_OUTLINES: dict[str, Outline] = {}


def outline(text: str, model: nn.Module) -> Outline:
    """The outline of a network, from one image run through it, once for each architecture in a process."""
    if text not in _OUTLINES:
        wanted, training = plan(text), model.training
        like = next(model.parameters())
        if like.is_meta:
            raise ValueError("a network on the meta device is not run: its outline is not known")
        with _judged(), torch.no_grad():
            out = model.eval()(pixel_values=like.new_zeros(1, wanted.channels, *wanted.size), output_hidden_states=True)
        model.train(training)
        last, own = out.last_hidden_state, getattr(out, "pooler_output", None)
        width = last.shape[1] if last.ndim == 4 else last.shape[2]
        pooled = width if own is None else own.flatten(1).shape[1]
        _OUTLINES[text] = Outline(width, pooled, own is not None, max(1, len(out.hidden_states or ()) - 1))
    return _OUTLINES[text]


def portable(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors under the names that transformers writes to files: they outlast its renamings of modules."""
    from transformers.core_model_loading import revert_weight_conversion

    return revert_weight_conversion(model, {k: v.detach() for k, v in model.state_dict().items()})  # type: ignore[arg-type]


def image_size(config) -> tuple[int, int]:
    """(height, width) of a config, 224 where it names none."""
    size = getattr(config, "image_size", None) or 224
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def settings_of(config: dict) -> str:
    """The JSON text under which an architecture is kept: scrubbed, keys in order."""
    return json.dumps(scrub(config), sort_keys=True)
