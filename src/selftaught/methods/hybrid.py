"""Hybrid: one encoder learns to fill gaps from both sides and to go on from the left (masked next-token prediction).

Paper: Charpentier & Samuel, "GPT or BERT: why not both?", BabyLM 2024 (arXiv:2410.24159).

When it works: one model is to write and to represent: it generates as next-token does and is read out looking both ways; on small corpora its
authors found it better than either alone (winner of BabyLM 2024).
When it fails: a single purpose and few minutes: each objective sees only its share of the rows.
What to watch: `masked` and `causal` are nats a predicted token of either kind; their weighted sum is `loss`.

Both objectives predict the token at n from the output at n - 1, so that head and shift are the same and nothing but the attention tells them apart: a
masked row sees all of itself (with gaps), a causal row only what came before.  Which of the two a row is, is drawn anew at each step.

Cost: one forward and backward of each row; the head runs on every token of causal rows and on the hidden ones of masked rows.

Scaled to the budget: 32,768 rows of 128 tokens -> 64 rows; share 15/16 -> 0.5, so that short runs learn both; masks of a fixed ratio instead of
one that falls from 0.3 to 0.15; AdamW instead of LAMB.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Target, Tokens, View, ViewSpec
from ..losses import head_loss
from ..nets.blind import BlindGuess
from ..nets.heads import token_head
from ..views import random_tokens


class Hybrid(Method):
    """Predicts the next token in some rows, and hidden tokens in the others, with one head."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Charpentier & Samuel 2024, GPT or BERT: why not both?"
    aliases: ClassVar[tuple[str, ...]] = ("gpt-bert",)
    needs: ClassVar[frozenset[str]] = frozenset({"target", "tokens", "causal"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})

    share: float = 0.5
    """Share of the rows, and weight in the loss, of the masked objective; the rest is causal."""
    ratio: float = 0.15
    """Share of a masked row's tokens that are hidden and predicted."""
    packing: Literal["isolated", "bos_bestfit", "none"] = "isolated"
    """Texts: packed into sequences without padding so that they cannot see one another, so that they can, or one text a row."""
    tied: bool = True
    """Whether the head shares the encoder's embedding, where there is one."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 256, optimizer="adamw", lr=1e-3, weight_decay=0.1, betas=(0.9, 0.98), clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(20, "epochs"),
            scaled={"batch": f"32768 rows of 128 tokens -> {64 if cpu else 256} rows", "lr": "0.01 (LAMB) -> 0.001 (AdamW)"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if not 0 < self.share < 1:
            raise RequestError(
                f"share = {self.share} leaves one objective without rows.",
                "Give a number between 0 and 1, or take --method masked-token or next-token.",
            )
        if getattr(encoder, "causal", False):
            raise RequestError(
                "This encoder only looks back: it cannot fill gaps from both sides.",
                "Begin with a fresh encoder, or one that masked-token or bert trained.",
            )
        self.encoder, self.modality = encoder, facts.modality
        tokens, target = facts.example(encoder, facts.modality.mild(facts))
        self.head = token_head(tokens.values.shape[-1], target, predicts="next")
        self.blind = BlindGuess(target.classes)
        embedding = getattr(encoder, "embedding", None)
        self.shares = bool(self.tied and target.kind == "class" and embedding is not None)
        if self.shares:
            self.head.weight = embedding.weight  # type: ignore[union-attr]
        return self

    def _masked(self, batch: Batch) -> Tensor:
        """(B,) bool: which rows are masked; the others are causal.  A row's kind depends on that row alone."""
        return batch.draw().uniform("kind") < self.share

    def _target(self, batch: Batch) -> tuple[View, Target, Tensor, Tensor]:
        """What the encoder reads, the target, and (B, N) bool of the tokens that masked and causal rows predict: never a document's first."""
        (view,), masked = batch.views, self._masked(batch)[:, None]
        with torch.no_grad():
            tokens = self.encoder.tokenize(view)
        target = self.modality.target(view, tokens.grid)
        able = target.valid & _follows(tokens, target.valid)
        content = able if tokens.content is None else able & tokens.content[:, tokens.prefix :]
        chosen = random_tokens(batch.draw(), content, self.ratio) & masked
        return self.modality.corrupt(view, chosen, tokens.grid, batch.draw()), target, chosen, able & ~masked

    def _read(self, view: View, masked: Tensor) -> Tokens:
        """The trunk's tokens: masked rows look both ways, the others back."""
        parts, order = [], []
        for causal in (False, True):
            rows = (masked != causal).nonzero().flatten()
            if len(rows):
                parts.append(self.encoder.trunk(self.encoder.tokenize(view.take(rows)), causal=causal).values)
                order.append(rows)
        values = torch.cat(parts)[torch.argsort(torch.cat(order))]
        with torch.no_grad():
            return self.encoder.tokenize(view).with_values(values)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        view, target, *chosen = self._target(batch)
        read = self._read(view, self._masked(batch))
        totals = (None, None) if batch.total is None else batch.total
        parts, blind = [], []
        for one, total in zip(chosen, totals, strict=True):
            parts.append(head_loss(read.patches[:, :-1][one[:, 1:]], self.head, target, one, total))
            blind.append(self.blind(target.values[one]))
        weighed = lambda one, two: self.share * one + (1 - self.share) * two  # noqa: E731
        guess = {"baseline": weighed(*(b["baseline"] for b in blind))}
        if "seen" in blind[0]:
            guess["seen"] = blind[0]["seen"] + blind[1]["seen"]
        return {
            "loss": weighed(*parts), "features": self.encoder.pool(read).detach(), "masked": parts[0].detach(),
            "causal": parts[1].detach(), **guess,
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.blind.commit(outputs)

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        return torch.stack([chosen.sum() for chosen in self._target(batch)[2:]])

    def keep(self) -> Kept:
        ties = {"head.weight": "embedding.weight"} if self.shares else {}
        return Kept(self.encoder, {"head": self.head}, ties)


def _follows(tokens: Tokens, valid: Tensor) -> Tensor:
    """(B, N) bool: whether a token has one before it in its row and document."""
    follows = torch.ones_like(valid)
    follows[:, 0] = False
    if tokens.valid is not None:
        follows[:, 1:] &= tokens.valid[:, tokens.prefix : -1]
    if tokens.segment is not None:
        segment = tokens.segment[:, tokens.prefix :]
        follows[:, 1:] &= segment[:, 1:] == segment[:, :-1]
    return follows
