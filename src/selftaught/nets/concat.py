"""An encoder whose tokens are read out in three ways at once: mean, maximum and last token side by side (ULMFiT's concat pooling)."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Encoder, ModelError, RequestError, Tokens, View, module
from . import store


class ConcatPooled(Encoder):
    """View -> (B, 3 x width) of a token encoder: over the tokens that say something, their mean, their maximum, and the last of them.

    Source: Howard & Ruder 2018 (ULMFiT), section 3.3: a document's label may hang on a few words, which a mean or a last state loses.
    Built empty, then joined: ConcatPooled().join(inner).  Its config holds that of the inner encoder.
    """

    kind: ClassVar[str] = "concat-pooled"

    def join(self, inner: Encoder) -> Self:
        """Takes the encoder; RequestError where it has no tokens."""
        if "tokens" not in inner.can:
            raise RequestError(
                f"Concat pooling reads tokens, and {inner.kind} has none.", "Leave --pool out, or take a transformer."
            )
        self.inner = inner
        self.modality = inner.modality  # type: ignore[misc]  # that of whatever stands inside
        return self

    @property
    def can(self) -> frozenset[str]:
        return self.inner.can

    @property
    def dim(self) -> int:
        return 3 * self.inner.dim

    def features(self, view: View) -> list[Tokens]:
        return self.inner.features(view)

    def tokenize(self, view: View) -> Tokens:
        return self.inner.tokenize(view)

    def trunk(self, tokens: Tokens, causal: bool = False) -> Tokens:
        return self.inner.trunk(tokens, causal)

    def pool(self, tokens: Tokens) -> Tensor:
        """(B, 3 D); a row without any token that says something gets zeros."""
        values = tokens.patches
        told = tokens.told.expand(values.shape[:2])
        if tokens.valid is not None:
            told = told & tokens.valid[:, tokens.prefix :]
        some = told.any(1, keepdim=True)
        largest = values.masked_fill(~told[..., None], -torch.inf).amax(1)
        place = torch.arange(values.shape[1], device=values.device)
        last = torch.where(told, place, 0).amax(1)
        final = values[torch.arange(len(values), device=values.device), last]
        return torch.cat([tokens.mean(), torch.where(some, largest, 0), torch.where(some, final, 0)], 1)

    def config(self) -> dict:
        """{"kind", "options", "encoder": the inner one's config}."""
        return {"kind": self.kind, "options": {}, "encoder": self.inner.config()}

    def sibling(self, **changes) -> ConcatPooled:
        """The same with fresh parameters inside."""
        return type(self)(**changes).join(self.inner.sibling())

    def start_from(self, view: View) -> None:
        self.inner.start_from(view)

    def layers(self) -> list[list[nn.Parameter]]:
        return self.inner.layers()

    def portable_state(self) -> dict[str, Tensor]:
        """The inner encoder's tensors under the names that it saves them with."""
        return {f"inner.{name}": tensor for name, tensor in store.state_of(self.inner).items()}

    def take_portable(self, state: dict[str, Tensor]) -> None:
        """Takes what `portable_state` gave."""
        store.fill(self.inner, {name.removeprefix("inner."): tensor for name, tensor in state.items()})


def rebuild(config: dict, inner: Encoder) -> ConcatPooled:
    """The pooling of a config around `inner`; ModelError where the options are none."""
    options = config.get("options")
    if not isinstance(options, dict):
        raise ModelError("The config of a concat-pooled encoder has no options.")
    return module.build(ConcatPooled, options, "a concat-pooled encoder").join(inner)
