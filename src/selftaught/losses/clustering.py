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

    Alternates between giving each prototype 1 / K and each row its equal share of the whole mass, starting from
    exp(scores / epsilon); the returned rows sum to 1.  Exact under any number of ranks, which may hold unequal numbers of rows: sums
    over rows are summed over ranks, and the shift that keeps exp in range is the largest score of all.  Cuturi 2013; Caron et al. 2020, section 3.1.
    Cost: `iterations` passes over B K floats and as many all-reduces of K floats.
    """
    rows, prototypes = scores.shape
    own = scores.amax() if rows else scores.new_tensor(-torch.inf)  # a rank may hold no row at all
    largest = dist.gather_rows(own.view(1)).max()
    mass = torch.exp((scores - largest) / epsilon)
    everyone = dist.total(scores.new_tensor(rows))
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


@full_precision
def soft_cross_entropy(wanted: Tensor, scores: Tensor, *, temperature: float = 1.0) -> Tensor:
    """(M,) cross-entropy of the softmax of scores (M, K) / temperature with the probabilities `wanted` (M, K)."""
    return -(wanted * F.log_softmax(scores / temperature, dim=1)).sum(1)


@full_precision
def by_row(per_token: Tensor, chosen: Tensor) -> Tensor:
    """(B,) the mean of each row's own numbers among per_token (M,), those of the M True places of `chosen` (B, N); 0 for rows without any."""
    row = chosen.nonzero()[:, 0]
    summed = per_token.new_zeros(len(chosen)).index_add(0, row, per_token)
    return summed / chosen.sum(1).clamp_min(1)


@torch.no_grad()
@full_precision
def perplexity(shares: Tensor) -> Tensor:
    """exp of the entropy of the mean over all ranks of (B, K) class probabilities: 1 to K classes in use."""
    count = dist.total(shares.new_tensor(len(shares)))
    return torch.special.entr(dist.total(shares.sum(0)) / count).sum().exp()
