"""Product quantisation by Gumbel softmax: what wav2vec 2.0 takes for the units of speech."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel numbers of numbers in [0, 1)."""
    return -torch.log(-torch.log(uniform.clamp_min(2**-25)))


class GumbelQuantiser(nn.Module):
    """(M, inputs) -> in each of `groups` one of `codes` learned vectors, side by side: (M, dim).

    Forward the likeliest code (after `noise`), backward the softmax of (logits + noise) / temperature (straight through): Jang et al. 2017, Baevski et al.
    2020, section 2.  `temperature` is a buffer, so that a checkpoint holds it; `anneal` moves it.  In fp32 whatever autocast says.
    """

    temperature: Tensor

    def __init__(
        self, inputs: int, groups: int = 2, codes: int = 320, dim: int = 256, start: float = 2.0, end: float = 0.5
    ):
        super().__init__()
        if groups < 1 or codes < 2 or dim < groups or dim % groups or not 0 < end <= start:
            raise ValueError(
                f"{groups} groups of {codes} codes in {dim} dimensions at temperatures {start} to {end}: groups divide the dimensions, codes are two at least"
            )
        self.options = {"inputs": inputs, "groups": groups, "codes": codes, "dim": dim, "start": start, "end": end}
        self.groups, self.codes, self.start, self.end = groups, codes, start, end
        self.score = nn.Linear(inputs, groups * codes)
        self.vectors = nn.Parameter(torch.empty(groups, codes, dim // groups).uniform_())
        nn.init.normal_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        self.register_buffer("temperature", torch.tensor(float(start)))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """((M, dim) vectors, (M, groups) int64 codes, (M, groups, codes) softmax of the logits alone) of x (M, inputs).

        `noise` (M, groups, codes): standard Gumbel numbers, while training."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            logits = self.score(x).unflatten(1, (self.groups, self.codes))
            moved = logits if noise is None else logits + noise.to(logits.dtype)
            code = moved.argmax(-1)
            soft = torch.softmax(moved / self.temperature.to(logits.dtype), -1)
            taken = F.one_hot(code, self.codes).to(soft.dtype) + (soft - soft.detach())  # exactly one-hot forward
            vectors = torch.einsum("mgv,gvd->mgd", taken, self.vectors).flatten(1)
            return vectors, code, torch.softmax(logits, -1)

    @torch.no_grad()
    def anneal(self, progress: float) -> None:
        """The published schedule, stretched to this run: start x exp(-2 progress), at least `end` (2 x 0.999995^step over 400,000 steps)."""
        self.temperature.fill_(max(self.end, self.start * math.exp(-2 * progress)))

    def config(self) -> dict:
        return {"kind": "quantiser", "options": self.options}
