"""Next token: read from left to right and predict what comes.

Paper: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (GPT-2); for values instead of classes, Chung &
Glass, "Generative Pre-Training for Speech with Autoregressive Predictive Coding", 2020 (arXiv:1910.12607).

When it works: text and anything else with an order, when one wants to generate or to score; every token teaches, so it uses data better
than masked-token on short runs.
When it fails: as an encoder for classification, masked-token is usually better at the same size, since here a token never sees
what follows; pictures, whose patches have no natural order; series in which the next stretch is a copy of this one (predicting
that nothing changes is already good: compare the loss with that).
What to watch: for classes, `loss` is nats a token; compare it with the entropy of the token frequencies, and across tokenizers
only as bits per byte.

Cost: one forward and backward, and the vocabulary's logits at every token, in chunks (see losses.head_loss).

Scaled to the budget: batches of half a million tokens -> 32 rows; 124 M parameters -> what two cores train; the head is tied to
the embedding, which is where most parameters of a small model are.  Packed documents never see, or predict, one another.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Target, Tokens, ViewSpec
from ..losses import head_loss
from ..nets.blind import BlindGuess
from ..nets.heads import Linear


class NextToken(Method):
    """Predicts each token from those before it."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners"
    aliases: ClassVar[tuple[str, ...]] = ("gpt", "causal-lm")
    needs: ClassVar[frozenset[str]] = frozenset({"target", "tokens", "causal"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})

    packing: Literal["bos_bestfit", "isolated", "none"] = "bos_bestfit"
    """Texts: packed into sequences without padding, one after another in each, or so that they cannot see one another, or one text a row."""
    tied: bool = True
    """Whether the head shares the encoder's embedding, where there is one."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=32 if cpu else 256, optimizer="adamw", lr=1e-3, weight_decay=0.1, betas=(0.9, 0.99), clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(10, "epochs"),
            scaled={"batch": f"512 rows of 1024 tokens -> {32 if cpu else 256} rows", "lr": "6e-4 -> 0.001, for a small encoder"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if getattr(encoder, "pooling", "mean") == "class":
            raise RequestError(
                "With next-token a class token stands first and sees nothing, so it cannot represent the row.",
                'Take an encoder with pooling = "mean".',
            )
        encoder.causal = True  # type: ignore[assignment]  # in the representation too: a token trained without its future has no use for it
        self.encoder, self.modality = encoder, facts.modality
        tokens, target = facts.example(encoder, facts.modality.mild(facts))
        self.head = Linear(tokens.values.shape[-1], target.outputs)
        self.blind = BlindGuess(target.classes)
        embedding = getattr(encoder, "embedding", None)
        self.shares = bool(self.tied and target.kind == "class" and embedding is not None)
        if self.shares:
            self.head.weight = embedding.weight  # type: ignore[union-attr]
        return self

    def _target(self, batch: Batch) -> tuple[Tokens, Target, Tensor]:
        """Tokens, target, and (B, N) bool: True at tokens that are predicted, which the first of a row or document is not."""
        (view,) = batch.views
        tokens = self.encoder.tokenize(view)
        target = self.modality.target(view, tokens.grid)
        follows = torch.ones_like(target.valid)
        follows[:, 0] = False
        if tokens.valid is not None:
            follows[:, 1:] &= tokens.valid[:, tokens.prefix : -1]
        if tokens.segment is not None:
            segment = tokens.segment[:, tokens.prefix :]
            follows[:, 1:] &= segment[:, 1:] == segment[:, :-1]
        return tokens, target, target.valid & follows

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        tokens, target, chosen = self._target(batch)
        read = self.encoder.trunk(tokens, causal=True)
        hidden = read.patches[:, :-1][chosen[:, 1:]]
        loss = head_loss(hidden, self.head, target, chosen, batch.total)
        guess = self.blind(target.values[chosen])
        return {"loss": loss, "features": self.encoder.pool(read).detach(), **guess}

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.blind.commit(outputs)

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        return self._target(batch)[-1].sum()

    def keep(self) -> Kept:
        ties = {"head.weight": "embedding.weight"} if self.shares else {}
        return Kept(self.encoder, {"head": self.head}, ties)
