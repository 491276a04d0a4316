"""TSDAE: more than half of a text's tokens are deleted, and the text is written again from the one vector that the encoder makes of the rest.

Paper: Wang, Reimers & Gurevych, "TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised Sentence
Embedding Learning", Findings of EMNLP 2021 (arXiv:2104.06979).

When it works: sentences and short texts of one domain, without pairs or labels: the vector must hold what the text is about, since the
decoder sees nothing else; before fine-tuning with few labels, as the paper recommends.
When it fails: texts of more tokens than one vector holds; very little text, where the decoder learns the language and ignores the vector.
What to watch: `loss`, in nats a token, against `baseline` (token frequencies); a loss that stops at that of a next-token model has
left the vector unread.

The vector is the encoder's own pooling, the one that every later use of it has.  The decoder is causal and sees that vector alone (its
cross-attention to one key is exactly an added linear map: nets.vector_decoder).  Its embedding is the encoder's where the widths agree.

Cost: the encoder on four tenths of the tokens, the decoder on all of them, and the vocabulary's logits at every token.

Scaled to the budget: batch 8 and 100,000 steps -> 64 rows for minutes; lr 3e-5 -> 1e-3, for a small encoder; the decoder has the
encoder's depth and shares all its weights in the paper -> two blocks of its own, which share the embedding alone.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Target, ViewSpec
from ..losses import head_loss
from ..nets.blind import BlindGuess
from ..nets.vector_decoder import VectorDecoder

HEAD = 64
"""Width of an attention head of the decoder, where it divides its width."""


class TSDAE(Method):
    """Writes a text again from the one vector of what was left of it."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = (
        "Wang et al. 2021, TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised Sentence Embedding Learning"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"target", "delete"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})

    delete: float = 0.6
    """Share of a text's tokens that the encoder does not see."""
    width: int | None = None
    """Width of the decoder (default: that of the encoder's embedding, which it then shares)."""
    depth: int = 2
    """Blocks of the decoder."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 256, optimizer="adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(10, "epochs"),
            scaled={"batch": f"8 -> {64 if cpu else 256} rows", "lr": "3e-5 -> 0.001, for a small encoder"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if not 0 <= self.delete < 1:
            raise RequestError(
                f"delete = {self.delete:g} is no share of the tokens.", "Give a number from 0 to below 1."
            )
        self.encoder, self.modality = encoder, facts.modality
        embedding = getattr(encoder, "embedding", None)
        weight = getattr(embedding, "weight", None)
        width = self.width or (weight.shape[1] if weight is not None else encoder.dim)
        if width < 1 or self.depth < 1:
            raise RequestError(f"width = {width}, depth = {self.depth}: no decoder.", "Both are at least 1.")
        heads = width // HEAD if width % HEAD == 0 else 1
        self.decoder = VectorDecoder(encoder.dim, facts.modality.vocabulary, width=width, depth=self.depth, heads=heads)
        self.shares = weight is not None and weight.shape == self.decoder.embedding.weight.shape
        if weight is not None and self.shares:
            self.decoder.tie(weight)
        self.blind = BlindGuess(facts.modality.vocabulary)
        return self

    def _target(self, batch: Batch) -> tuple[Target, Tensor]:
        """The text, and (B, N) bool: True at tokens that are predicted, which the first of a row is not."""
        (view,) = batch.views
        target = self.modality.target(view, None)
        chosen = target.valid.clone()
        chosen[:, 0] = False
        return target, chosen

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        target, chosen = self._target(batch)
        vector = self.encoder(self.modality.delete(view, self.delete, batch.draw()))
        read = self.decoder(target.values[:, :-1], vector, view["valid"][:, :-1])
        loss = head_loss(read[chosen[:, 1:]], self.decoder.head, target, chosen, batch.total)
        return {"loss": loss, "features": vector.detach(), **self.blind(target.values[chosen])}

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.blind.commit(outputs)

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        return self._target(batch)[1].sum()

    def keep(self) -> Kept:
        ties = {f"decoder.{part}.weight": "embedding.weight" for part in ("embedding", "head")} if self.shares else {}
        return Kept(self.encoder, {"decoder": self.decoder}, ties)
