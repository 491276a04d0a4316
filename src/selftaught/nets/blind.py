"""The guess that a run must beat: what is lost by knowing how targets are spread, and nothing of the row."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from ..core import dist


class BlindGuess(nn.Module):
    """The loss of predicting every target by the spread of all: (M,) int64 classes, or (M, P) values, over all ranks.

    Classes: cross-entropy in nats under the frequencies of the steps before (unigram, one added to each count); so that it
    starts at ln(classes) and falls towards the entropy of the targets.  Values: mean squared error of the batch's own mean, the lowest
    that any constant reaches.  A loss that stays at or above it has learned nothing (alarm "no progress").

    `forward` gives what `loss` puts among its outputs and changes nothing; `commit` belongs into `after_step`.  Cost: one pass over M.
    """

    counts: Tensor | None

    def __init__(self, classes: int | None):
        super().__init__()
        self.register_buffer("counts", torch.zeros(classes) if classes else None)

    @torch.no_grad()
    def forward(self, wanted: Tensor) -> dict[str, Tensor]:
        if self.counts is None:
            wide = wanted if wanted.dtype == torch.float64 else wanted.float()
            rows = dist.total(torch.full((), len(wide), dtype=wide.dtype, device=wide.device)).clamp_min(1)
            mean = dist.total(wide.sum(0)) / rows
            return {"baseline": (dist.total((wide - mean).square().sum(0)) / rows).mean()}
        seen = dist.total(torch.bincount(wanted, minlength=len(self.counts)).to(self.counts.dtype))
        nats = (self.counts.sum() + len(self.counts)).log() - (self.counts + 1).log()
        return {"baseline": (seen * nats).sum() / seen.sum().clamp_min(1), "seen": seen}

    @torch.no_grad()
    def commit(self, outputs: dict[str, Tensor]) -> None:
        if self.counts is not None and "seen" in outputs:
            self.counts += outputs["seen"]
