"""VICReg: two views' embeddings must be close, each dimension must vary, and no two dimensions may vary together.

Paper: Bardes, Ponce & LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", ICLR 2022
(arXiv:2105.04906); objective: equations 1 to 6.

When it works: as Barlow Twins; the three terms can be read apart, which tells what a failing run lacks; embeddings of two branches need not share weights.
When it fails: batches much smaller than the embedding is wide; a weight of the covariance that is large beside the others (noise instead of content).
What to watch: `variance`, the mean shortfall of the deviations from 1: it should go to 0 early; stuck near 1 it is a collapse.

Cost: SimCLR's, and 2 rows x width^2 in the loss.  Rows of the batch meet in the loss; embeddings are replayed when micro-batches are
accumulated, where nothing is normalised over the batch.

Scaled to the budget: batch 2048 -> 256; expander 8192-8192-8192 -> 512-512; LARS -> AdamW.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, encode
from ..losses import vicreg
from ..nets.heads import MLP


class VICReg(Method):
    """Variance, invariance and covariance of two views' embeddings, regularised apart."""

    family: ClassVar[str] = "decorrelation"
    paper: ClassVar[str] = "Bardes et al. 2022, VICReg: Variance-Invariance-Covariance Regularization"
    needs: ClassVar[frozenset[str]] = frozenset({"augment"})
    couples_rows: ClassVar[bool] = True

    similarity: float = 25.0
    """Weight of the distance of two views."""
    variance: float = 25.0
    """Weight of deviations below 1."""
    covariance: float = 1.0
    """Weight of what dimensions have in common."""
    hidden: int = 512
    """Hidden width of the expander."""
    width: int = 512
    """Output width of the expander."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside the expander.  Only without batch normalisation, here and in the encoder, can a step be accumulated."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={
                "batch": "2048 -> 256, because a short run needs steps",
                "expander": f"8192-8192-8192 -> {self.hidden}-{self.width}, for this batch",
                "optimizer": "LARS -> AdamW, for this batch",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder = encoder
        self.expander = MLP((encoder.dim, self.hidden, self.width), norm=self.norm)
        return self

    def _expand(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (2, B, D) of the first two views and embeddings (B, 2, P) of both."""
        features = encode(self.encoder, batch.views)
        return torch.stack(features[:2]).detach(), self.expander(torch.cat(features)).unflatten(0, (2, -1)).transpose(
            0, 1
        )

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features, embedded = self._expand(batch)
        return {**self.couple(embedded), "features": features[0], "positives": features[1]}

    def embed(self, batch: Batch) -> Tensor:
        return self._expand(batch)[1]

    def couple(self, embedded: Tensor) -> dict[str, Tensor]:
        loss, terms = vicreg(
            embedded[:, 0],
            embedded[:, 1],
            similarity=self.similarity,
            variance=self.variance,
            covariance=self.covariance,
        )
        return {"loss": loss, **terms, "features": embedded[:, 0].detach(), "positives": embedded[:, 1].detach()}

    def keep(self) -> Kept:
        return Kept(self.encoder, {"expander": self.expander})
