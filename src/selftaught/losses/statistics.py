"""Losses on the statistics of a batch: correlations, variances, the shape of the distribution.  No negatives, no teacher.

A batch is all ranks' rows: every sum over rows is summed over ranks with gradient, so that W processes give one process's loss
and gradients.  Each of them computes the same value.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import dist
from .precision import full_precision
from .reduction import mean


@full_precision
def barlow_twins(a: Tensor, b: Tensor, *, weight: float = 5e-3, epsilon: float = 1e-5) -> Tensor:
    """sum_i (1 - C_ii)^2 + weight sum_{i != j} C_ij^2, C the correlation (P, P) of two views' embeddings (B, P) over rows.

    Each dimension is standardised by its biased variance, to which `epsilon` is added.  Zbontar et al. 2021, equations 1 and 2.
    Cost: B P^2 multiply-adds, P^2 floats to exchange.
    """
    rows = len(a) * dist.world()
    a, b = (_standard(x, rows, epsilon) for x in (a, b))
    correlation = dist.sum_all(a.T @ b) / rows
    own = correlation.diagonal()
    return (1 - own).square().sum() + weight * (correlation.square().sum() - own.square().sum())


@full_precision
def vicreg(
    a: Tensor,
    b: Tensor,
    *,
    similarity: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    epsilon: float = 1e-4,
) -> tuple[Tensor, dict[str, Tensor]]:
    """similarity s + variance v + covariance c of two views' embeddings (B, P), and {"similarity", "variance", "covariance"} unweighted.

    s: mean squared difference; v: mean over dimensions and views of max(0, 1 - sqrt(unbiased variance + epsilon)); c: for each view the sum of
    squared off-diagonal covariances, divided by P, added over views.  Bardes et al. 2022, equations 1 to 6, with the scales of the authors' code
    (s a mean over dimensions, v a mean over views).  Raises ValueError for a single row.
    """
    rows, width = len(a) * dist.world(), a.shape[1]
    if rows < 2:
        raise ValueError("vicreg needs two rows at least: one has no variance")
    apart = mean((a - b).square().mean(1))
    spread, redundant = [], []
    for x in (a, b):
        centred = x - dist.sum_all(x.sum(0)) / rows
        table = dist.sum_all(centred.T @ centred) / (rows - 1)
        own = table.diagonal()
        spread.append((1 - (own + epsilon).sqrt()).clamp_min(0).mean())
        redundant.append((table.square().sum() - own.square().sum()) / width)
    narrow, together = (spread[0] + spread[1]) / 2, redundant[0] + redundant[1]
    loss = similarity * apart + variance * narrow + covariance * together
    terms = {"similarity": apart, "variance": narrow, "covariance": together}
    return loss, {k: v.detach() for k, v in terms.items()}


@full_precision
def epps_pulley(x: Tensor, directions: Tensor, *, reach: float = 5.0, knots: int = 17) -> Tensor:
    """How far rows (B, P) are from a standard normal distribution, seen along `directions` (P, S) of unit length: a mean over S.

    N integral |phi_N(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt, phi_N the empirical characteristic function of the N rows of all
    ranks, by the trapezoidal rule on `knots` (odd) points of [-reach, reach]; the integrand is even, so half of them are computed.  Its mean for rows
    that are normal is a constant of order 1; it is bounded, with bounded gradients.  Epps & Pulley 1983; Balestriero & LeCun 2025
    (arXiv:2511.08544), section 4.  Cost: B S (P + knots) multiply-adds and as many sines and cosines as B S knots.
    """
    if knots < 3 or knots % 2 == 0:
        raise ValueError(f"knots = {knots} must be odd and 3 at least, so that 0 is one of them")
    rows, half = len(x) * dist.world(), knots // 2 + 1
    t = torch.linspace(0, reach, half, dtype=x.dtype, device=x.device)
    normal = torch.exp(-t.square() / 2)
    weight = torch.full_like(t, 2 * reach / (half - 1)) * normal
    weight[0], weight[-1] = weight[0] / 2, weight[-1] / 2
    angles = (x @ directions.to(x.dtype))[..., None] * t
    waves = dist.sum_all(torch.stack([angles.cos().sum(0), angles.sin().sum(0)])) / rows  # (2, S, T)
    apart = (waves[0] - normal).square() + waves[1].square()
    return rows * (apart @ weight).mean()


@full_precision
def coding_rate(x: Tensor, *, distortion: float = 0.2) -> Tensor:
    """(...,) log det(I + P / (N distortion) z^T z) / 2 of the N unit rows z of x (..., B, P) over all ranks: the volume that they fill.

    Smallest where all rows are one direction, largest where they are spread evenly over all.  `distortion` is the paper's epsilon^2.
    Yu et al. 2020; Tong et al. 2023 (arXiv:2304.03977), equation 1.  Cost: B P^2 multiply-adds, P^2 floats to exchange, P^3 / 3 for the determinant.
    """
    rows, width = x.shape[-2] * dist.world(), x.shape[-1]
    unit = F.normalize(x, dim=-1)
    table = dist.sum_all(unit.mT @ unit) * (width / (rows * distortion))
    root = torch.linalg.cholesky(table + torch.eye(width, dtype=x.dtype, device=x.device))
    return root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


@full_precision
def koleo(x: Tensor, *, epsilon: float = 1e-4) -> Tensor:
    """Minus the mean logarithm of each row's distance d to its nearest neighbour among all ranks' rows (B, P), which are normalised first.

    log sqrt(d^2 + epsilon^2) in the place of log d: two equal rows, or a collapse, give a large finite number and a gradient of at most
    1 / (2 epsilon), not an infinity.  Sablayrolles et al. 2019, equation 4; Oquab et al. 2024 (DINOv2), section 4.  Raises ValueError for a single row.
    Cost: W B^2 P multiply-adds.
    """
    if len(x) * dist.world() < 2:
        raise ValueError("koleo needs two rows at least: one has no neighbour")
    unit = F.normalize(x, dim=-1)
    everyone = dist.gather_rows(unit)
    here = torch.arange(len(x), device=x.device)
    with torch.no_grad():
        likeness = unit @ everyone.T
        likeness[here, here + dist.rank() * len(x)] = -torch.inf
        nearest = likeness.argmax(1)
    return mean(-0.5 * ((unit - everyone[nearest]).square().sum(1) + epsilon**2).log())


def _standard(x: Tensor, rows: int, epsilon: float) -> Tensor:
    centred = x - dist.sum_all(x.sum(0)) / rows
    return centred * torch.rsqrt(dist.sum_all(centred.square().sum(0)) / rows + epsilon)
