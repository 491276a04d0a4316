"""Objectives as pure functions: no parameters, no state, fp32 (or float64) inside whatever autocast says outside."""

from .adversarial import log_loss
from .clustering import by_row, perplexity, sinkhorn, soft_cross_entropy, swapped_prediction
from .contrastive import info_nce, keyed_nce, queued_nce, row_nce, same_or_not, twin_rows
from .precision import full_precision
from .reduction import logged, mean, middle
from .regression import negative_cosine, smooth_absolute, standardised, unstandardised
from .statistics import barlow_twins, coding_rate, epps_pulley, koleo, vicreg
from .tokens import binary_nats, head_loss, per_token, token_loss

__all__ = [
    "barlow_twins", "binary_nats", "by_row", "coding_rate", "epps_pulley", "full_precision", "head_loss", "info_nce", "keyed_nce", "koleo", "log_loss", "logged", "mean",
    "middle", "negative_cosine", "per_token", "perplexity", "queued_nce", "row_nce", "same_or_not", "sinkhorn", "smooth_absolute", "soft_cross_entropy", "standardised",
    "swapped_prediction", "token_loss", "twin_rows", "unstandardised", "vicreg",
]  # fmt: skip
