"""Losses of predicted tokens: classes (a vocabulary, an alphabet) or values (pixels, samples)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..core import Target
from .precision import full_precision
from .reduction import mean


@full_precision
def per_token(predictions: Tensor, wanted: Tensor, classes: bool) -> Tensor:
    """(M,) the loss of each of M predictions: cross-entropy of (M, classes) with int64, or mean squared error with (M, P)."""
    if not classes:
        return (predictions - wanted.to(predictions.dtype)).square().mean(-1)
    return F.cross_entropy(predictions, wanted, reduction="none")


@full_precision
def binary_nats(score: Tensor, truth: Tensor) -> Tensor:
    """The surprise, in nats, at `truth` (bool) of one whose log odds are `score` of the same shape."""
    return F.binary_cross_entropy_with_logits(score, truth.to(score.dtype), reduction="none")


def token_loss(predictions: Tensor, target: Target, chosen: Tensor, total: Tensor | None = None) -> Tensor:
    """The mean loss of `predictions` (M, target.outputs), made for the M True places of `chosen` (B, N), in its order.

    Only chosen places are ever predicted: a vocabulary's logits for all of them cost most of a small model's time.
    The sum is divided by the global count (`total`, see losses.mean).  Raises ValueError where M is not chosen's count.
    """
    wanted = target.values[chosen]
    if len(wanted) != len(predictions):
        raise ValueError(f"{len(predictions)} predictions for {len(wanted)} chosen tokens")
    return mean(per_token(predictions, wanted, target.kind == "class"), total)


def head_loss(
    hidden: Tensor,
    head: torch.nn.Module,
    target: Target,
    chosen: Tensor,
    total: Tensor | None = None,
    *,
    limit: int = 1 << 24,
) -> Tensor:
    """token_loss of head(hidden) for `hidden` (M, D) without ever holding more than `limit` logits.

    Where M x target.outputs is more, rows go through head and loss in chunks that are computed again in the backward
    pass: a third more work in the head, for memory that no longer grows with the vocabulary.  The head may run under autocast; the loss does not.
    """
    wanted, classes = target.values[chosen], target.kind == "class"
    rows = max(1, limit // max(1, target.outputs))
    if len(hidden) <= rows:
        return token_loss(head(hidden), target, chosen, total)

    def chunk(h: Tensor, w: Tensor) -> Tensor:
        return per_token(head(h), w, classes)

    parts = [
        checkpoint(chunk, h, w, use_reentrant=False, preserve_rng_state=False)
        for h, w in zip(hidden.split(rows), wanted.split(rows), strict=True)
    ]
    return mean(torch.cat(parts), total)
