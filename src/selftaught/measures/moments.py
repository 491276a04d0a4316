"""Linear algebra on second moments: whitening filters, generalised eigenvectors, principal axes, eigenmaps of a neighbour graph.

Source: Chen, Yun, Ma, Olshausen & LeCun, "Minimalistic Unsupervised Representation Learning with the Sparse Manifold Transform"
(ICLR 2023); eigenmaps: Belkin & Niyogi 2003.  Everything takes and gives torch tensors on the CPU.  Signs are fixed (the largest element of
a vector is positive), so that results do not depend on the library's choice.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core import random

_EXACT = 1024
"""Size up to which eigenvectors come from a full decomposition in float64; above, from subspace iteration in float32."""
_OVER = 64  # vectors iterated beyond those asked for


def whitening(patches_ND: Tensor, *, keep: float, floor: float) -> Tensor:
    """(K, D) float32 filters that take each patch's own mean off and whiten the rest, in principal axes.

    Axis i is divided by sqrt(eigenvalue_i + floor x mean eigenvalue): `floor` holds back what is noise, whatever the contrast.
    K is the smallest multiple of 8 (or D) that keeps the share `keep` of the whitened variance.  The moments are those of patches with their
    own mean removed; no mean patch is taken off.
    """
    n, d = patches_ND.shape
    x = patches_ND.double()
    moment = x.T @ x / n
    moment = moment - moment.mean(0, keepdim=True)
    moment = moment - moment.mean(1, keepdim=True)  # = M E[x x'] M with M = 1 - 11'/D
    values, vectors = torch.linalg.eigh(moment)
    values, vectors = values.flip(0).clamp_min(0), fixed_signs(vectors.flip(1))
    tolerance = floor * float(values.mean()) or 1.0  # a set of flat patches has nothing to whiten
    whitened = values / (values + tolerance)
    share = torch.cumsum(whitened, 0) / whitened.sum().clamp_min(1e-300)
    count = min(d, 8 * math.ceil((int((share < keep).sum()) + 1) / 8))
    filters = (vectors[:, :count] / torch.sqrt(values[:count] + tolerance)).T
    return (filters - filters.mean(1, keepdim=True)).float()


def generalised_eigenvectors(between: Tensor, total: Tensor, count: int, *, ridge: float) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues (descending) and vectors (A, count) of between u = value total' u.

    total' = total + ridge x mean diagonal x 1; u' total' u = 1.  Both are second moments, not covariances: a constant part of the codes
    then falls into the leading vector, which callers leave out, where centring would spread it over many.
    Cost: O(A^3); above 1,024, ten steps of subspace iteration in float32 (about 2 s at A = 2,048 and count = 272).
    """
    size = len(total)
    dtype = torch.float64 if size <= _EXACT else torch.float32
    held = ridge * float(total.diagonal().double().mean()) or 1.0  # codes that are all empty have no moments
    total = total.to(dtype) + torch.eye(size, dtype=dtype) * held
    root = torch.linalg.cholesky(total)
    half = torch.linalg.solve_triangular(root, between.to(dtype), upper=False)
    whole = torch.linalg.solve_triangular(root, half.T.contiguous(), upper=False)
    values, vectors = largest((whole + whole.T) / 2, count, steps=10)
    return values.float(), fixed_signs(torch.linalg.solve_triangular(root.T, vectors, upper=True)).float()


def largest(matrix: Tensor, count: int, *, steps: int) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues (descending) and unit vectors (N, count) of a symmetric positive matrix.

    Above 1,024 by `steps` steps of subspace iteration from a fixed start: the last vectors are then approximate, their span
    hardly.
    """
    size = len(matrix)
    if size <= max(_EXACT, count + _OVER):
        values, vectors = torch.linalg.eigh(matrix)
        return values.flip(0)[:count], vectors.flip(1)[:, :count]
    basis = random.normal(random.key("subspace"), torch.arange(size), (count + _OVER,)).to(matrix.dtype)
    for _ in range(steps):
        basis = torch.linalg.qr(matrix @ basis)[0]
    values, turn = torch.linalg.eigh(basis.T @ matrix @ basis)
    return values.flip(0)[:count], (basis @ turn).flip(1)[:, :count]


def principal_axes(features_ND: Tensor, count: int, *, power: float) -> tuple[Tensor, Tensor]:
    """Mean (D,) and axes (D, count) of features, each axis scaled by eigenvalue ** -power: 0 plain, 1/4 half whitened, 1/2 white."""
    n, d = features_ND.shape
    mean = features_ND.mean(0)
    x = features_ND - mean
    matrix = (x @ x.T if n < d else x.T @ x) / n  # the smaller of two with the same eigenvalues
    values, vectors = largest(matrix.double() if len(matrix) <= _EXACT else matrix, min(count, n, d), steps=3)
    if n < d:
        vectors = torch.nn.functional.normalize(x.T @ vectors.to(x.dtype), dim=0)
    scaled = fixed_signs(vectors) * values.clamp_min(1e-9 * float(values[0].clamp_min(1e-30))) ** -power
    return mean.float(), scaled.float().contiguous()


def rotation(size: int, key: int) -> Tensor:
    """(size, size) float64: a random orthogonal matrix, a pure function of `key`.  Cosines and distances do not feel it."""
    turned, upper = torch.linalg.qr(random.normal(key, torch.arange(size), (size,)).double())
    return turned * upper.diagonal().sign()  # uniform over all rotations and mirrorings (Mezzadri 2007)


def eigenmaps(unit_ND: Tensor, count: int, *, neighbours: int) -> Tensor:
    """(N, count) float32 coordinates of unit rows on their nearest-neighbour graph (Laplacian eigenmaps, the constant one left out).

    Rows are joined where either is among the other's `neighbours` nearest by cosine; each coordinate varies as little as it
    can along the joints and has mean square 1 by degree.  Cost: O(N^2 D + N^3): a second at N = 2,000.
    """
    n = len(unit_ND)
    cosines = (unit_ND @ unit_ND.T).fill_diagonal_(-2)
    nearest = cosines.topk(min(neighbours, n - 1), dim=1).indices
    joined = torch.zeros(n, n, dtype=torch.float64).scatter_(1, nearest, 1.0)
    joined = torch.maximum(joined, joined.T)
    degree = joined.sum(1)
    root = degree.rsqrt()
    _, vectors = torch.linalg.eigh(root[:, None] * joined * root)
    vectors = vectors.flip(1)[:, 1 : count + 1] * (root * degree.sum().sqrt())[:, None]
    return fixed_signs(vectors).float().contiguous()


def quantised(vectors: Tensor) -> Tensor:
    """int8 of the same shape: one scale for all, the largest 0.01 % clipped."""
    sample = vectors[:: max(1, len(vectors) // 2048)].abs().flatten()
    largest_kept = sample.sort().values[min(len(sample) - 1, int(0.9999 * len(sample)))].clamp_min(1e-30)
    return (vectors * (127 / largest_kept)).round().clamp(-127, 127).to(torch.int8)


def fixed_signs(vectors: Tensor) -> Tensor:
    """(N, K) with the largest element of each column positive."""
    at = vectors.abs().argmax(0, keepdim=True)
    return vectors * torch.where(vectors.gather(0, at) < 0, -1.0, 1.0).to(vectors.dtype)
