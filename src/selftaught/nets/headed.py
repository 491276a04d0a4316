"""An encoder with the first layer of a projector behind it: what SimCLR v2 hands over."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch.nn as nn
from torch import Tensor

from ..core import Encoder, ModelError, Tokens, View, module
from . import store
from .heads import hidden_layer


class Headed(Encoder):
    """View -> (B, width): `inner`, then linear, normalisation and ReLU.  Does whatever the inner encoder can; only pooling differs.

    Built empty, then joined: Headed(width=...).join(inner, first).  Its config holds that of the inner encoder.
    """

    kind: ClassVar[str] = "headed"

    width: int = 256
    """Outputs of the layer."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Its normalisation."""

    def join(self, inner: Encoder, first: nn.Module | None = None) -> Self:
        """Takes the encoder and the layer; None makes a fresh one."""
        self.inner = inner
        self.first = hidden_layer(inner.dim, self.width, norm=self.norm) if first is None else first
        self.modality = inner.modality  # type: ignore[misc]  # that of whatever stands inside
        return self

    @property
    def can(self) -> frozenset[str]:
        return self.inner.can

    @property
    def dim(self) -> int:
        return self.width

    @property
    def multiple(self) -> int:
        return self.inner.multiple

    def forward(self, view: View) -> Tensor:
        return self.first(self.inner(view))

    def features(self, view: View) -> list[Tokens]:
        return self.inner.features(view)

    def tokenize(self, view: View) -> Tokens:
        return self.inner.tokenize(view)

    def trunk(self, tokens: Tokens, causal: bool = False) -> Tokens:
        return self.inner.trunk(tokens, causal)

    def pool(self, tokens: Tokens) -> Tensor:
        return self.first(self.inner.pool(tokens))

    def config(self) -> dict:
        """{"kind", "options", "encoder": the inner one's config}."""
        return {"kind": self.kind, "options": module.options(self), "encoder": self.inner.config()}

    def sibling(self, **changes) -> Headed:
        """The same with fresh parameters inside and out; `changes` are of this layer."""
        return type(self)(**{**module.options(self), **changes}).join(self.inner.sibling())

    def start_from(self, view: View) -> None:
        self.inner.start_from(view)

    def layers(self) -> list[list[nn.Parameter]]:
        return [*self.inner.layers(), list(self.first.parameters())]

    def portable_state(self) -> dict[str, Tensor]:
        """The inner encoder's tensors under the names that it saves them with, and the layer's."""
        parts = {"inner": store.state_of(self.inner), "first": store.state_of(self.first)}
        return {f"{part}.{name}": tensor for part, held in parts.items() for name, tensor in held.items()}

    def take_portable(self, state: dict[str, Tensor]) -> None:
        """Takes what `portable_state` gave."""
        for part in ("inner", "first"):
            held = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")}
            store.fill(getattr(self, part), held)


def rebuild(config: dict, inner: Encoder) -> Headed:
    """The layer of a config around `inner`, with fresh parameters; ModelError where the options are none."""
    options = config.get("options")
    if not isinstance(options, dict):
        raise ModelError("The config of a headed encoder has no options.")
    return module.build(Headed, options, "a headed encoder").join(inner)
