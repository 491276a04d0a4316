"""Losses that compare vectors with vectors."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .precision import full_precision


@full_precision
def negative_cosine(predicted: Tensor, wanted: Tensor) -> Tensor:
    """(B,) minus the cosine of (B, P) `predicted` and `wanted`, in [-1, 1]; no gradient reaches `wanted`.

    2 + 2 x this is the squared distance of the normalised vectors (Grill et al. 2020, equation 2)."""
    return -F.cosine_similarity(predicted, wanted.detach(), dim=-1, eps=1e-8)


@full_precision
def standardised(values: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    """(..., P) with mean 0 and variance 1 along the last axis: MAE's target for a patch (He et al. 2022, section 4.1).

    The variance is the unbiased one, as in the paper's code; a flat patch becomes 0.  P = 1 is returned as it is.
    """
    if values.shape[-1] == 1:
        return values
    centred = values - values.mean(-1, keepdim=True)
    return centred / (centred.square().sum(-1, keepdim=True) / (values.shape[-1] - 1) + epsilon).sqrt()


@full_precision
def unstandardised(values: Tensor, like: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    """(..., P) `values` with the mean and variance that `standardised` takes out of `like`."""
    if like.shape[-1] == 1:
        return values
    return values * (like.var(-1, keepdim=True) + epsilon).sqrt() + like.mean(-1, keepdim=True)


@full_precision
def smooth_absolute(predicted: Tensor, wanted: Tensor, *, beta: float = 1.0) -> Tensor:
    """(M,) the mean over D of the smooth absolute error of (M, D): quadratic below `beta`, absolute above (Girshick 2015, equation 3)."""
    return F.smooth_l1_loss(predicted, wanted.to(predicted.dtype), beta=beta, reduction="none").mean(1)
