"""The losses of a game between a critic and whoever wants to be taken for real."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .precision import full_precision


@full_precision
def log_loss(scores: Tensor, *, real: bool) -> Tensor:
    """(B,) nats: -log D where they ought to be called `real`, else -log (1 - D), with D = sigmoid(`scores`).

    A critic wants the true answer for each row; a player that does not saturate wants the other one (Goodfellow et al. 2014,
    "Generative Adversarial Networks", section 3).  Exact for scores of any size.
    """
    return F.softplus(-scores if real else scores)
