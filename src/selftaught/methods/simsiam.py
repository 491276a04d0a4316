"""SimSiam: predict one view's embedding from another's, without negatives and without a slow teacher: the stopped gradient is enough.

Paper: Chen & He, "Exploring Simple Siamese Representation Learning", CVPR 2021 (arXiv:2011.10566); objective: equations 1 to 4.

When it works: where BYOL does, for less memory: nothing is copied; small batches (256 and less) are its own setting.
When it fails: short runs (it is slower than SimCLR to leave the untrained network); without batch normalisation in its heads; a
predictor whose learning rate decays to nothing.  Nothing in the loss forbids collapse: watch the effective rank; a loss near -1 within a few steps
is a collapse, not a success.

Cost: SimCLR's.  Rows meet only in batch normalisation: accumulation over micro-batches is refused while that trains.

Scaled to the budget: batch 512 -> 256; projector 2048-2048-2048 -> 512-512-512, predictor's bottleneck 512 -> 128; SGD -> AdamW, with the
predictor's rate constant as in the paper only in so far as the schedule of the run allows: it decays with the rest.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, encode
from ..losses import mean, negative_cosine
from ..nets.heads import MLP


class SimSiam(Method):
    """A predictor and a stopped gradient, and nothing else."""

    family: ClassVar[str] = "distillation"
    paper: ClassVar[str] = "Chen & He 2021, Exploring Simple Siamese Representation Learning"
    needs: ClassVar[frozenset[str]] = frozenset({"augment"})

    width: int = 512
    """Width of the projector, hidden and output."""
    bottleneck: int = 128
    """Hidden width of the predictor."""
    norm: Literal["batch", "layer"] = "batch"
    """Normalisation inside projector and predictor.  "layer" allows accumulation; the paper's "batch" collapses less easily."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={"batch": "512 -> 256, because a short run needs steps", "optimizer": "SGD at 0.1 -> AdamW, for this batch"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.width, self.width, self.width), norm=self.norm, last=True)
        self.predictor = MLP((self.width, self.bottleneck, self.width), norm=self.norm)
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features = encode(self.encoder, batch.views)
        embedded = list(self.projector(torch.cat(features)).chunk(2))
        predicted = self.predictor(torch.cat(embedded)).chunk(2)
        there, back = (negative_cosine(p, z) for p, z in zip(predicted, reversed(embedded), strict=True))
        return {
            "loss": mean((there + back) / 2, batch.total),
            "features": features[0].detach(),
            "positives": features[1].detach(),
        }

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector, "predictor": self.predictor})
