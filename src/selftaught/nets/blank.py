"""Networks without memory: names, shapes and types on the meta device, with initialisation left out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FILLS = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, torch.nn.init.normal_, torch.nn.init.uniform_})
_DRAWS = frozenset({torch.randn, torch.rand})


class _Unfilled(TorchFunctionMode):
    """Random fills do nothing: on the meta device they would have torch import its compiler (as long as torch itself takes)."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _FILLS:
            return args[0] if args else kwargs["tensor"]
        if func in _DRAWS:
            return torch.empty(*args, **{k: v for k, v in kwargs.items() if k != "generator"})
        return func(*args, **kwargs)


@contextmanager
def blank() -> Iterator[None]:
    """Modules made inside allocate nothing.  They are not to be run: some keep tensors of their first run for all later ones."""
    with torch.device("meta"), _Unfilled():
        yield
