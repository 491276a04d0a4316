"""The one way in which losses are averaged."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import dist
from .precision import full_precision


@full_precision
def mean(per_target: Tensor, total: Tensor | None = None) -> Tensor:
    """Local sum x processes / global count: a scalar whose average over ranks is the mean over all targets.

    `per_target` (any shape): one loss for every target of this process.  `total`: the global count of targets of the
    optimiser step over ranks and micro-batches (`Batch.total`); None counts `per_target` and sums over ranks, so every
    rank must call it.  A mean of means would weigh targets by how many there happen to be beside them.  No targets at
    all give 0 with gradient 0, not a division by 0.
    """
    if total is None:
        total = dist.total(torch.tensor(per_target.numel(), device=per_target.device))
    return per_target.sum() * (dist.world() / total.to(per_target.device, per_target.dtype).clamp_min(1))


@torch.no_grad()
@full_precision
def logged(per_target: Tensor) -> Tensor:
    """The mean of `per_target` over all its elements and all ranks, without gradient: for the log, the same on every rank."""
    count = dist.total(torch.tensor(per_target.numel(), device=per_target.device))
    return dist.total(per_target.sum()) / count.to(per_target.dtype).clamp_min(1)


@torch.no_grad()
@full_precision
def middle(rows: Tensor) -> Tensor:
    """(1, P) the mean of (M, P) over all ranks, without gradient: the best guess of one who sees no input."""
    count = dist.total(torch.tensor(len(rows), device=rows.device))
    return (dist.total(rows.sum(0)) / count.clamp_min(1))[None]
