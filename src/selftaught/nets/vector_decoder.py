"""A small causal decoder that writes a sequence out of ONE vector (TSDAE's, and what a bottleneck of one vector needs)."""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from ..core import Tokens
from .trunk import Blocks, attention_mask, initialise


class VectorDecoder(nn.Module):
    """ids (B, N) and a vector (B, inputs) -> (B, N, width): what stands at n has read the vector and ids 0 to n.

    Each block first adds a linear map of the vector to every token.  That is cross-attention to a memory of one vector, exactly: a softmax
    over one key is 1 whatever the query asks, so that all that is left of it is output map times value map, here one matrix a block (placed
    before the block's self-attention, where transformers' decoders have it behind).  `head` is tied to `embedding`.
    """

    def __init__(self, inputs: int, vocabulary: int, *, width: int, depth: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.options = {
            "inputs": inputs, "vocabulary": vocabulary, "width": width, "depth": depth, "heads": heads, "dropout": dropout,
        }  # fmt: skip
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = Blocks(width, depth, heads, grid=(64,), eps=1e-5, dropout=dropout)  # sines go on beyond 64
        self.memory = nn.ModuleList([nn.Linear(inputs, width) for _ in range(depth)])
        initialise(self.memory)
        self.head = nn.Linear(width, vocabulary)
        self.tie(self.embedding.weight)

    def tie(self, weight: Tensor) -> None:
        """Takes the parameter `weight` (vocabulary, width) for what goes in and what comes out."""
        assert isinstance(weight, nn.Parameter)
        self.embedding.weight = self.head.weight = weight

    def forward(self, ids: Tensor, vector: Tensor, valid: Tensor | None = None) -> Tensor:
        tokens = Tokens(self.embedding(ids), valid, grid=(ids.shape[1],))
        mask = attention_mask(tokens, causal=True)
        assert self.blocks.positions is not None
        x = self.blocks.dropout(tokens.values + self.blocks.positions(tokens).to(tokens.values.dtype))
        for block, memory in zip(self.blocks.layer, self.memory, strict=True):
            x = block(x + memory(vector)[:, None], mask)
        return self.blocks.norm(x)

    def config(self) -> dict:
        return {"kind": "vector-decoder", "options": self.options}
