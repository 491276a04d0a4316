"""Word vectors as an encoder: a text is the mean of its words' vectors."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Encoder, Tokens, View
from .trunk import part


class WordVectors(Encoder):
    """A table of vectors; (B, width) is the mean over a text's known words, of which rare ones may weigh more.

    With `smoothing` a above 0, a word of frequency p weighs a / (a + p) (smooth inverse frequency: Arora, Liang & Ma 2017; without
    their last step, which takes a set's first principal direction away).  Words that were never learned (frequency 0) count for nothing;
    a text without known words is zero.

    Buffers: frequency (vocabulary,), the words' shares of the corpus; subwords (buckets, width), n-grams of letters, for words that are
    spelled out and unknown (see words.Words): ids of a view know no spelling.
    """

    kind: ClassVar[str] = "word-vectors"
    modality: ClassVar[str] = "text"

    vocabulary: int = 8192
    """Number of token ids."""
    width: int = 100
    """Numbers in a vector."""
    specials: int = 4
    """The first ids, which stand for no word."""
    smoothing: float = 0.0
    """a of the weights a / (a + frequency); 0: all words alike.  0.001 is usual."""
    buckets: int = 0
    """Rows for n-grams of letters; 0: none."""
    shortest: int = 3
    """Letters of the shortest n-gram."""
    longest: int = 6
    """Letters of the longest n-gram."""

    def __post_init__(self):
        if min(self.vocabulary, self.width) < 1 or self.smoothing < 0 or self.buckets < 0:
            raise ValueError(f"a table of {self.vocabulary} x {self.width} with smoothing {self.smoothing}")
        self.embedding = nn.Embedding(self.vocabulary, self.width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.register_buffer("frequency", torch.full((self.vocabulary,), 1 / self.vocabulary))
        if self.buckets:
            self.register_buffer("subwords", torch.zeros(self.buckets, self.width))

    @property
    def dim(self) -> int:
        return self.width

    def tokenize(self, view: View) -> Tokens:
        """(B, L, width): the words' vectors times their weights."""
        ids = view["ids"]
        frequency = self.get_buffer("frequency")[ids]
        values = self.embedding(ids)
        if self.smoothing:
            values = values * (self.smoothing / (self.smoothing + frequency))[..., None]
        content = (ids >= self.specials) & (frequency > 0)
        return Tokens(values, part(view, "valid"), part(view, "position"), part(view, "segment"), grid=(ids.shape[1],), content=content)  # fmt: skip

    def trunk(self, tokens: Tokens, causal: bool = False) -> Tokens:
        return tokens

    def pool(self, tokens: Tokens) -> Tensor:
        """(B, width): the mean over valid tokens that are known words."""
        return tokens.mean()
