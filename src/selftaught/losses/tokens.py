"""Losses of predicted tokens: classes (a vocabulary, an alphabet) or values (pixels, samples)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Target, dist
from .precision import full_precision
from .reduction import mean
from .vocabulary import summed_cross_entropy


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
) -> Tensor:
    """token_loss of head(hidden) for `hidden` (M, D), without ever holding all logits of a vocabulary (see losses.vocabulary).

    That is for linear heads; one that does more before its last layer says so by a method `before` (nets.heads.LanguageHead)."""
    before = getattr(head, "before", None)
    more = before is None and type(head).forward is not torch.nn.Linear.forward
    if target.kind != "class" or not isinstance(head, torch.nn.Linear) or more:
        return token_loss(head(hidden), target, chosen, total)
    hidden = hidden if before is None else before(hidden)
    wanted = target.values[chosen]
    if len(wanted) != len(hidden):
        raise ValueError(f"{len(hidden)} predictions for {len(wanted)} chosen tokens")
    if total is None:
        total = dist.total(torch.tensor(len(wanted), device=hidden.device))
    return mean(summed_cross_entropy(hidden, head.weight, head.bias, wanted)[None], total)
