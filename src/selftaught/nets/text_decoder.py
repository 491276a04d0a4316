"""The text decoder that stands beside a text encoder: reads what was written so far and, across, what the encoder read.

Legend: B rows, K beams of a row, T target tokens, N source tokens, D width, H heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Encoder, RequestError, Tokens, View
from .trunk import Attention, initialise

MASK = 3
"""The id under which an encoder reads a sentinel before its own row takes the place (views.text.MASK)."""


def split(x: Tensor, heads: int) -> Tensor:
    """(B, N, D) -> (B, H, N, D / H)."""
    rows, count, width = x.shape
    return x.view(rows, count, heads, width // heads).transpose(1, 2)


def join(x: Tensor) -> Tensor:
    """(B, H, N, D / H) -> (B, N, D)."""
    return x.transpose(1, 2).flatten(2)


@dataclass
class Cache:
    """What a decoder need not compute again: keys and values of every layer, of what was written and of the source.

    own: (B x K, H, t, D / H) each, None before the first token; across: (B, H, N, D / H) each, which the beams of a row share.
    """

    across: list[tuple[Tensor, Tensor]]
    mask: Tensor | None
    own: list[tuple[Tensor, Tensor] | None] = field(default_factory=list)
    length: int = 0

    def take(self, rows: Tensor, beams: Tensor) -> None:
        """Keeps the rows `rows` (b,) of the B, each beam going on from beam `beams` (b, K) of its row."""
        held = len(self.across[0][0])
        first = next((o for o in self.own if o is not None), None)
        if len(rows) != held:
            self.across = [(k[rows], v[rows]) for k, v in self.across]
            self.mask = None if self.mask is None else self.mask[rows]
        if first is not None:
            at = (rows[:, None] * (len(first[0]) // held) + beams).flatten()
            self.own = [None if o is None else (o[0][at], o[1][at]) for o in self.own]


class CrossAttention(nn.Module):
    """Multi-head attention from decoder tokens to source tokens.  `kv` is fused: its rows are keys, then values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def reset(self) -> None:
        """Xavier's spread for all four (Vaswani et al. 2017's code): with the trunk's 0.02 scores begin so small that tokens find their sources
        ten times more slowly."""
        for weight in (self.q.weight, *self.kv.weight.chunk(2), self.out.weight):
            nn.init.xavier_uniform_(weight)

    def keys(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the source, (B, H, N, D / H) each."""
        keys, values = self.kv(memory).chunk(2, -1)
        return split(keys, self.heads), split(values, self.heads)

    def forward(self, x: Tensor, keys: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        return self.out(join(F.scaled_dot_product_attention(split(self.q(x), self.heads), *keys, attn_mask=mask)))


class DecoderBlock(nn.Module):
    """x + attention(norm(x)), x + cross(norm(x)), x + mlp(norm(x)), with exact GELU."""

    def __init__(self, width: int, heads: int, mlp: float, eps: float, dropout: float):
        super().__init__()
        hidden = int(width * mlp)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.cross = CrossAttention(width, heads)
        self.norm3 = nn.LayerNorm(width, eps=eps)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def attend(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Self-attention of the tokens x (B, T, D): causal where there is no past, else one token that sees all of it."""
        heads = self.attention.heads
        q, k, v = (split(part, heads) for part in self.attention.qkv(self.norm1(x)).chunk(3, -1))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=past is None and x.shape[1] > 1)
        return self.attention.out(join(mixed)), (k, v)

    def forward(self, x: Tensor, keys: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        x = x + self.dropout(self.attend(x, None)[0])
        return self._rest(x, keys, mask)

    def _rest(self, x: Tensor, keys: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        x = x + self.dropout(self.cross(self.norm2(x), keys, mask))
        return x + self.dropout(self.contract(F.gelu(self.expand(self.norm3(x)))))

    def step(
        self, x: Tensor, past: tuple[Tensor, Tensor] | None, keys: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One further token of every beam, x (B, K, D); beams are queries side by side where the source is read."""
        rows, beams, width = x.shape
        read, own = self.attend(x.reshape(rows * beams, 1, width), past)
        return self._rest(x + read.view(rows, beams, width), keys, mask), own


class TextDecoder(nn.Module):
    """Pre-norm transformer decoder with learned positions over `vocabulary` ids and `sentinels` ids behind them.

    With a TextTransformer before it, this is transformers' BlenderbotForConditionalGeneration, parameter by parameter (gelu,
    scale_embedding False, tied): ``embedding`` (then ``sentinels``) = model.shared; ``positions`` = decoder.embed_positions; ``layer.i``: norm1 =
    self_attn_layer_norm, the thirds of attention.qkv = self_attn.q_proj, k_proj, v_proj, attention.out = self_attn.out_proj, norm2 =
    encoder_attn_layer_norm, cross.q, the halves of cross.kv, cross.out = encoder_attn.q_proj, k_proj, v_proj, out_proj, norm3 = final_layer_norm,
    expand = fc1, contract = fc2; ``norm`` = decoder.layer_norm.  The head is the embedding, without bias.

    `embedding.weight` is tied to the encoder's (see `beside`).  Sentinels stand for spans that were cut out (T5): their rows live here, so that
    tokenizer and encoder know nothing of them.
    """

    def __init__(
        self, vocabulary: int, width: int, *, depth: int, heads: int, context: int, mlp: float = 4.0, sentinels: int = 0,
        eps: float = 1e-5, dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        if depth < 1 or heads < 1 or width % heads or context < 1:
            raise RequestError(
                f"A text decoder of width {width}, depth {depth}, {heads} heads and context {context} cannot be built.",
                "Depth, heads and context are at least 1, and heads divide the width.",
            )
        self.options = {
            "vocabulary": vocabulary, "width": width, "depth": depth, "heads": heads, "context": context, "mlp": mlp,
            "sentinels": sentinels, "eps": eps, "dropout": dropout,
        }  # fmt: skip
        self.vocabulary, self.context = vocabulary, context
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.sentinels = nn.Embedding(sentinels, width) if sentinels else None
        if self.sentinels is not None:
            nn.init.normal_(self.sentinels.weight, std=0.02)
        self.positions = nn.Parameter(0.02 * torch.randn(context, width))
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.ModuleList([DecoderBlock(width, heads, mlp, eps, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=eps)
        initialise(self.layer)
        for block in self.layer:
            block.cross.reset()  # type: ignore[union-attr, operator]
            for last in (block.attention.out, block.contract):  # type: ignore[union-attr]
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(3 * depth))  # type: ignore[union-attr, arg-type]

    @classmethod
    def beside(cls, encoder: Encoder, *, depth: int | None = None, sentinels: int = 0) -> TextDecoder:
        """A decoder of the encoder's own width, heads and context, its embedding tied to the encoder's.

        depth: the encoder's, where None.  RequestError for an encoder that is no text transformer, or reads from left to right."""
        from .text import TextTransformer

        if not isinstance(encoder, TextTransformer) or encoder.causal:
            what = "one that reads from left to right" if getattr(encoder, "causal", False) else f"{encoder.kind!r}"
            raise RequestError(
                f"A decoder stands beside a text transformer that reads both ways, not beside {what}.",
                "Pretrain with masked-token, t5 or bart.",
            )
        made = cls(
            encoder.vocabulary, encoder.width, depth=depth or encoder.depth, heads=encoder.heads, context=encoder.context,
            mlp=encoder.mlp, sentinels=sentinels, eps=encoder.eps, dropout=encoder.dropout,
        )  # fmt: skip
        return made.tie(encoder)

    def tie(self, encoder: Encoder) -> TextDecoder:
        """Shares the encoder's embedding."""
        self.embedding.weight = encoder.embedding.weight  # type: ignore[union-attr, assignment]
        return self

    def without_sentinels(self, encoder: Encoder) -> TextDecoder:
        """A copy that knows the tokenizer's ids alone, tied to `encoder`: what is finetuned."""
        made = TextDecoder(**{**self.options, "sentinels": 0})  # type: ignore[arg-type]
        made.load_state_dict({k: v for k, v in self.state_dict().items() if not k.startswith("sentinels.")})
        return made.tie(encoder)

    @property
    def outputs(self) -> int:
        """Ids that it tells apart."""
        return self.vocabulary + (0 if self.sentinels is None else self.sentinels.num_embeddings)

    def embed(self, ids: Tensor) -> Tensor:
        """(..., D) of ids (...); those from `vocabulary` on are sentinels."""
        if self.sentinels is None:
            return self.embedding(ids)
        mark = ids >= self.vocabulary
        own = self.sentinels((ids - self.vocabulary).clamp_min(0))
        return torch.where(mark[..., None], own, self.embedding(ids.masked_fill(mark, MASK)))

    def tokenize(self, encoder: Encoder, view: View) -> Tokens:
        """The encoder's tokens of a view whose ids may be sentinels."""
        ids = view["ids"]
        mark = ids >= self.vocabulary
        tokens = encoder.tokenize(replace(view, parts={**view.parts, "ids": ids.masked_fill(mark, MASK)}))
        return tokens.with_values(torch.where(mark[..., None], self.embed(ids).to(tokens.values.dtype), tokens.values))

    @property
    def table(self) -> Tensor:
        """(outputs, D): the vectors of the vocabulary, those of the sentinels behind."""
        own: Tensor = self.embedding.weight  # type: ignore[union-attr, assignment]
        return own if self.sentinels is None else torch.cat([own, self.sentinels.weight])

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., outputs) of hidden (..., D)."""
        return F.linear(hidden, self.table)

    def forward(self, ids: Tensor, memory: Tokens) -> Tensor:
        """(B, T, D): after each of the ids (B, T), BEGIN first; padding stands behind, where nobody looks."""
        self._check(ids.shape[1])
        x = self.dropout(self.embed(ids) + self.positions[: ids.shape[1]])
        mask = None if memory.valid is None else memory.valid[:, None, None, :]
        for block in self.layer:
            x = block(x, block.cross.keys(memory.values), mask)  # type: ignore[union-attr, operator]
        return self.norm(x)

    def begin(self, memory: Tokens) -> Cache:
        """The cache of a source, before the first token."""
        across = [block.cross.keys(memory.values) for block in self.layer]  # type: ignore[union-attr, operator]
        mask = None if memory.valid is None else memory.valid[:, None, None, :]
        return Cache(across, mask, [None] * len(self.layer))

    def step(self, ids: Tensor, cache: Cache) -> Tensor:
        """(B, K, D): after one further id of every beam, ids (B, K); `cache` grows by it."""
        self._check(cache.length + 1)
        x = self.dropout(self.embed(ids) + self.positions[cache.length])
        for number, block in enumerate(self.layer):
            x, cache.own[number] = block.step(x, cache.own[number], cache.across[number], cache.mask)  # type: ignore[union-attr, operator]
        cache.length += 1
        return self.norm(x)

    def _check(self, length: int) -> None:
        if length > self.context:
            raise RequestError(
                f"{length} tokens are more than the {self.context} that this decoder writes.", "Cut the targets."
            )

    def config(self) -> dict:
        return {"kind": "text-decoder", "options": self.options}
