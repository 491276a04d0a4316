"""Language models of transformers as encoders."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Encoder, RequestError, Tokens, View
from .architecture import make, portable
from .borrowed import groups_of, with_weights
from .trunk import attention_mask, part

CAUSAL = frozenset({"gpt2", "gpt_neox", "llama", "mistral", "opt", "qwen2", "qwen3"})
"""Architectures that read from left to right."""


class BorrowedText(Encoder):
    """Token ids -> (B, dim) through a language model of transformers; its tensors keep the model's names under `model.`.

    Ids are this project's: `pretrained_text` has put the rows of the model's table in that order, so that padding is 0, begin 1, end 2, mask 3,
    and with it the tokenizer.
    """

    kind: ClassVar[str] = "borrowed-text"
    modality: ClassVar[str] = "text"

    architecture: str
    """The network's settings as JSON, {"model_type": ..., ...}: judged anew whenever it is built."""
    specials: int = 4
    """The first ids, which stand for no text."""
    pooling: Literal["mean", "content", "class", "last"] = "mean"
    """What represents a text: the mean over all its tokens, over those that are no marks, the begin mark, or the last token."""
    causal: bool = False
    """Whether a token sees only what came before it, in the representation too."""

    def __post_init__(self):
        self.model: Any = make(self.architecture)
        self.causal = self.causal or json.loads(self.architecture)["model_type"] in CAUSAL

    @property
    def embedding(self) -> nn.Module:
        """The table of tokens: what a head may share."""
        return self.model.get_input_embeddings()

    @property
    def vocabulary(self) -> int:
        return self.model.config.vocab_size

    @property
    def context(self) -> int:
        """Longest sequence, in tokens."""
        return self.model.config.max_position_embeddings - self._offset

    @property
    def _offset(self) -> int:
        """What the model adds to a token's place: RoBERTa's kin count from behind the padding's id."""
        table = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)
        return 0 if padding is None else padding + 1

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"tokens", "mask", "causal", "stages"})

    @property
    def dim(self) -> int:
        return self.model.config.hidden_size

    def tokenize(self, view: View) -> Tokens:
        """(B, L, width) from ids (B, L), without positions; "position" and "segment" are taken over where the view has them."""
        ids = view["ids"]
        if ids.shape[1] > self.context:
            raise RequestError(
                f"Texts of {ids.shape[1]} tokens are longer than the {self.context} that the model takes.",
                "Give --size.",
            )
        return Tokens(
            self.embedding(ids), part(view, "valid"), part(view, "position"), part(view, "segment"),
            grid=(ids.shape[1],), content=ids >= self.specials,
        )  # fmt: skip

    def _run(self, tokens: Tokens, causal: bool, **options: bool):
        given: dict[str, Any] = {"inputs_embeds": tokens.values}
        if tokens.place is not None:
            given["position_ids"] = tokens.place + self._offset
        causal, own = causal or self.causal, self.model.config.model_type in CAUSAL
        if tokens.segment is None and tokens.position is None and causal == own:  # the model's own way
            if tokens.valid is not None:
                given["attention_mask"] = tokens.valid.long()
            return self.model(**given, **options)
        if "sliding_attention" in (getattr(self.model.config, "layer_types", None) or ()):
            raise RequestError(
                f"{self.model.config.model_type!r} looks at its neighbourhood in some layers, which a mask of ours would undo.",
                "Give --packing none, and a method that leaves its direction of reading.",
            )
        mask = attention_mask(tokens, causal)
        if mask is not None:
            least = torch.finfo(tokens.values.dtype).min
            given["attention_mask"] = torch.zeros_like(mask, dtype=tokens.values.dtype).masked_fill(~mask, least)
        return self.model(**given, **options)

    def trunk(self, tokens: Tokens, causal: bool = False) -> Tokens:
        return tokens.with_values(self._run(tokens, causal).last_hidden_state)

    def features(self, view: View) -> list[Tokens]:
        """What transformers calls hidden states, after each layer."""
        tokens = self.tokenize(view)
        out = self._run(tokens, False, output_hidden_states=True)
        return [tokens.with_values(x) for x in [*out.hidden_states[1:-1], out.last_hidden_state]]

    def pool(self, tokens: Tokens) -> Tensor:
        if self.pooling == "content":
            return tokens.mean()
        if self.pooling == "class":
            return tokens.values[:, 0]
        valid = tokens.valid if tokens.valid is not None else torch.ones_like(tokens.values[..., 0], dtype=torch.bool)
        if self.pooling == "last":
            place = torch.arange(valid.shape[1], device=valid.device)
            return tokens.values[torch.arange(len(valid), device=valid.device), (place * valid).argmax(1)]
        weight = valid[..., None].to(tokens.values.dtype)
        return (tokens.values * weight).sum(1) / weight.sum(1).clamp_min(1)

    def layers(self) -> list[list[nn.Parameter]]:
        return [g for g in groups_of(self.model) if g]

    def portable_state(self) -> dict[str, Tensor]:
        """The tensors under the names that transformers writes to files: they outlast its renamings."""
        return {f"model.{name}": tensor for name, tensor in portable(self.model).items()}

    def take_portable(self, state: dict[str, Tensor]) -> None:
        """Takes what `portable_state` gave."""
        named = {k.removeprefix("model."): v for k, v in state.items()}
        self.model = with_weights(self.architecture, named)[0].train(self.training)
