"""Networks without memory: names, shapes and types on the meta device, with initialisation left out."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FILLS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, torch.nn.init.normal_, torch.nn.init.uniform_})
_SAME = frozenset({torch.nn.functional.normalize, Tensor.round, Tensor.clamp, Tensor.exp})
_DRAWS = frozenset({torch.randn, torch.rand})
_PAIRS = frozenset(
    {Tensor.mul, Tensor.div, Tensor.add, Tensor.sub, Tensor.__floordiv__, Tensor.__eq__, torch.mul, torch.add}
)


class _Unfilled(TorchFunctionMode):
    """Random fills do nothing, and arithmetic gives a shape: torch would import its compiler for them, as long as torch itself takes."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _FILLS:
            return args[0] if args else kwargs["tensor"]
        if func in _DRAWS:
            return torch.empty(*args, **{k: v for k, v in kwargs.items() if k != "generator"})
        if func in _SAME and isinstance(args[0], Tensor):
            return args[0]
        if func is torch.arange and len(args) == 1 and kwargs.keys() <= {"dtype"}:
            return torch.empty(math.ceil(args[0]), dtype=kwargs.get("dtype", torch.int64))
        if func in _PAIRS and not kwargs and all(isinstance(a, Tensor | int | float) for a in args):
            shape = torch.broadcast_shapes(*(a.shape for a in args if isinstance(a, Tensor)))
            dtype = torch.bool if func is Tensor.__eq__ else torch.result_type(*args)
            floats = func is Tensor.div and not dtype.is_floating_point
            return torch.empty(shape, dtype=torch.get_default_dtype() if floats else dtype)
        if func is Tensor.mean and isinstance(args[0], Tensor) and args[1:] and isinstance(args[1], int):
            return args[0].sum(*args[1:], **kwargs)
        return func(*args, **kwargs)


@contextmanager
def blank() -> Iterator[None]:
    """Modules made inside allocate nothing.  They are not to be run: some keep tensors of their first run for all later ones."""
    with torch.device("meta"), _Unfilled():
        yield
