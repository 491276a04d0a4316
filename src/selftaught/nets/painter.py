"""From one vector back to a picture: the decoder of autoencoders and of inpainting."""

from __future__ import annotations

import math

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

FIRST = 4
"""Side of the first map."""


class Painter(nn.Module):
    """(B, inputs) -> (B, channels, side, side): a 4 x 4 map that is doubled and convolved until it has the side.

    Nearest-neighbour doubling and 3 x 3 convolutions, which leave no checkerboard (Odena et al. 2016), group norm over all channels, so that rows
    stay apart; widths halve with each doubling, down to a quarter of `width`.
    """

    def __init__(self, inputs: int, channels: int, side: int, *, width: int = 64):
        super().__init__()
        self.options = {"inputs": inputs, "channels": channels, "side": side, "width": width}
        self.side, self.width = side, width
        self.first = nn.Linear(inputs, width * FIRST * FIRST)
        self.steps = nn.Sequential()
        now = width
        for number in range(max(0, math.ceil(math.log2(side / FIRST)))):
            then = max(width // 4, width >> (number + 1))
            block = [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(now, then, 3, 1, 1, bias=False),
                nn.GroupNorm(1, then),
                nn.ReLU(),
            ]
            self.steps.extend(block)
            now = then
        self.last = nn.Conv2d(now, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.last(self.steps(F.relu(self.first(x).view(len(x), self.width, FIRST, FIRST))))
        if maps.shape[-1] == self.side:
            return maps
        return F.interpolate(maps, size=(self.side, self.side), mode="bilinear", align_corners=False)

    def config(self) -> dict:
        return {"kind": "painter", "options": self.options}
