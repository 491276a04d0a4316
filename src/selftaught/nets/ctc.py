"""The head of a network that spells what it hears: for every frame, how likely each character is, or none (CTC)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor

from ..losses.ctc import BLANK


@dataclass(frozen=True)
class Emitted:
    """What a head says of a batch of sounds: logits (B, T, outputs), of which the first `frames` (B,) of each row mean something."""

    logits: Tensor
    frames: Tensor


class CtcHead(nn.Module):
    """(B, T, width) tokens -> (B, T x upsample, outputs) logits; output 0 is the blank.

    `upsample`: frames that are made of each token, by a linear layer of its own each, where tokens are fewer than the labels need.
    The blank begins `blank_bias` above the other logits: a network that has to learn first that most frames are blank stays longer on the plateau
    on which all of them are.
    """

    def __init__(self, *, width: int, outputs: int, upsample: int = 1, dropout: float = 0.1, blank_bias: float = 0.0):
        super().__init__()
        if outputs < 2 or upsample < 1:
            raise ValueError(f"{outputs} outputs and {upsample} frames a token spell nothing")
        self.options = {
            "width": width, "outputs": outputs, "upsample": upsample, "dropout": dropout, "blank_bias": blank_bias,
        }  # fmt: skip
        self.upsample = upsample
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, outputs * upsample)
        with torch.no_grad():
            self.out.bias.zero_()
            self.out.bias.view(upsample, outputs)[:, BLANK] = blank_bias

    def forward(self, values: Tensor, count: Tensor) -> Emitted:
        """`count` (B,): the tokens of each row."""
        logits = self.out(self.dropout(values))
        return Emitted(logits.unflatten(2, (self.upsample, -1)).flatten(1, 2), count * self.upsample)

    def config(self) -> dict:
        return {"kind": "ctc", "options": self.options}


class FrameHead(nn.Module):
    """(B, T, width) tokens -> (B, T, outputs) logits: one linear layer for every stretch of time."""

    def __init__(self, *, width: int, outputs: int, dropout: float = 0.1):
        super().__init__()
        self.options = {"width": width, "outputs": outputs, "dropout": dropout}
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, values: Tensor, count: Tensor) -> Emitted:
        """`count` (B,): the tokens of each row."""
        return Emitted(self.out(self.dropout(values)), count)

    def config(self) -> dict:
        return {"kind": "frames", "options": self.options}
