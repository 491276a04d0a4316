"""Objectives as pure functions: no parameters, no state, fp32 (or float64) inside whatever autocast says outside."""

from .adversarial import log_loss
from .clustering import sinkhorn, swapped_prediction
from .contrastive import info_nce, keyed_nce, queued_nce
from .precision import full_precision
from .reduction import logged, mean
from .regression import negative_cosine, smooth_absolute, standardised, unstandardised
from .statistics import barlow_twins, epps_pulley, vicreg
from .tokens import head_loss, per_token, token_loss

__all__ = [
    "barlow_twins", "epps_pulley", "full_precision", "head_loss", "info_nce", "keyed_nce", "log_loss", "logged", "mean", "negative_cosine",
    "per_token", "queued_nce", "sinkhorn", "smooth_absolute", "standardised", "swapped_prediction", "token_loss", "unstandardised", "vicreg",
]  # fmt: skip
