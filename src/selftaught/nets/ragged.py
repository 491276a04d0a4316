"""Rows of unequal length, one behind the other and without padding: what acts on single places need not see any."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Pick(torch.autograd.Function):
    """Rows `at` of x; no place twice, so that the gradient is laid back, not added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, at: Tensor) -> Tensor:
        ctx.save_for_backward(at)
        ctx.rows = len(x)
        return x.index_select(0, at)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,), (at,) = grads, ctx.saved_tensors
        return grad.new_zeros(ctx.rows, *grad.shape[1:]).index_copy_(0, at, grad), None


class _Lay(torch.autograd.Function):
    """x at the rows `at` of `count`, zeros elsewhere: the adjoint of _Pick."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, at: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(at)
        return x.new_zeros(count, *x.shape[1:]).index_copy_(0, at, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0].index_select(0, ctx.saved_tensors[0]), None, None


def picked(x: Tensor, at: Tensor) -> Tensor:
    """(K, ...) the rows `at` (K,) int64 of x (M, ...), none of them twice."""
    return _Pick.apply(x, at)  # type: ignore[no-any-return]


class Layout:
    """How the places of B rows lie: the M that are `valid` (B, N) bool one behind the other, or padded as (B, N).

    owner (M,): the row of each place; position (M,): where in its row it stands.  `joined` False leaves all N of each row where they are, for
    graphs that are traced: only attention then tells them apart.
    """

    def __init__(self, valid: Tensor, joined: bool = True):
        self.valid = valid
        self.place = valid.flatten().nonzero()[:, 0] if joined else None
        self.full = self.place is None or len(self.place) == valid.numel()

    @classmethod
    def of(cls, lengths: Tensor, longest: int | None = None) -> Layout:
        """The first `lengths` (B,) int64 places of rows of `longest`."""
        longest = (int(lengths.max()) if len(lengths) else 0) if longest is None else longest
        return cls(torch.arange(longest, device=lengths.device) < lengths[:, None])

    @property
    def lengths(self) -> Tensor:
        return self.valid.sum(1)

    @property
    def owner(self) -> Tensor:
        assert self.place is not None
        return self.place // max(1, self.valid.shape[1])

    @property
    def position(self) -> Tensor:
        assert self.place is not None
        return self.place % max(1, self.valid.shape[1])

    @property
    def mask(self) -> Tensor | None:
        """(B, 1, 1, N) bool, True where attention may look; None where it may look everywhere.  A row without places looks at all, so as not to yield NaN."""
        if self.full and self.place is not None:
            return None
        return (self.valid | ~self.valid.any(1, keepdim=True))[:, None, None]

    def pad(self, x: Tensor) -> Tensor:
        """(M, ...) -> (B, N, ...), zeros in places that are not valid."""
        if not self.full:
            x = _Lay.apply(x, self.place, self.valid.numel())
        return x.reshape(*self.valid.shape, *x.shape[1:])

    def pack(self, x: Tensor) -> Tensor:
        """(B, N, ...) -> (M, ...)."""
        x = x.reshape(self.valid.numel(), *x.shape[2:])
        return x if self.full or self.place is None else picked(x, self.place)

    def sums(self, x: Tensor) -> Tensor:
        """(B, ...) the sum of each row's own among x (M, ...)."""
        return x.new_zeros(len(self.valid), *x.shape[1:]).index_add(0, self.owner, x)
