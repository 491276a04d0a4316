"""BERT: hide some words of two stretches of text and predict them, and tell whether the second stretch follows the first.

Paper: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", NAACL 2019 (arXiv:1810.04805).

When it works: tasks about two texts (entailment, question and answer, paraphrases), whose layout the encoder then knows.
When it fails: everywhere else masked-token is at least as good (Liu et al. 2019, RoBERTa, found no use in next sentence); rows of a
sentence or less, cut in two, ask only whether a phrase goes on.
What to watch: `masked` is nats a hidden word, `next_sentence` nats a pair (a blind guess loses 0.69), `accuracy` that of the pairs.

A row is a document, and is cut in two at a random place; with --group COLUMN rows are pieces of the documents that the column names, and the
next row follows.  Half of the second stretches come from another document, as long as the ones that follow would be.  A row with nothing
behind it always gets one.  Pairs too long for the context lose tokens at the front or the back at random, the longer stretch first.

Cost: masked-token's, and one small head a row.

Scaled to the budget: batch 256 x 512 tokens -> 64 rows; the pooler before the next-sentence decision is a hidden layer with ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Draw, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Transform, View, ViewSpec
from ..losses import binary_nats, head_loss, logged, mean
from ..nets.blind import BlindGuess
from ..nets.heads import MLP, token_head
from ..views import random_tokens


class BERT(Method):
    """Predicts hidden words of a pair of texts, and whether the second follows the first."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Devlin et al. 2019, BERT: Pre-training of Deep Bidirectional Transformers"
    needs: ClassVar[frozenset[str]] = frozenset({"target", "tokens", "pairs"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})

    ratio: float = 0.15
    """Share of each pair's tokens that are hidden and predicted."""
    tied: bool = True
    """Whether the word head shares the encoder's embedding."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 256, optimizer="adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(40, "epochs"),
            scaled={"batch": f"256 rows of 512 tokens -> {64 if cpu else 256} rows", "lr": "1e-4 -> 0.001, for a small encoder"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        mild = facts.modality.mild(facts)
        following = [ViewSpec(WithParams(mild), "following", "next")] if facts.groups else []
        return [ViewSpec(mild), *following, ViewSpec(mild, "other", "other document")]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if not hasattr(encoder, "tell_apart") or not hasattr(encoder, "embedding"):
            raise RequestError(
                f"bert tells two texts apart by token types, which the encoder {encoder.kind!r} has not.",
                "Leave --encoder out, or use --method masked-token.",
            )
        encoder.tell_apart(2)  # type: ignore[operator]
        self.encoder, self.modality = encoder, facts.modality
        tokens, target = facts.example(encoder, facts.modality.mild(facts))
        told = tokens.told.expand(tokens.patches.shape[:2]).sum(1)
        if not facts.groups and int(told.max()) < 2:
            raise RequestError(
                "No row has two words, so there is no second stretch that could follow a first.",
                "Name the column of the document that rows belong to (--group), or use --method masked-token.",
            )
        self.usual = int(told.float().median())
        self.head = token_head(tokens.values.shape[-1], target, predicts="own", eps=getattr(encoder, "eps", 1e-5))
        self.judge = MLP((tokens.values.shape[-1], tokens.values.shape[-1], 1), norm="none")
        self.blind = BlindGuess(target.classes)
        if self.tied:
            self.head.weight = encoder.embedding.weight  # type: ignore[union-attr, assignment]
        return self

    def notes(self) -> list[str]:
        short = self.usual < 16
        said = f"rows hold {self.usual} tokens: whether one follows another teaches little; masked-token does without."
        return [said] if short else []

    def _pair(self, batch: Batch) -> tuple[View, Tensor]:
        """The pairs, and (B, L) bool of the tokens to hide."""
        (view,), following = batch.of("global"), batch.of("following")
        pair = self.modality.pairs(view, *batch.of("other"), batch.draw(), *following)
        with torch.no_grad():
            tokens = self.encoder.tokenize(pair)
        target = self.modality.target(pair, tokens.grid)
        able = target.valid if tokens.content is None else target.valid & tokens.content
        return pair, random_tokens(batch.draw(), able, self.ratio)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        pair, chosen = self._pair(batch)
        words, rows = (None, None) if batch.total is None else batch.total
        hidden = self.modality.corrupt(pair, chosen, None, batch.draw())
        read = self.encoder.trunk(self.encoder.tokenize(hidden))
        target = self.modality.target(pair, read.grid)
        masked = head_loss(read.values[chosen], self.head, target, chosen, words)
        follows = pair.params["follows"]
        score = self.judge(read.values[:, 0])[:, 0]
        surprise = binary_nats(score, follows)
        guess, share = self.blind(target.values[chosen]), logged(follows.to(surprise.dtype))
        guess["baseline"] = guess["baseline"] + torch.special.entr(torch.stack([share, 1 - share])).sum()
        return {
            "loss": masked + mean(surprise, rows), "features": self.encoder.pool(read).detach(), "next_sentence": logged(surprise),
            "accuracy": logged(((score > 0) == follows).to(surprise.dtype)), "masked": masked.detach(), **guess,
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.blind.commit(outputs)

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        words = self._pair(batch)[1].sum()
        return torch.stack([words, words.new_tensor(len(batch))])

    def keep(self) -> Kept:
        ties = {"head.weight": "embedding.weight"} if self.tied else {}
        return Kept(self.encoder, {"head": self.head, "next_sentence": self.judge}, ties)


@dataclass(frozen=True)
class WithParams:
    """A transform whose result keeps the raw view's params: whether the row really follows."""

    transform: Transform

    def __call__(self, view: View, draw: Draw) -> View:
        made = self.transform(view, draw)
        return replace(made, params={**view.params, **made.params})
