"""Pixels as encoders take them: uint8 or 0-1 floats in, normalised floats out."""

from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Tokens


class Normalise(nn.Module):
    """(B, C, H, W) uint8, or float in 0-1 -> (pixels - mean) / std in `dtype`.

    `mean` and `std` hold one number for all channels or one for each.  They are no part of the state dict: they are options
    of the encoder, so that its tensors keep the names of the library that they are exported to.  Grey pictures are repeated where there
    are three channels.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: int):
        super().__init__()
        if len(mean) not in (1, channels) or len(std) not in (1, channels):
            raise ValueError(
                f"mean {tuple(mean)} and std {tuple(std)} need one number, or one for each of {channels} channels"
            )
        if not all(s > 0 for s in std):
            raise ValueError(f"std {tuple(std)} must be positive")
        count = max(len(mean), len(std))
        pairs = list(zip(*(tuple(v) * (count if len(v) == 1 else 1) for v in (mean, std))))
        self.channels = channels
        self.register_buffer("scale", torch.tensor([1 / s for _, s in pairs]).view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor([-m / s for m, s in pairs]).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        if pixels.shape[1] == 1 and self.channels == 3:  # grey into a model of colours
            pixels = pixels.expand(-1, 3, -1, -1)
        scale = self.scale / 255 if pixels.dtype == torch.uint8 else self.scale
        return torch.addcmul(self.shift.to(dtype), pixels.to(dtype), scale.to(dtype))


def tokens_of(maps: Tensor) -> Tokens:
    """(B, C, H, W) -> Tokens of (B, H * W, C) with their grid."""
    return Tokens(maps.flatten(2).transpose(1, 2), grid=tuple(maps.shape[2:]))
