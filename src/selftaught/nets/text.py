"""Text transformer: bidirectional for masked tokens, causal for next tokens, with the same parameters."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Encoder, RequestError, Tokens, View
from .trunk import Blocks, part

TOGETHER = 16
"""Rows at least that go through together where rows of like length do."""


class TextTransformer(Encoder):
    """Token ids through pre-norm blocks with learned positions; (B, width) is the mean over tokens that are not special.

    It is two of transformers' architectures, parameter by parameter (hidden_act / activation_function "gelu", eps = eps):
    GPT2Model where trained causally: ``embedding`` = wte, ``blocks.positions.table`` = wpe, ``blocks.layer.i``: norm1 = h.i.ln_1,
    attention.qkv = attn.c_attn (transposed: Conv1D), attention.out = attn.c_proj (transposed), norm2 = ln_2, expand = mlp.c_fc
    (transposed), contract = mlp.c_proj (transposed); ``blocks.norm`` = ln_f.
    XLMRobertaXLModel (pre-norm, no pooling layer, type_vocab_size 1 or `types`, pad_token_id 0) where bidirectional: ``embedding`` =
    embeddings.word_embeddings; embeddings.position_embeddings = a row of zeros, then ``blocks.positions.table`` (positions begin at
    pad + 1); embeddings.token_type_embeddings = zeros or ``type_embedding``; ``blocks.layer.i``: norm1 = attention.self_attn_layer_norm, the thirds of
    attention.qkv = attention.self.query, key, value, attention.out = attention.output.dense, norm2 = LayerNorm, expand =
    intermediate.dense, contract = output.dense; ``blocks.norm`` = encoder.LayerNorm.
    A head tied to the embedding uses ``embedding.weight`` (vocabulary, width).
    """

    kind: ClassVar[str] = "text-transformer"
    modality: ClassVar[str] = "text"

    vocabulary: int = 8192
    """Number of token ids."""
    context: int = 128
    """Longest sequence, in tokens."""
    width: int = 256
    """Width of a token."""
    depth: int = 4
    """Number of blocks."""
    heads: int = 4
    """Attention heads; they divide the width."""
    mlp: float = 4.0
    """Hidden width of a block's two-layer network, in widths."""
    specials: int = 4
    """The first ids, which are marks (padding, begin, end, mask) and stay out of the mean."""
    eps: float = 1e-5
    """Of the layer norms."""
    causal: bool = False
    """Whether a token sees only what came before it, in the representation too: set by methods that train so."""
    dropout: float = 0.0
    """On embedded tokens and residual branches (SimCSE needs some)."""
    types: int = 0
    """Token types that are told apart (BERT's first and second sentence); 0: none."""

    def __post_init__(self):
        self.embedding = nn.Embedding(self.vocabulary, self.width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = Blocks(
            self.width, self.depth, self.heads, grid=(self.context,), mlp=self.mlp, positions="learned", eps=self.eps,
            dropout=self.dropout,
        )  # fmt: skip
        if self.types:
            self.tell_apart(self.types)

    def tell_apart(self, types: int) -> None:
        """Adds a table of token types, zero at first, where there is none: nothing changes before it learns."""
        if not hasattr(self, "type_embedding"):
            self.types = types  # type: ignore[assignment]
            self.type_embedding = nn.Embedding(types, self.width)
            nn.init.zeros_(self.type_embedding.weight)
        elif types > self.types:
            raise RequestError(
                f"This encoder tells {self.types} token type apart, and {types} are asked for.",
                "Begin with a fresh one.",
            )

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"tokens", "mask", "causal", "stages"})

    @property
    def dim(self) -> int:
        return self.width

    def forward(self, view: View) -> Tensor:
        """(B, width).  Rows of like length go through together, so that short ones do not pay for the padding that a long one brings."""
        groups = of_like_length(view)
        if len(groups) == 1:
            return super().forward(view)
        done = [super(TextTransformer, self).forward(_cut(view, rows, longest)) for rows, longest in groups]
        back = torch.argsort(torch.cat([rows for rows, _ in groups]))
        return torch.cat(done)[back]

    def tokenize(self, view: View) -> Tokens:
        """(B, L, width) from ids (B, L); "position" and "segment" are taken over where the view has them (packed documents).

        Part "type" (B, L) int64: which of the `types` a token is; without it all are of the first."""
        ids, values = view["ids"], self.embedding(view["ids"])
        if self.types:
            kind = part(view, "type")
            values = values + (self.type_embedding.weight[0] if kind is None else self.type_embedding(kind))
        return Tokens(
            values, part(view, "valid"), part(view, "position"), part(view, "segment"),
            grid=(ids.shape[1],), content=ids >= self.specials,
        )  # fmt: skip

    def trunk(self, tokens: Tokens, causal: bool = False) -> Tokens:
        return self.blocks(tokens, causal or self.causal)

    def read(self, tokens: Tokens, chosen: Tensor, causal: bool = False) -> tuple[Tensor, Tensor]:
        values, there = self.blocks.read(tokens, chosen, causal or self.causal)
        weight = there[..., None].to(values.dtype)
        return values[there], (values * weight).sum(1) / weight.sum(1).clamp_min(1)

    def features(self, view: View) -> list[Tokens]:
        """The tokens after every block: `depth` stages of one length and width."""
        return self.blocks.stages(self.tokenize(view), self.causal)

    def pool(self, tokens: Tokens) -> Tensor:
        """(B, width): the mean over valid tokens that are not special."""
        return tokens.mean()

    def layers(self) -> list[list[nn.Parameter]]:
        positions, *blocks = self.blocks.layers()
        kinds = list(self.type_embedding.parameters()) if self.types else []
        return [[*self.embedding.parameters(), *kinds, *positions], *blocks]


def of_like_length(view: View) -> list[tuple[Tensor, int]]:
    """[(rows (b,) int64, length of the longest)]: the rows of a padded view, longest first, in groups of TOGETHER or more.

    One group where that would not spare a quarter of the places, on a GPU, where few large products are quicker, and of tensors that are traced."""
    valid = part(view, "valid")
    rows, width = view["ids"].shape
    one = [(torch.arange(rows), width)]
    if type(valid) is not Tensor or valid.device.type != "cpu" or rows < 2 * TOGETHER:
        return one
    lengths, order = valid.sum(1).sort(descending=True, stable=True)
    groups = order.split(max(TOGETHER, rows // 8))
    longest = [int(lengths[at]) for at in range(0, rows, max(TOGETHER, rows // 8))]
    if sum(len(g) * n for g, n in zip(groups, longest, strict=True)) > 0.75 * rows * width:
        return one
    return list(zip(groups, longest, strict=True))


def _cut(view: View, rows: Tensor, longest: int) -> View:
    """Some rows of a view, without the places behind the longest of them; one place stays of empty rows."""
    some = view.take(rows)
    return some.with_parts(**{name: some[name][:, : max(1, longest)] for name in some.parts})
