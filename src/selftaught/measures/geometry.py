"""Alignment and uniformity of features on the unit sphere (Wang & Isola 2020, arXiv 2005.10242).  Torch in, float out."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def alignment(first: Tensor, second: Tensor) -> float:
    """E ||f(x) - f(x+)||^2 over positive pairs `first`, `second` (N, D), normalised to the sphere; in [0, 4], lower is closer.

    Collapse makes it perfect: read it beside `uniformity`.
    """
    if first.shape != second.shape:
        raise ValueError(f"pairs need equal shapes, got {tuple(first.shape)} and {tuple(second.shape)}")
    first, second = (F.normalize(x.detach().double(), dim=1) for x in (first, second))
    return float((first - second).square().sum(1).mean())


@torch.no_grad()
def uniformity(features: Tensor, *, t: float = 2.0, block: int = 2048) -> float:
    """log E exp(-t ||f(x) - f(y)||^2) over all pairs of different rows of `features` (N, D); in [-4 t, 0], lower is more even.

    Needs N >= 2 (ValueError).  Cost: N^2 D operations, one `block` x `block` tile of memory.
    """
    if len(features) < 2:
        raise ValueError("uniformity needs at least two rows")
    unit = F.normalize(features.detach().double(), dim=1)
    square, n, total = unit.square().sum(1), len(unit), 0.0
    for a in range(0, n, block):
        for b in range(a, n, block):
            rows, columns = slice(a, a + block), slice(b, b + block)
            distance = square[rows, None] + square[None, columns] - 2 * unit[rows] @ unit[columns].T
            tile = torch.exp(-t * distance.clamp_min(0))
            total += float(tile.sum() - tile.diagonal().sum()) if a == b else 2 * float(tile.sum())
    return math.log(total / (n * (n - 1)))
