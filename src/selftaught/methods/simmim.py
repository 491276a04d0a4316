"""SimMIM: the encoder sees every token, many of them masked, and one linear layer predicts the masked ones' values.

Paper: Xie et al., "SimMIM: A Simple Framework for Masked Image Modeling", CVPR 2022 (arXiv:2111.09886); objective: section 3.4, absolute error.

When it works: long runs that end in fine-tuning; encoders that cannot drop tokens, which mae needs.
When it fails: small data and short runs, like all masked image modelling but for mae (at 200 epochs of Imagenette it is published at half of the others' accuracy);
the mean of its tokens is a poor linear representation.
What to watch: `loss` against `baseline`, what the mean value of every number would lose.

Cost: all tokens through the whole encoder: about three times mae's.  Rows do not meet in the loss: micro-batches add up.

Scaled to the budget: patches of 32 pixels are masked -> the encoder's own patches; ratio 0.6, as in the paper.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, Sheet, Target, ViewSpec
from ..losses import full_precision, logged, mean, middle
from ..nets.heads import Linear
from ..views import random_tokens


class SimMIM(Method):
    """Predicts the values of masked tokens by one linear layer."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Xie et al. 2022, SimMIM: A Simple Framework for Masked Image Modeling"
    needs: ClassVar[frozenset[str]] = frozenset({"target", "values", "tokens"})

    ratio: float = 0.6
    """Share of each row's tokens that are masked and predicted."""
    span: int = 0
    """Neighbouring tokens that are masked together; 0: as many as suit the data (of sound 3, else 1)."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128 if cpu else 512, optimizer="adamw", lr=1e-3, weight_decay=0.05, warmup=0.1,
            duration=Duration(10, "minutes") if cpu else Duration(400, "epochs"),
            scaled={"batch": f"2048 -> {128 if cpu else 512}", "lr": "1e-4 x batch / 512 -> 0.001, for a small encoder"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder, self.modality = encoder, facts.modality
        tokens, target = facts.example(encoder, facts.modality.mild(facts))
        self.head = Linear(tokens.values.shape[-1], target.outputs)
        return self

    def _target(self, batch: Batch) -> tuple[Target, Tensor, tuple[int, ...] | None]:
        """Target, (B, N) bool of the tokens to mask, and their grid.  A row's choice depends on that row alone."""
        (view,) = batch.views
        with torch.no_grad():
            tokens = self.encoder.tokenize(view)
        target = self.modality.target(view, tokens.grid)
        span = self.span or getattr(self.modality, "span", 1)
        return target, random_tokens(batch.draw(), target.valid, self.ratio, span=span), tokens.grid

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        target, chosen, grid = self._target(batch)
        hidden = self.modality.corrupt(view, chosen, grid, batch.draw())
        read = self.encoder.trunk(self.encoder.tokenize(hidden))
        wanted = target.values[chosen]
        off, blind = absolute(self.head(read.patches[chosen]), wanted), absolute(middle(wanted), wanted)
        return {
            "loss": mean(off, batch.total), "baseline": logged(blind),
            "features": self.encoder.pool(read).detach(),
        }  # fmt: skip

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        return self._target(batch)[1].sum()

    def show(self, batch: Batch) -> list[Sheet]:
        (view,) = batch.views
        target, chosen, grid = self._target(batch)
        read = self.encoder.trunk(self.encoder.tokenize(self.modality.corrupt(view, chosen, grid, batch.draw())))
        filled = torch.where(chosen[..., None], self.head(read.patches).to(target.values.dtype), target.values)
        saw = target.values.masked_fill(chosen[..., None], math.nan)
        about = f"{self.ratio:.0%} of the patches were masked; the others are pasted in."
        back = self.modality.untarget
        return [
            Sheet.repainted(back(saw, view, grid), back(filled, view, grid), back(target.values, view, grid), about)
        ]

    def keep(self) -> Kept:
        return Kept(self.encoder, {"head": self.head})


@full_precision
def absolute(predicted: Tensor, wanted: Tensor) -> Tensor:
    """(M,) mean absolute error of (M, P)."""
    return (predicted - wanted).abs().mean(1)
