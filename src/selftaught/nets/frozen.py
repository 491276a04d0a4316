"""A trained network that is only asked: what a distillation learns from."""

from __future__ import annotations

import hashlib
import json

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import ModelError, View
from . import store


class Frozen(nn.Module):
    """`net` (view -> tensor) in eval mode and without gradient: no parameters, nothing in the state but its fingerprint.

    A checkpoint thus stays small, and a state that was saved beside another network is refused (ModelError).  `side`: pictures of another size are resampled
    to it (bilinear, antialiased), since a network sees best at the size that it was trained at; None takes them as they come.
    """

    fingerprint: Tensor

    def __init__(self, net: nn.Module, *, side: int | None = None):
        super().__init__()
        self.side = side
        self.register_buffer("fingerprint", _fingerprint(net))
        self._held = (net.requires_grad_(False).eval(),)  # in a tuple it is no submodule: neither trained nor saved

    @property
    def net(self) -> nn.Module:
        return self._held[0]

    def _apply(self, fn, recurse: bool = True):
        self.net._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def forward(self, view: View) -> Tensor:
        return self.net(self.sized(view))

    def sized(self, view: View) -> View:
        """The view as the network sees it."""
        if self.side is None or "pixels" not in view.parts or tuple(view["pixels"].shape[2:]) == (self.side,) * 2:
            return view
        pixels = view["pixels"]
        pixels = pixels if pixels.is_floating_point() else pixels.float() / 255
        size = (self.side, self.side)
        return view.with_parts(
            pixels=F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
        )

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        given = state_dict.get(f"{prefix}fingerprint")
        if given is not None and not torch.equal(given.cpu(), self.fingerprint.cpu()):
            raise ModelError(
                "The teacher is not the one that this run began with.",
                "Put it back where it was, or begin anew with another --out.",
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _fingerprint(net: nn.Module) -> Tensor:
    """(32,) uint8, the SHA-256 of the network's tensors with their names, and of its encoder's config."""
    digest = hashlib.sha256()
    for module in net.modules():
        config = getattr(module, "config", None)
        if callable(config):
            digest.update(json.dumps(config(), sort_keys=True, default=str).encode())
    for name, tensor in sorted(store.state_of(net).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
