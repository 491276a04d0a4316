"""Inputs on which an export is compared with its original: made up, of every modality's shape, the same for the same seed."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Encoder, RequestError, View, module
from ..nets.borrowed import Borrowed

INPUTS = {"image": ("pixels",), "text": ("ids", "valid"), "series": ("values", "valid"), "sound": ("wave", "length")}
"""{modality: parts of a view that its encoders read}: the inputs of an exported graph, in order."""


def image_side(encoder: Encoder, modality=None) -> tuple[int, int]:
    """(height, width) that an image encoder is exported for: the modality's, else its own option, else 32."""
    options = module.options(encoder)
    own = encoder.plan.size if isinstance(encoder, Borrowed) else 32
    size = getattr(modality, "side", None) or options.get("image_size") or options.get("size") or own
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def channels_of(encoder: Encoder) -> int:
    """Channels of an image encoder's input."""
    return encoder.plan.channels if isinstance(encoder, Borrowed) else int(module.options(encoder)["channels"])


def context(encoder: Encoder, modality=None) -> int:
    """Length of a text or series that it is exported with."""
    return int(getattr(modality, "context", None) or module.options(encoder).get("context") or 64)


def sample(
    encoder: Encoder, rows: int, *, seed: int = 0, modality=None, integers: bool = False, share: float = 1.0
) -> View:
    """A raw view of `rows` made-up rows, with gaps and padding where the modality has them.

    Texts and series are `share` of the length that the encoder is exported with; images are uint8 where `integers` holds.
    """
    parts = INPUTS.get(encoder.modality)
    if parts is None:
        raise RequestError(
            f"An encoder of {encoder.modality or 'several kinds of data'} cannot be exported as one model.",
            f"Encoders of {', '.join(INPUTS)} can; export the towers of a paired one by themselves.",
        )
    draw = torch.Generator().manual_seed(seed)
    if encoder.modality == "image":
        shape = (rows, channels_of(encoder), *image_side(encoder, modality))
        pixels = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
        return View("image", parts={"pixels": pixels if integers else pixels.float() / 255})
    if encoder.modality == "sound":
        length = max(2, int(share * (getattr(modality, "context", None) or 8000)))
        wave = 0.1 * torch.randn(rows, length, generator=draw)
        lengths = torch.full((rows,), length)
        lengths[rows // 2 :] = math.ceil(0.75 * length)
        wave = wave.masked_fill(torch.arange(length) >= lengths[:, None], 0.0)
        return View("sound", parts={"wave": wave, "length": lengths})
    length = max(2, int(share * context(encoder, modality)))
    valid = torch.ones(rows, length, dtype=torch.bool)
    valid[rows // 2 :, math.ceil(0.75 * length) :] = False  # padding at the end of half the rows
    if encoder.modality == "text":
        ids = torch.randint(1, int(encoder.vocabulary), (rows, length), generator=draw)  # type: ignore[arg-type]
        return View(
            "text", parts={"ids": ids.masked_fill(~valid, 0), "valid": valid}
        )  # id 0 is padding, and nothing else
    channels = int(module.options(encoder)["channels"])
    values = torch.randn(rows, channels, length, generator=draw).cumsum(-1)
    values[torch.rand(values.shape, generator=draw) < 0.05] = float("nan")
    return View("series", parts={"values": values, "valid": valid})


class Graph(nn.Module):
    """An encoder as a function of tensors: what is traced."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder, self.names = encoder, INPUTS[encoder.modality]

    def forward(self, *tensors: Tensor) -> Tensor:
        view = View(self.encoder.modality, parts=dict(zip(self.names, tensors, strict=True)))
        return self.encoder(view).float()
