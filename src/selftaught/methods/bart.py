"""BART: spoil a text (spans become one mask each, sentences change places) and write it down again, whole, with a decoder.

Paper: Lewis et al., "BART: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation, Translation, and Comprehension",
ACL 2020 (arXiv:1910.13461), section 2.2: text infilling and sentence permutation.

When it works: before tasks whose answer is a text, summaries above all: the decoder learns to write whole texts of the kind at hand.
When it fails: on small budgets, as most of what is written is a copy of what was read, so that t5 teaches more a minute; texts of a few words.
What to watch: `loss` is nats a token of the whole text, copied ones included: compare runs of one share only; `hidden` is the share of tokens that went.

A span has a length drawn from a Poisson distribution, none included, and becomes one mask, so that the decoder finds out how many tokens are missing.
Sentences end where a token ends with . ! ? or their like and a new word follows.

Cost: one forward and backward of both halves; the decoder writes every token, each through the vocabulary: two to three times t5's.

Scaled to the budget: batch 8,000 rows of 512 tokens -> 32 rows; BART's layer norms behind -> this project's before, its embedding's norm left out.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Target, View, ViewSpec, dist
from ..losses import head_loss
from ..nets.blind import BlindGuess
from ..nets.text_decoder import TextDecoder
from ..views.infilling import closed_up, infill_spans, known, sentence_marks, shuffle_sentences
from ..views.text import MARKS


class BART(Method):
    """Writes a text down again from a spoilt copy."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Lewis et al. 2020, BART: Denoising Sequence-to-Sequence Pre-training"
    aliases: ClassVar[tuple[str, ...]] = ("text-infilling",)
    needs: ClassVar[frozenset[str]] = frozenset({"vocabulary", "target", "tokens"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})

    share: float = 0.3
    """Share of each text's tokens that are hidden."""
    span: float = 3.0
    """Mean length of a span, in tokens."""
    permute: bool = True
    """Whether sentences change places."""
    depth: int | None = None
    """Blocks of the decoder (default: as many as the encoder has)."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=32 if cpu else 256, optimizer="adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(40, "epochs"),
            scaled={"batch": f"8,000 rows of 512 tokens -> {32 if cpu else 256} rows"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if not 0 < self.share < 1 or self.span <= 0:
            raise RequestError(
                f"share = {self.share}, span = {self.span} hide nothing, or all.",
                "Give a share between 0 and 1, and spans of a mean length above 0.",
            )
        self.encoder = encoder
        self.decoder = TextDecoder.beside(encoder, depth=self.depth)
        self.blind = BlindGuess(self.decoder.outputs)
        self.specials: int = encoder.specials  # type: ignore[assignment]
        ends, begins = sentence_marks(facts.modality.words(), facts.modality.pieces)
        self.register_buffer("ends", ends, persistent=False)
        self.register_buffer("begins", begins, persistent=False)
        return self

    def _told(self, view: View) -> Tensor:
        """(B, N - 1) bool: the tokens behind BEGIN that are written, which what is unknown cannot be."""
        return known(view["ids"], view["valid"], self.specials)[:, 1:]

    def _spoilt(self, view: View, batch: Batch) -> tuple[View, Tensor]:
        """What is read, and the share of ordinary tokens that are hidden, over all ranks."""
        ids, draw = view["ids"], batch.draw()
        able = view["valid"] & (ids >= len(MARKS))
        if self.permute:
            ids = shuffle_sentences(ids, able, self.ends, self.begins, draw)  # type: ignore[arg-type]
        spans, empty = infill_spans(able, draw, share=self.share, mean=self.span)
        ids, valid = closed_up(ids, view["valid"], spans, None, empty)
        gone = dist.total((spans > 0).sum()) / dist.total(able.sum()).clamp_min(1)
        return View(view.modality, parts={"ids": ids, "valid": valid}), gone

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        ids, there = view["ids"], self._told(view)
        with torch.no_grad():
            spoilt, gone = self._spoilt(view, batch)
        read = self.encoder.trunk(self.encoder.tokenize(spoilt))
        hidden = self.decoder(ids[:, :-1], read)[there]
        target = Target("class", ids[:, 1:], there, classes=self.decoder.outputs)
        loss = head_loss(hidden, self.decoder.table, target, there, batch.total)
        guess = self.blind(target.values[there])
        return {"loss": loss, "features": self.encoder.pool(read).detach(), "hidden": gone, **guess}

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.blind.commit(outputs)

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        return self._told(batch.views[0]).sum()

    def keep(self) -> Kept:
        return Kept(self.encoder, {"decoder": self.decoder}, {"decoder.embedding.weight": "embedding.weight"})
