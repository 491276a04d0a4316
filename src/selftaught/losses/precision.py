"""Full precision for losses: autocast off, 16-bit arguments in float32, float64 as it is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def _lift(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, list | tuple):
        return type(value)(_lift(v) for v in value)
    return value


def _device(values: Any) -> str | None:
    for value in values:
        if isinstance(value, Tensor):
            return value.device.type
        if isinstance(value, list | tuple) and (found := _device(value)):
            return found
    return None


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Runs `function` with autocast off and its float16 and bfloat16 arguments in float32; float64 stays float64.

    Matrix products of a loss (covariances, logits of contrastive losses) lose most of their bits under autocast, and
    logarithms of what is left become infinite.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        device = _device([*args, *kwargs.values()]) or "cpu"
        with torch.autocast(device, enabled=False):
            return function(*map(_lift, args), **{k: _lift(v) for k, v in kwargs.items()})

    return wrapped
