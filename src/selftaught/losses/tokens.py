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
def per_token(predictions: Tensor, wanted: Tensor, classes: bool, smoothing: float = 0.0) -> Tensor:
    """(M,) the loss of each of M predictions: cross-entropy of (M, classes) with int64, or mean squared error with (M, P).

    smoothing: share of the truth that is spread over all classes alike (Szegedy et al. 2016, section 7)."""
    if not classes:
        return (predictions - wanted.to(predictions.dtype)).square().mean(-1)
    return F.cross_entropy(predictions, wanted, reduction="none", label_smoothing=smoothing)


@full_precision
def binary_nats(score: Tensor, truth: Tensor) -> Tensor:
    """The surprise, in nats, at `truth` (bool) of one whose log odds are `score` of the same shape."""
    return F.binary_cross_entropy_with_logits(score, truth.to(score.dtype), reduction="none")


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
    head: torch.nn.Module | Tensor,
    target: Target,
    chosen: Tensor,
    total: Tensor | None = None,
    *,
    smoothing: float = 0.0,
) -> Tensor:
    """token_loss of head(hidden) for `hidden` (M, D), without ever holding all logits of a vocabulary (see losses.vocabulary).

    A head that is a table (V, D), or a linear layer, with a step `before` it or without, is taken apart; of any other all logits are made.
    """
    before, weight, bias = getattr(head, "before", None), head, None
    if isinstance(head, torch.nn.Linear) and (before is not None or type(head).forward is torch.nn.Linear.forward):
        weight, bias = head.weight, head.bias
    if target.kind != "class" or not isinstance(weight, Tensor):
        predictions = F.linear(hidden, head) if isinstance(head, Tensor) else head(hidden)
        return token_loss(predictions, target, chosen, total, smoothing=smoothing)
    wanted = target.values[chosen]
    if len(wanted) != len(hidden):
        raise ValueError(f"{len(hidden)} predictions for {len(wanted)} chosen tokens")
    if total is None:
        total = dist.total(torch.tensor(len(wanted), device=hidden.device))
    read = hidden if before is None else before(hidden)
    return mean(summed_cross_entropy(read, weight, bias, wanted, smoothing)[None], total)
