"""SimCLR: two augmented views of an example must find one another among all other examples of the batch.

Paper: Chen, Kornblith, Norouzi & Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020
(arXiv:2002.05709); objective: equation 1.  More than two views: every pair of views of a row is a positive, and further views of
the row are left out of its denominator.

When it works: the augmentations remove what does not matter and leave what does (crops and colours for photographs of objects).  It is
steady and hard to collapse, and gets somewhere with few steps.
When it fails: the augmentations remove what matters (colour of flowers, direction of digits, level of a sensor); many rows are
near-duplicates of one another, which it pushes apart; batches under about 64 rows, where there is little to tell apart.
What to watch: `accuracy` is the share of views whose nearest other embedding is a view of the same row.  1.0 early on means that the
task is too easy (weak augmentation, small batch); chance is 1 / (2 x rows of the batch).

Cost: one forward and backward a view, and (batch x views)^2 x `width` multiply-adds for the loss, which is small beside them.

Scaled to the budget: batch 4096 -> a few hundred and 1000 epochs -> minutes, since few steps are the enemy of a short run; with so few
negatives temperature 0.5 -> 0.1; LARS -> AdamW; projector 2048-128 -> 256-64, in proportion to the encoder's width.  Accumulation is
exact (embed every micro-batch, one loss of all, replay), where neither encoder nor projector has batch normalisation.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, dist, encode
from ..losses import info_nce
from ..nets.heads import MLP


class SimCLR(Method):
    """Contrastive learning of two views against the rest of the batch."""

    family: ClassVar[str] = "contrastive"
    paper: ClassVar[str] = "Chen et al. 2020, A Simple Framework for Contrastive Learning of Visual Representations"
    needs: ClassVar[frozenset[str]] = frozenset({"augment"})
    couples_rows: ClassVar[bool] = True

    temperature: float = 0.1
    """Divides the cosines: lower looks harder at the most similar other examples."""
    hidden: int = 256
    """Hidden width of the projector."""
    width: int = 64
    """Output width of the projector, where examples are compared."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside the projector.  Only without batch normalisation, here and in the encoder, can a step be accumulated."""
    copies: int = 2
    """Views of each example in a step."""

    def defaults(self, facts: Facts) -> Recipe:
        if facts.device == "cpu":
            return Recipe(
                batch=256, optimizer="adamw", lr=2e-3, weight_decay=1e-2, betas=(0.9, 0.98), duration=Duration(10, "minutes"),
                scaled={
                    "batch": "4096 -> 256, because a short run needs steps more than negatives",
                    "temperature": f"0.5 -> {self.temperature:g}, because a small batch holds few hard negatives",
                    "optimizer": "LARS at 4.8 -> AdamW at 0.002, for this batch",
                },
            )  # fmt: skip
        return Recipe(
            batch=512, optimizer="sgd", lr=0.06, weight_decay=5e-4, duration=Duration(100, "epochs"),
            scaled={"batch": "4096 -> 512, for one device", "optimizer": "LARS at 4.8 -> SGD at 0.06, for this batch"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.augment(facts)) for _ in range(self.copies)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.hidden, self.width), norm=self.norm)
        return self

    def _project(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (2, B, D) of the first two views and embeddings (B, V, P) of all."""
        features = encode(self.encoder, batch.views)
        embedded = self.projector(torch.cat(features)).unflatten(0, (len(features), -1))
        return torch.stack(features[:2]).detach(), embedded.transpose(0, 1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features, embedded = self._project(batch)
        return {**self.couple(embedded), "features": features[0], "positives": features[1]}

    def embed(self, batch: Batch) -> Tensor:
        return self._project(batch)[1]

    def couple(self, embedded: Tensor) -> dict[str, Tensor]:
        loss, accuracy = info_nce(embedded, temperature=self.temperature)
        others = embedded.shape[1] * (len(embedded) * dist.world() - 1)
        chance = loss.new_tensor(math.log(1 + others))  # every candidate alike
        return {
            "loss": loss,
            "accuracy": accuracy,
            "baseline": chance,
            "features": embedded[:, 0].detach(),
            "positives": embedded[:, 1].detach(),
        }

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector})
