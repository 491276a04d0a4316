"""Batch normalisation over all processes, on any backend (torch's SyncBatchNorm refuses CPUs).

In one process it is torch's own batch norm.  In several, each rank sends (count, mean, M2) of its rows once, and the
moments are merged by Chan, Golub & LeVeque (1979); the gradient flows through the exchange, so that W processes give the
gradients of one.  Equal to 1e-12 in float64 (tests/nets/test_norm.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..core import dist


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(count, mean (C,), biased variance (C,)) of x (B, C, ...) over every axis but 1 and over all ranks, with gradient."""
    axes = [d for d in range(x.ndim) if d != 1]
    count = x.new_tensor(x.numel() // x.shape[1])
    var, mean = torch.var_mean(x, axes, correction=0)
    if dist.world() == 1:
        return count, mean, var
    stats = dist.gather_rows(torch.cat([count[None], mean, var * count])[None])
    counts, means, m2 = stats[:, :1].detach(), *stats[:, 1:].chunk(2, 1)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    var = (m2 + counts * (means - mean) ** 2).sum(0) / total
    return total, mean, var


def _forward(self: BatchNorm1d | BatchNorm2d, x: Tensor) -> Tensor:
    alone = dist.world() == 1
    batch_statistics = self.training or self.running_mean is None
    if alone or not batch_statistics:
        return _BatchNorm.forward(self, x)
    self._check_input_dim(x)
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    count, mean, var = moments(wide)
    if self.training and self.running_mean is not None:
        _follow(self, count, mean.detach(), var.detach())
    scale = torch.rsqrt(var + self.eps)
    if self.weight is not None:
        scale = scale * self.weight.to(scale.dtype)
    shift = -mean * scale
    if self.bias is not None:
        shift = shift + self.bias.to(scale.dtype)
    shape = [1, -1] + [1] * (x.ndim - 2)
    return torch.addcmul(shift.view(shape), wide, scale.view(shape)).to(x.dtype)


@torch.no_grad()
def _follow(self: BatchNorm1d | BatchNorm2d, count: Tensor, mean: Tensor, var: Tensor) -> None:
    """Running statistics, with the unbiased variance, as torch keeps them."""
    assert self.running_mean is not None
    assert self.running_var is not None
    assert self.num_batches_tracked is not None
    self.num_batches_tracked.add_(1)
    share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
    unbiased = var * (count / (count - 1).clamp_min(1))
    self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
    self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


class BatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d whose statistics are those of the rows of all processes.  (B, C) or (B, C, L)."""

    forward = _forward  # type: ignore[assignment]


class BatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d whose statistics are those of the rows of all processes.  (B, C, H, W)."""

    forward = _forward  # type: ignore[assignment]


def synchronised(net: nn.Module) -> nn.Module:
    """`net` with torch's batch norms replaced by those of this file: same parameters, buffers and names."""
    for name, child in net.named_children():
        if type(child) is nn.BatchNorm1d:
            net.add_module(name, _over(child, BatchNorm1d))
        elif type(child) is nn.BatchNorm2d:
            net.add_module(name, _over(child, BatchNorm2d))
        else:
            synchronised(child)
    return net


def _over(old: _BatchNorm, kind: type[BatchNorm1d] | type[BatchNorm2d]) -> nn.Module:
    new = kind(old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats, device="meta")
    new._parameters.update(old._parameters)
    new._buffers.update(old._buffers)
    return new.train(old.training)


@torch.no_grad()
def recalibrate(net: nn.Module, views: Iterable) -> None:
    """Replaces the running statistics of every batch norm by the mean of those of `views`, in equal shares.

    For a network that was trained on other images than it will see (small crops, heavy colour changes): a few thousand clean
    ones are enough.  Mode and momentum come back as they were.
    """
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    kept, training = [m.momentum for m in norms], net.training
    net.eval()
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        m.train()
    for view in views:
        net(view)
    for m, momentum in zip(norms, kept):
        m.momentum = momentum
    net.train(training)
