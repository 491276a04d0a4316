"""Cross-entropy over a vocabulary from the last layer's input, whose logits are never all held, nor worked out twice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1 << 21
"""Logits that are held at once on a processor: they stay in its cache (8 MB) ..."""
ROWS, WIDE = 512, 1 << 25
"""... but for so many rows, below which products of matrices are slow, within so many logits (128 MB)."""
CHUNK_DEVICE = 1 << 26
"""The same on a GPU, where larger products pay."""


class _Summed(torch.autograd.Function):
    """Sum over M rows of cross-entropy(hidden W' + b): the gradient is made with the loss, a chunk of rows at a time.

    The gradient of a cross-entropy needs the softmax that the loss has just made; since what is wanted of the M losses is their sum, it needs
    nothing from behind (Hsu et al. 2024, Liger kernel, section 3.2; Wijmans et al. 2024).
    """

    @staticmethod
    def forward(
        ctx, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor, rows: int, smoothing: float, learns: bool
    ) -> Tensor:  # fmt: skip
        full = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        total = torch.zeros((), dtype=full, device=hidden.device)
        back = torch.empty_like(hidden) if learns else None
        to_weight = torch.zeros_like(weight) if learns else None
        to_bias = torch.zeros_like(bias) if learns and bias is not None else None
        for start in range(0, len(hidden), rows):
            part, goal = hidden[start : start + rows], wanted[start : start + rows, None]
            logits = F.linear(part, weight, bias).to(full)
            logits -= logits.amax(1, keepdim=True)
            total -= (1 - smoothing) * logits.gather(1, goal).sum()
            if smoothing:
                total -= smoothing * logits.mean(1).sum()
            sums = logits.exp_().sum(1, keepdim=True)
            total += sums.log().sum()
            if back is None or to_weight is None:
                continue
            logits /= sums
            logits.scatter_add_(1, goal, logits.new_full(goal.shape, smoothing - 1.0))
            if smoothing:
                logits -= smoothing / logits.shape[1]
            gradient = logits.to(weight.dtype)
            back[start : start + rows] = (gradient @ weight).to(back.dtype)
            to_weight.addmm_(gradient.T, part)
            if to_bias is not None:
                to_bias += gradient.sum(0)
        ctx.save_for_backward(back, to_weight, to_bias)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        back, to_weight, to_bias = ctx.saved_tensors
        scaled = [None if t is None else t.mul_(gradient.to(t.dtype)) for t in (back, to_weight, to_bias)]
        return (*scaled, None, None, None, None)


def summed_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor, smoothing: float = 0.0
) -> Tensor:
    """The sum over M rows of the cross-entropy of hidden (M, D) W' + b, W (V, D), against the classes `wanted` (M,) int64: a scalar.

    smoothing: share of the truth that is spread over all classes alike (Szegedy et al. 2016, section 7).  fp32 inside (float64 stays); under autocast the products are taken in its dtype.  Memory: the gradients of `hidden` and W, and some
    logits.  It can be differentiated once.
    """
    classes = max(1, len(weight))
    rows = max(1, CHUNK // classes, min(ROWS, WIDE // classes))
    if hidden.device.type != "cpu":
        rows = max(1, CHUNK_DEVICE // classes)
    dtype = torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else None
    learns = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    if dtype is not None:
        hidden, weight, bias = hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        return _Summed.apply(hidden, weight, bias, wanted, rows, smoothing, learns)
