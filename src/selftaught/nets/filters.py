"""What the first layer of an encoder of images or sounds looks for, as little pictures."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Encoder
from .patch_code import PatchCode, Scale
from .sound_bank import SoundBank

SHOWN = 96
"""Filters that are shown, evenly spread over all there are."""


@torch.no_grad()
def first_filters(encoder: Encoder) -> list[Tensor]:
    """(n, channels, height, width) in 0-1, each with its largest weight at 0 or 1 and zero at 1/2; one tensor a dictionary or layer.

    Of a patch code the atoms of each scale, brought back from their whitened space; of other encoders the first convolution that sees more than one
    pixel; none where there is no such layer.
    """
    if isinstance(encoder, PatchCode):
        return [_seen(atoms(scale)) for scale in encoder.scales]  # type: ignore[arg-type]
    if isinstance(encoder, SoundBank):  # (n, 1, frames, bands), as a convolution over time and pitch has it
        return [_seen(encoder.convs[0].weight.detach().float().transpose(1, 2)[:, None])]  # type: ignore[union-attr, operator]
    layers = (m for m in encoder.modules() if isinstance(m, nn.Conv2d))
    first: Any = next(layers, None)
    return [] if first is None or max(first.kernel_size) < 2 else [_seen(first.weight.detach().float())]


def atoms(scale: Scale) -> Tensor:
    """(A, planes, patch, patch): for every atom the smallest patch that the whitening filters take to it."""
    patches = scale.atoms.double() @ torch.linalg.pinv(scale.filters.double()).T
    return patches.float().view(-1, scale.planes, scale.patch, scale.patch)


def _seen(filters: Tensor) -> Tensor:
    places = torch.linspace(0, len(filters) - 1, min(SHOWN, len(filters))).round().long()
    chosen = filters[places.to(filters.device)].cpu()
    return 0.5 + chosen / (2 * chosen.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12))
