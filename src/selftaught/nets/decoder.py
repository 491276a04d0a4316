"""The small transformer that fills in tokens which the encoder never saw (MAE)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Tokens
from .trunk import Blocks


class Decoder(nn.Module):
    """Encoded tokens at their places, a mask token at all others -> (B, N, width) hidden tokens of a `depth`-block trunk.

    inputs: width of the encoder's tokens; outputs: width of `head`, which predicts a target from a hidden token.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, depth: int, heads: int, grid: Sequence[int]):
        super().__init__()
        self.options = {
            "inputs": inputs, "outputs": outputs, "width": width, "depth": depth, "heads": heads, "grid": list(grid),
        }  # fmt: skip
        self.embed = nn.Linear(inputs, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = Blocks(width, depth, heads, grid=grid)
        self.head = nn.Linear(width, outputs)

    def forward(self, encoded: Tokens, places: Tensor, whole: Tokens) -> Tokens:
        """`encoded`: the encoder's output on the tokens `places` (B, K) int64 of the patches of `whole`; where it is not
        valid, the mask token stays.  `whole` gives validity, positions, segments and the grid."""
        seen = self.embed(encoded.values)
        prefix, kept = seen[:, : encoded.prefix], seen[:, encoded.prefix :]
        masked = self.mask_token.to(seen.dtype)
        if encoded.valid is not None:
            kept = torch.where(encoded.valid[:, encoded.prefix :, None], kept, masked)
        blank = masked.expand(len(seen), len(whole) - whole.prefix, -1)
        filled = blank.scatter(1, places[..., None].expand_as(kept), kept)
        return self.blocks(replace(whole, values=torch.cat([prefix, filled], 1)))

    def config(self) -> dict:
        return {"kind": "decoder", "options": self.options}
