"""Barlow Twins: the dimensions of two views' embeddings must agree with themselves and with nothing else.

Paper: Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021 (arXiv:2103.03230);
objective: equations 1 and 2.

When it works: as SimCLR, with less need of a large batch; wide embeddings help, so it asks for a wide projector.
When it fails: batches much smaller than the embedding is wide (a correlation of few rows is noise); views that share too little; data of few factors,
whose embedding cannot fill that many independent dimensions.
What to watch: `agreement`, the mean of the correlation's diagonal, towards 1.

Cost: SimCLR's, and rows x width^2 in the loss.  Rows of the batch meet in the loss; embeddings are replayed when micro-batches are accumulated,
where nothing is normalised over the batch.

Scaled to the budget: batch 2048 -> 256; projector 8192-8192-8192 -> 512-512; LARS -> AdamW.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, encode
from ..losses import barlow_twins
from ..nets.heads import MLP


class BarlowTwins(Method):
    """Makes the correlation of two views' embeddings the identity."""

    family: ClassVar[str] = "decorrelation"
    paper: ClassVar[str] = "Zbontar et al. 2021, Barlow Twins: Self-Supervised Learning via Redundancy Reduction"
    aliases: ClassVar[tuple[str, ...]] = ("barlow",)
    needs: ClassVar[frozenset[str]] = frozenset({"augment"})
    couples_rows: ClassVar[bool] = True

    weight: float = 5e-3
    """What the correlations off the diagonal weigh."""
    hidden: int = 512
    """Hidden width of the projector."""
    width: int = 512
    """Output width of the projector: the number of dimensions that are made independent."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside the projector.  Only without batch normalisation, here and in the encoder, can a step be accumulated."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={
                "batch": "2048 -> 256, because a short run needs steps",
                "projector": f"8192-8192-8192 -> {self.hidden}-{self.width}, for this batch",
                "optimizer": "LARS -> AdamW, for this batch",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.hidden, self.width), norm=self.norm)
        return self

    def _project(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (2, B, D) of the first two views and embeddings (B, 2, P) of both."""
        features = encode(self.encoder, batch.views)
        return torch.stack(features[:2]).detach(), self.projector(torch.cat(features)).unflatten(0, (2, -1)).transpose(
            0, 1
        )

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features, embedded = self._project(batch)
        return {**self.couple(embedded), "features": features[0], "positives": features[1]}

    def embed(self, batch: Batch) -> Tensor:
        return self._project(batch)[1]

    def couple(self, embedded: Tensor) -> dict[str, Tensor]:
        loss = barlow_twins(embedded[:, 0], embedded[:, 1], weight=self.weight)
        # independent views have no correlation at all: a loss of one a dimension
        return {
            "loss": loss,
            "baseline": loss.new_tensor(self.width),
            "features": embedded[:, 0].detach(),
            "positives": embedded[:, 1].detach(),
        }

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector})
