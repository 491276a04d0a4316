"""Masked token: hide some tokens and predict them from everything around them.

Paper: Devlin et al., "BERT", NAACL 2019 (arXiv:1810.04805), with RoBERTa's fresh masks at every step (Liu et al. 2019) and without
next-sentence prediction; for values instead of classes, SimMIM (Xie et al. 2022, arXiv:2111.09886).

When it works: text to be classified, searched or tagged; adapting to a domain before fine-tuning; series with gaps.
When it fails: very short texts (little is left to predict from); a corpus full of repeated lines, where the loss stays near the token
entropy (`selftaught look` counts duplicates); pictures on small budgets, as MAE does, and at a higher price.
What to watch: for classes, `loss` is nats a masked token: not a perplexity, and comparable only at one tokenizer and ratio.

How tokens are hidden is the modality's: words become the mask token, a random one or stay (80/10/10); patches become the
encoder's mask token.  Every row hides the same share of its own tokens, at least one; marks such as begin and end never.

Cost: one forward and backward; the head runs on hidden tokens only, which with a vocabulary is most of the saving.

Scaled to the budget: batch 256 x 512 tokens -> 64 rows; ratio 0.15, as the paper's (for patches set about 0.5); the head is one
linear layer tied to the embedding.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Target, ViewSpec
from ..losses import head_loss
from ..nets.blind import BlindGuess
from ..nets.heads import token_head
from ..views import random_tokens, random_words


class MaskedToken(Method):
    """Predicts hidden tokens from all others."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Devlin et al. 2019, BERT: Pre-training of Deep Bidirectional Transformers"
    aliases: ClassVar[tuple[str, ...]] = ("roberta", "masked-lm")
    needs: ClassVar[frozenset[str]] = frozenset({"target", "tokens"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})

    ratio: float = 0.15
    """Share of each row's tokens that are hidden and predicted."""
    span: int = 0
    """Neighbouring tokens that are hidden together; 0: as many as suit the data (of sound 3, else 1)."""
    whole_words: bool = False
    """Whether all tokens of a word are hidden together, where the data have words."""
    packing: Literal["isolated", "bos_bestfit", "none"] = "isolated"
    """Texts: packed into sequences without padding so that they cannot see one another, so that they can, or one text a row."""
    tied: bool = True
    """Whether the head shares the encoder's embedding, where there is one."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 256, optimizer="adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(40, "epochs"),
            scaled={"batch": f"256 rows of 512 tokens -> {64 if cpu else 256} rows", "lr": "1e-4 -> 0.001, for a small encoder"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if self.whole_words and not hasattr(facts.modality, "begins"):
            raise RequestError(f"--whole-words: {facts.modality.name} has no words.", "Leave it out.")
        self.encoder, self.modality = encoder, facts.modality
        tokens, target = facts.example(encoder, facts.modality.mild(facts))
        self.head = token_head(tokens.values.shape[-1], target, predicts="own", eps=getattr(encoder, "eps", 1e-5))
        self.blind = BlindGuess(target.classes)
        embedding = getattr(encoder, "embedding", None)
        self.shares = bool(self.tied and target.kind == "class" and embedding is not None)
        if self.shares:
            self.head.weight = embedding.weight  # type: ignore[union-attr]
        return self

    def _target(self, batch: Batch) -> tuple[Target, Tensor, tuple[int, ...] | None]:
        """Target, (B, N) bool of the tokens to hide, and their grid.  A row's choice depends on that row alone."""
        (view,) = batch.views
        with torch.no_grad():
            tokens = self.encoder.tokenize(view)
        target = self.modality.target(view, tokens.grid)
        able = target.valid if tokens.content is None else target.valid & tokens.content[:, tokens.prefix :]
        if self.whole_words:
            return target, random_words(batch.draw(), able, self.modality.begins(view), self.ratio), tokens.grid
        span = self.span or getattr(self.modality, "span", 1)
        return target, random_tokens(batch.draw(), able, self.ratio, span=span), tokens.grid

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        target, chosen, grid = self._target(batch)
        hidden = self.modality.corrupt(view, chosen, grid, batch.draw())
        known, summary = self.encoder.read(self.encoder.tokenize(hidden), chosen)
        loss = head_loss(known, self.head, target, chosen, batch.total)
        guess = self.blind(target.values[chosen])
        return {"loss": loss, "features": summary.detach(), **guess}

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.blind.commit(outputs)

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        return self._target(batch)[1].sum()

    def keep(self) -> Kept:
        ties = {"head.weight": "embedding.weight"} if self.shares else {}
        return Kept(self.encoder, {"head": self.head}, ties)
