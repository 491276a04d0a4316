"""Collectives that carry gradient, and what a process needs to know of the others.

Convention: each rank's loss is its local sum x processes / global count, and DDP averages gradients over ranks; so the
backward of a collective is the adjoint of the SUM of all ranks' losses.  Rank r holds the r-th contiguous slice of the
global batch.  Everything here is the identity in a single process.
"""

import torch
import torch.distributed as td
from torch import Tensor


def ready() -> bool:
    return td.is_available() and td.is_initialized()


def world() -> int:
    return td.get_world_size() if ready() else 1


def rank() -> int:
    return td.get_rank() if ready() else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        td.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        td.all_reduce(grad)
        return grad.chunk(world())[rank()]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        out = x.contiguous().clone()
        td.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        td.all_reduce(grad)
        return grad


def gather_rows(x: Tensor) -> Tensor:
    """(B, ...) of each rank -> (W*B, ...) in rank order, with gradient.  Every rank must hold the same B."""
    return _Gather.apply(x) if world() > 1 else x


def sum_all(x: Tensor) -> Tensor:
    """The sum over ranks, with gradient; same shape."""
    return _Sum.apply(x) if world() > 1 else x


@torch.no_grad()
def total(x: Tensor) -> Tensor:
    """The sum over ranks without gradient: counts and statistics."""
    if world() == 1:
        return x.detach()
    out = x.detach().contiguous().clone()
    td.all_reduce(out)
    return out


def broadcast_object(value, source: int = 0):
    """`value` of rank `source` on every rank (small Python objects: a step horizon, a run folder's name)."""
    if world() == 1:
        return value
    box = [value]
    td.broadcast_object_list(box, src=source)
    return box[0]


def barrier() -> None:
    if world() > 1:
        td.barrier()
