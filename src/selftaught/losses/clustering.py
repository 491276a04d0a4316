"""Losses that compare assignments to prototypes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import dist
from .precision import full_precision
from .reduction import mean


@torch.no_grad()
@full_precision
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft assignments (B, K) of B rows to K prototypes that use every prototype equally over all ranks' rows; no gradient.

    Alternates between giving each prototype 1 / K and each row 1 / (W B) of the whole mass, starting from
    exp(scores / epsilon); the returned rows sum to 1.  Exact under any number of ranks: sums over rows are summed over ranks, and the
    shift that keeps exp in range is the largest score of all ranks.  Cuturi 2013; Caron et al. 2020, section 3.1.
    Cost: `iterations` passes over B K floats and as many all-reduces of K floats.
    """
    rows, prototypes = scores.shape
    largest = dist.gather_rows(scores.max().view(1)).max()
    mass = torch.exp((scores - largest) / epsilon)
    everyone = rows * dist.world()
    for _ in range(iterations):
        mass = mass / (prototypes * dist.total(mass.sum(0))).clamp_min(torch.finfo(mass.dtype).tiny)
        mass = mass / (everyone * mass.sum(1, keepdim=True)).clamp_min(torch.finfo(mass.dtype).tiny)
    return mass * everyone


@full_precision
def swapped_prediction(
    assigned: list[Tensor],
    scores: list[Tensor],
    *,
    temperature: float = 0.1,
    total: Tensor | None = None,
) -> Tensor:
    """Every view predicts the assignment of each OTHER view that has one.

    `scores`: V tensors (B, K) of cosines to the prototypes; `assigned`: (B, K) assignments of the first len(assigned) of
    them.  Cross-entropy averaged over the pairs (assigned view, other view) and over rows.  Caron et al. 2020, equation 1 and section 3.3.
    """
    logs = [F.log_softmax(s / temperature, dim=1) for s in scores]
    pairs = [(q, logs[v]) for a, q in enumerate(assigned) for v in range(len(scores)) if v != a]
    if not pairs:
        raise ValueError("swapped_prediction needs an assigned view and another one")
    per_row = torch.stack([-(q * log).sum(1) for q, log in pairs]).mean(0)
    return mean(per_row, total)
