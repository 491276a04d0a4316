"""Losses of predicted tokens: classes (a vocabulary, an alphabet) or values (pixels, samples)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..core import Target
from .precision import full_precision
from .reduction import mean


@full_precision
def per_token(predictions: Tensor, wanted: Tensor, classes: bool, smoothing: float = 0.0) -> Tensor:
    """(M,) the loss of each of M predictions: cross-entropy of (M, classes) with int64, or mean squared error with (M, P).

    smoothing: share of the truth that is spread over all classes alike (Szegedy et al. 2016, section 7)."""
    if not classes:
        return (predictions - wanted.to(predictions.dtype)).square().mean(-1)
    return F.cross_entropy(predictions, wanted, reduction="none", label_smoothing=smoothing)


def token_loss(
    predictions: Tensor, target: Target, chosen: Tensor, total: Tensor | None = None, *, smoothing: float = 0.0
) -> Tensor:
    """The mean loss of `predictions` (M, target.outputs), made for the M True places of `chosen` (B, N), in its order.

    Only chosen places are ever predicted: a vocabulary's logits for all of them cost most of a small model's time.
    The sum is divided by the global count (`total`, see losses.mean).  Raises ValueError where M is not chosen's count.
    """
    wanted = target.values[chosen]
    if len(wanted) != len(predictions):
        raise ValueError(f"{len(predictions)} predictions for {len(wanted)} chosen tokens")
    return mean(per_token(predictions, wanted, target.kind == "class", smoothing), total)


def head_loss(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    target: Target,
    chosen: Tensor,
    total: Tensor | None = None,
    *,
    limit: int = 1 << 24,
    smoothing: float = 0.0,
) -> Tensor:
    """token_loss of head(hidden) for `hidden` (M, D) without ever holding more than `limit` logits.

    Where M x target.outputs is more, rows go through head and loss in chunks that are computed again in the backward
    pass: a third more work in the head, for memory that no longer grows with the vocabulary.  The head may run under autocast; the loss does not.
    """
    wanted, classes = target.values[chosen], target.kind == "class"
    rows = max(1, limit // max(1, target.outputs))
    if len(hidden) <= rows:
        return token_loss(head(hidden), target, chosen, total, smoothing=smoothing)

    def chunk(h: Tensor, w: Tensor) -> Tensor:
        return per_token(head(h), w, classes, smoothing)

    parts = [
        checkpoint(chunk, h, w, use_reentrant=False, preserve_rng_state=False)
        for h, w in zip(hidden.split(rows), wanted.split(rows), strict=True)
    ]
    return mean(torch.cat(parts), total)
