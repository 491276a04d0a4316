"""Objectives as pure functions: no parameters, no state, fp32 (or float64) inside whatever autocast says outside."""

from .clustering import sinkhorn, swapped_prediction
from .contrastive import info_nce
from .precision import full_precision
from .reduction import mean
from .regression import negative_cosine, standardised
from .tokens import head_loss, per_token, token_loss

__all__ = [
    "full_precision", "head_loss", "info_nce", "mean", "negative_cosine", "per_token", "sinkhorn", "standardised",
    "swapped_prediction", "token_loss",
]  # fmt: skip
