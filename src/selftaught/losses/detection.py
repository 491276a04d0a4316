"""What a dense, anchor-free detector loses: focal loss, generalised intersection over union, centre-ness, and which point answers for which box.

Sources: Lin et al. 2017 (focal loss, equation 5), Rezatofighi et al. 2019 (GIoU), Tian et al. 2019 (FCOS, arXiv:1904.01355, section 3; points are positive
near a box's centre only, as its authors' later code has it).  Boxes are left, top, right, bottom in pixels.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import full_precision

REACH = 1.5
"""A point answers for a box where it lies within so many strides of its centre."""
EXTENT = 4.0
"""A level answers for boxes whose farthest side lies within so many strides of the point; the coarsest for all larger ones."""


@full_precision
def focal(logits: Tensor, wanted: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """() sum over all of logits (..., K) against wanted (..., K) in {0, 1}: cross-entropy, less the easier the case."""
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    chance = torch.sigmoid(logits)
    miss = torch.where(wanted > 0, 1 - chance, chance)
    balance = torch.where(wanted > 0, alpha, 1 - alpha)
    return (balance * miss**gamma * entropy).sum()


@full_precision
def giou(first: Tensor, second: Tensor) -> Tensor:
    """(n,) generalised intersection over union, in (-1, 1], of boxes (n, 4) in pairs; 1 - giou is the loss."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    area = lambda low, high: (high - low).clamp_min(0).prod(1)  # noqa: E731
    shared = area(low, high)
    union = area(first[:, :2], first[:, 2:]) + area(second[:, :2], second[:, 2:]) - shared
    hull = area(torch.minimum(first[:, :2], second[:, :2]), torch.maximum(first[:, 2:], second[:, 2:]))
    return shared / union.clamp_min(1e-9) - (hull - union) / hull.clamp_min(1e-9)


def centreness(distances: Tensor) -> Tensor:
    """(n,) in 0-1 from distances (n, 4) to left, top, right, bottom: 1 in the middle of a box, 0 at its rim (FCOS, equation 3)."""
    across, down = distances[:, 0::2], distances[:, 1::2]
    ratios = [d.amin(1).clamp_min(0) / d.amax(1).clamp_min(1e-9) for d in (across, down)]
    return torch.sqrt(ratios[0] * ratios[1])


def assign(points: Tensor, strides: Tensor, boxes: Tensor) -> Tensor:
    """(A,) int64: for every point the box that it answers for, -1 for none.

    points (A, 2) x and y; strides (A, 2) of their level across and down; boxes (n, 4).  A point must lie in the box and near its centre, and the
    box must be of a size for the point's level; of several boxes the smallest counts.  Cost: A x n.
    """
    if not len(boxes):
        return torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    x, y = points[:, None, 0], points[:, None, 1]
    sides = torch.stack([x - boxes[:, 0], y - boxes[:, 1], boxes[:, 2] - x, boxes[:, 3] - y], 2)  # (A, n, 4)
    inside = sides.amin(2) > 0
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = ((points[:, None] - centre[None]).abs() < REACH * strides[:, None]).all(2)
    farthest, stride = sides.amax(2), strides.amax(1)
    levels = torch.unique(stride)
    below = torch.zeros_like(stride)  # the next finer level's limit
    for finer, coarser in pairwise(levels):
        below = torch.where(stride == coarser, EXTENT * finer, below)
    above = torch.where(stride == levels[-1], torch.inf, EXTENT * stride)
    fits = (farthest > below[:, None]) & (farthest <= above[:, None])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    cost = torch.where(inside & near & fits, area[None], torch.inf)
    least, which = cost.min(1)
    return torch.where(torch.isfinite(least), which, -1)
