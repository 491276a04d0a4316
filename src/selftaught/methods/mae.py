"""MAE: the encoder sees a random quarter of the tokens; a small decoder fills in the rest.

Paper: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022 (arXiv:2111.06377); loss: section 3, on dropped tokens
only, of patches normalised by their own mean and variance.

When it works: large token encoders, long runs, fine-tuning afterwards; any data that come as tokens with a target; where
augmentation is risky, since it needs none but a mild crop.
When it fails: short runs and small data: its features become separable late, so that a frozen probe or kNN shows little for a
long time (published kNN on ImageNet after 100 epochs: 11 % where SimCLR has 45 %).
Convolutional encoders cannot drop tokens and are refused.

Cost: the encoder on 25 % of the tokens, and a narrow decoder on all: per example less than any method that sees all tokens.

Scaled to the budget: batch 4096 -> 128; decoder of 8 blocks of 512 -> 2 of 128; base rate 1.5e-4 x batch / 256 -> 1e-3, since AdamW
takes it on small encoders; the ratio of 0.75 is the paper's.  Of sound, runs of three tokens are dropped (missing segments): single ones of 40 ms
are filled in from their neighbours.  Text, being denser, is better served by masked-token.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, Sheet, Target, Tokens, ViewSpec
from ..losses import head_loss, standardised, unstandardised
from ..nets.blind import BlindGuess
from ..nets.decoder import Decoder
from ..views import run_numbers


class MAE(Method):
    """Reconstructs dropped tokens from the few that the encoder saw."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "He et al. 2022, Masked Autoencoders Are Scalable Vision Learners"
    aliases: ClassVar[tuple[str, ...]] = ("masked-autoencoder",)
    needs: ClassVar[frozenset[str]] = frozenset({"target", "tokens", "mask"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})

    ratio: float = 0.75
    """Share of the tokens that the encoder does not see."""
    span: int = 0
    """Neighbouring tokens that are dropped together; 0: as many as suit the data (of sound 3, else 1)."""
    normalise: bool = True
    """Whether values (pixels, samples) are predicted relative to the mean and deviation of their own patch."""
    decoder_width: int = 128
    """Width of the decoder."""
    decoder_depth: int = 2
    """Blocks of the decoder."""
    decoder_heads: int = 4
    """Attention heads of the decoder."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128 if cpu else 512, optimizer="adamw", lr=1e-3, weight_decay=0.05, warmup=0.1,
            duration=Duration(10, "minutes") if cpu else Duration(400, "epochs"),
            scaled={
                "batch": f"4096 -> {128 if cpu else 512}",
                "decoder": f"8 blocks of 512 -> {self.decoder_depth} of {self.decoder_width}",
                "lr": "1.5e-4 x batch / 256 -> 0.001, for a small encoder",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder, self.modality = encoder, facts.modality
        tokens, target = facts.example(encoder, facts.modality.mild(facts))
        self.blind = BlindGuess(target.classes)
        self.decoder = Decoder(
            tokens.values.shape[-1], target.outputs, width=self.decoder_width, depth=self.decoder_depth,
            heads=self.decoder_heads, grid=tokens.grid or (len(tokens) - tokens.prefix,),
        )  # fmt: skip
        return self

    def _dropped(self, batch: Batch, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """Places (B, K) that stay, which of them do (B, K) bool (rows of unequal length keep unequal numbers), and (B, N)
        bool, True where a token was dropped.  A row's draw does not depend on padding or on the rows beside it."""
        count = len(tokens) - tokens.prefix
        valid = torch.ones(len(tokens.values), count, dtype=torch.bool, device=tokens.values.device)
        if tokens.valid is not None:
            valid = tokens.valid[:, tokens.prefix :]
        noise = run_numbers(batch.draw(), valid, self.span or getattr(self.modality, "span", 1), purpose="drop")
        order = noise.masked_fill(~valid, 2.0).argsort(dim=1, stable=True)
        many = (valid.sum(1) * (1 - self.ratio)).round().long().clamp_min(1)
        longest = int(many.max()) if tokens.valid is not None else max(1, round(count * (1 - self.ratio)))
        places = order[:, :longest]
        stays = torch.arange(longest, device=places.device) < many[:, None]
        return places, stays, valid & ~torch.zeros_like(valid).scatter(1, places, stays)

    def _target(self, batch: Batch) -> tuple[Tokens, Target, Tensor, Tensor, Tensor]:
        (view,) = batch.views
        tokens = self.encoder.tokenize(view)
        places, stays, dropped = self._dropped(batch, tokens)
        target = self.modality.target(view, tokens.grid)
        return tokens, target, places, stays, dropped & target.valid

    def _read(self, tokens: Tokens, places: Tensor, stays: Tensor) -> Tokens:
        """The encoder's output on what was kept."""
        kept = tokens.take(places)
        if kept.valid is not None:
            kept = replace(
                kept, valid=torch.cat([kept.valid[:, : kept.prefix], stays & kept.valid[:, kept.prefix :]], 1)
            )
        return self.encoder.trunk(kept)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        tokens, target, places, stays, chosen = self._target(batch)
        encoded = self._read(tokens, places, stays)
        hidden = self.decoder(encoded, places, tokens).patches[chosen]
        if self.normalise and target.kind == "value":
            target = replace(target, values=standardised(target.values))
        loss = head_loss(hidden, self.decoder.head, target, chosen, batch.total)
        guess = self.blind(target.values[chosen])
        return {"loss": loss, "features": self.encoder.pool(encoded).detach(), **guess}

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.blind.commit(outputs)

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        return self._target(batch)[-1].sum()

    def show(self, batch: Batch) -> list[Sheet]:
        tokens, target, places, stays, chosen = self._target(batch)
        truth, hide = target.values, chosen[..., None]
        hidden = self.decoder(self._read(tokens, places, stays), places, tokens).patches
        painted = self.decoder.head(hidden).to(truth.dtype)
        about = f"{self.ratio:.0%} of the patches were dropped; the others are pasted in."
        if self.normalise:
            painted = unstandardised(painted, truth)
            about += " It predicts patches apart from their mean and contrast, which are the truth's here: one that knows nothing paints flat patches of the right shade."
        columns = (truth.masked_fill(hide, math.nan), torch.where(hide, painted, truth), truth)
        saw, filled, whole = (self.modality.untarget(c, batch.views[0], tokens.grid) for c in columns)
        return [Sheet.repainted(saw, filled, whole, about)]

    def keep(self) -> Kept:
        return Kept(self.encoder, {"decoder": self.decoder})
