"""T5: cut spans out of a text and write them down, in order, with a decoder.

Paper: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", JMLR 2020 (arXiv:1910.10683),
section 3.1.4: replaced spans.

When it works: before tasks whose answer is a text (`finetune --task translate`, `--task summarise`): encoder and decoder are both
pretrained.  The encoder alone serves classification and search as masked-token's does.
When it fails: where nothing is to be written, masked-token teaches the encoder more a minute; texts of one or two words.
What to watch: `loss` is nats a written token, sentinels and end mark included, which are easy: compare runs of one share and span length only;
`hidden` is the share of tokens that went, which rounding raises in short texts.

Each span becomes one sentinel in the encoder's input; the decoder writes sentinel 1, its tokens, sentinel 2, ..., the end mark.  Sentinels are ids behind the
tokenizer's, whose embeddings are the decoder's own: tokenizer and encoder stay what they are.

Cost: one forward and backward of both halves; the decoder reads about a quarter as many tokens as the encoder, and only these go through the vocabulary.

Scaled to the budget: batch 128 rows of 512 tokens -> 64 rows; 100 sentinels -> 32; Adafactor -> AdamW; T5's relative positions and RMSNorm -> this
project's text transformer, so that the encoder goes where the others go.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Target, View, ViewSpec, dist
from ..losses import head_loss
from ..nets.blind import BlindGuess
from ..nets.text_decoder import TextDecoder
from ..views.infilling import closed_up, cut_out, known, noise_spans
from ..views.text import MARKS


class T5(Method):
    """Writes down the spans that were cut out of a text."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = (
        "Raffel et al. 2020, Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer"
    )
    aliases: ClassVar[tuple[str, ...]] = ("span-corruption",)
    needs: ClassVar[frozenset[str]] = frozenset({"vocabulary", "target", "tokens"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})

    share: float = 0.15
    """Share of each text's tokens that are cut out."""
    span: float = 3.0
    """Mean length of a span, in tokens."""
    sentinels: int = 32
    """Spans of a text at most: where there were more, they get longer."""
    depth: int | None = None
    """Blocks of the decoder (default: as many as the encoder has)."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 256, optimizer="adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(40, "epochs"),
            scaled={"batch": f"128 rows of 512 tokens -> {64 if cpu else 256} rows", "sentinels": "100 -> 32, for shorter texts"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if not 0 < self.share < 1 or self.span < 1 or self.sentinels < 1:
            raise RequestError(
                f"share = {self.share}, span = {self.span}, sentinels = {self.sentinels} cut nothing out.",
                "Give a share between 0 and 1, spans of at least one token, and at least one sentinel.",
            )
        self.encoder = encoder
        self.specials: int = encoder.specials  # type: ignore[assignment]
        self.decoder = TextDecoder.beside(encoder, depth=self.depth, sentinels=self.sentinels)
        self.blind = BlindGuess(self.decoder.outputs)
        return self

    def _spans(self, batch: Batch) -> tuple[View, Tensor, Tensor]:
        """The view, its ordinary tokens (B, N) bool, and the number of the span that each is cut out with (B, N), 0 where it stays."""
        (view,) = batch.views
        able = view["valid"] & (view["ids"] >= len(MARKS))
        spans = noise_spans(
            able, batch.draw(), share=self.share, mean=self.span, most=self.sentinels, room=self.decoder.context - 2
        )
        return view, able, spans

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        view, able, spans = self._spans(batch)
        first = self.decoder.vocabulary
        ids, valid = closed_up(view["ids"], view["valid"], spans, first)
        written, there = cut_out(view["ids"], spans, first)
        read = self.encoder.trunk(
            self.decoder.tokenize(self.encoder, View(view.modality, parts={"ids": ids, "valid": valid}))
        )
        told = known(written, there, self.specials)[:, 1:]
        hidden = self.decoder(written[:, :-1], read)[told]
        target = Target("class", written[:, 1:], told, classes=self.decoder.outputs)
        loss = head_loss(hidden, self.decoder.table, target, target.valid, batch.total)
        with torch.no_grad():
            gone = dist.total((spans > 0).sum()) / dist.total(able.sum()).clamp_min(1)
        guess = self.blind(target.values[target.valid])
        return {"loss": loss, "features": self.encoder.pool(read).detach(), "hidden": gone, **guess}

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.blind.commit(outputs)

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        view, _, spans = self._spans(batch)
        written, there = cut_out(view["ids"], spans, self.decoder.vocabulary)
        return known(written, there, self.specials)[:, 1:].sum()

    def keep(self) -> Kept:
        return Kept(self.encoder, {"decoder": self.decoder}, {"decoder.embedding.weight": "embedding.weight"})
