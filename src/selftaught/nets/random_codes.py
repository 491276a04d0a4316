"""A quantiser that nobody trains: random projections and random codes, the targets of BEST-RQ."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import random
from ..losses import full_precision


class RandomCodes(nn.Module):
    """(M, inputs) -> (M, codebooks) int64: the nearest of each codebook's random codes, by cosine, to a random projection of the row.

    Projections and codes are drawn from `seed` by the project's own numbers, the same on every machine, and stay as they are: buffers without gradient.
    Rows should have about mean 0 and deviation 1 in every number: else all of them project to one side, and few codes are ever the nearest.
    Chiu et al. 2022 (arXiv:2202.01855), section 3.1.  Cost: M x codebooks x width x (inputs + codes) multiply-adds.
    """

    projections: Tensor
    codes: Tensor

    def __init__(self, *, inputs: int, codebooks: int, codes: int, width: int, seed: int = 0):
        super().__init__()
        if min(inputs, codebooks, width) < 1 or codes < 2:
            raise ValueError(
                f"{codebooks} codebooks of {codes} codes of {width} numbers, of {inputs}, tell nothing apart"
            )
        self.options = {"inputs": inputs, "codebooks": codebooks, "codes": codes, "width": width, "seed": seed}
        book = torch.arange(codebooks)
        drawn = random.normal(random.key(seed, "random codes"), book, (codes, width))
        self.register_buffer("projections", random.normal(random.key(seed, "random projection"), book, (inputs, width)))
        self.register_buffer("codes", F.normalize(drawn, dim=-1))

    @torch.no_grad()
    @full_precision
    def forward(self, rows: Tensor) -> Tensor:
        seen = F.normalize(torch.einsum("mi,biw->bmw", rows.to(self.codes.dtype), self.projections), dim=-1)
        return (seen @ self.codes.transpose(1, 2)).argmax(-1).T

    def config(self) -> dict:
        return {"kind": "random-codes", "options": self.options}
