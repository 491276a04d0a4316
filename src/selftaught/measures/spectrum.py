"""How many directions the features use: effective rank, top eigenvalue share, dead dimensions, mean pair cosine.

Label-free figures are alarms and trends inside one run.  They do not rank methods: noise has the highest rank of all.
Everything takes a torch tensor of features (N, D), computes in float64 and gives a Python float.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _centre(x_ND: Tensor) -> Tensor:
    return x_ND - x_ND.mean(0, keepdim=True)


@torch.no_grad()
def effective_rank(features: Tensor, *, centred: bool = False, eps: float = 1e-7) -> float:
    """RankMe: exp of the entropy of the singular values' shares, in [1, min(N, D)].

    p_k = s_k / sum(s) + eps;  RankMe = exp(-sum p_k log p_k), of the uncentred features as in the paper (Garrido et al.
    2023, arXiv 2210.02885, equation 3).  `centred` takes the column means off first: a shift of all features then
    changes nothing, which an alarm needs.  Biased by N: compare at the same rows, N >= 4 D.  0.0 where all features
    are zero (or, centred, all rows equal), nan where one is not finite.  Cost: one SVD, O(N D min(N, D)).
    """
    x = features.detach().double()
    if not torch.isfinite(x).all():
        return math.nan
    scale = float(x.abs().max()) if x.numel() else 0.0
    x = _centre(x) if centred else x
    values = torch.linalg.svdvals(x)
    # Rounding in the mean leaves about 1e-16 of the features' size: that is no direction.
    if float(values.sum()) <= 1e-12 * scale * len(x):
        return 0.0
    p = values / values.sum() + eps
    return float(torch.exp(-(p * p.log()).sum()))


@torch.no_grad()
def participation(features: Tensor, *, most: int = 1024) -> Tensor:
    """How many directions the variance of features (N, D) spreads over: (sum of eigenvalues)^2 / sum of their squares, a scalar in [1, D].

    Cheap enough for every step, and left on the device: of at most `most` rows, evenly spread, without a decomposition.  1 where all rows are equal.
    """
    x = features.detach()[:: max(1, len(features) // most)]
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    with torch.autocast(x.device.type, enabled=False):
        off = x - x.mean(0, keepdim=True)
        spread = off.T @ off if x.shape[1] < len(x) else off @ off.T
        tiny = torch.finfo(x.dtype).tiny
        return (spread.diagonal().sum().square() / spread.square().sum().clamp_min(tiny)).clamp_min(1)


@torch.no_grad()
def top_eigenvalue_share(features: Tensor) -> float:
    """The largest eigenvalue of the covariance as a share of their sum, in (0, 1]; 1.0 where all rows are equal."""
    x = features.detach().double()
    if not torch.isfinite(x).all():
        return math.nan
    scale = float(x.abs().max())
    powers = torch.linalg.svdvals(_centre(x)) ** 2
    total = float(powers.sum())
    return float(powers[0]) / total if total > (1e-12 * scale) ** 2 * x.numel() else 1.0


@torch.no_grad()
def dead_dimensions(features: Tensor, *, floor: float = 1e-3) -> float:
    """Share of dimensions that hardly vary over rows: standard deviation below `floor` x the features' RMS, in [0, 1].

    Relative to the size of the features, so that scaling all of them changes nothing.
    """
    x = features.detach().double()
    size = x.square().mean().sqrt()
    return float((x.std(0, correction=0) <= floor * size).double().mean())


@torch.no_grad()
def mean_cosine(features: Tensor) -> float:
    """The mean cosine over all pairs of different rows, in [-1, 1]: near 1, everything looks the same to the encoder.

    Needs N >= 2 (ValueError).  Cost: O(N D), through the norm of the sum of unit rows.
    """
    if len(features) < 2:
        raise ValueError("mean_cosine needs at least two rows")
    unit = F.normalize(features.detach().double(), dim=1)
    n = len(unit)
    own = unit.square().sum()  # N, less the rows that are zero
    return float((unit.sum(0).square().sum() - own) / (n * (n - 1)))
