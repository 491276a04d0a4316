"""COLA: two stretches of one clip must find one another among the batch, by a bilinear similarity.

Paper: Saeed, Grangier & Zeghidour, "Contrastive Learning of General-Purpose Audio Representations", ICASSP 2021 (arXiv:2010.10915); objective: equation 1.

When it works: sounds, instruments, voices, languages: whatever stays the same within a clip; steady and hard to collapse, with few steps.
When it fails: what changes within a clip (words in a sentence); where level, room or microphone tell the clip, which the paper's bare crops leave open: here each stretch is heard through a
gain, an equaliser and a background of its own; batches under about 64 clips.
What to watch: `accuracy`, the share of stretches that find their own partner; chance is 1 / rows of the batch, `baseline` its loss.

Beside simclr: similarity by a learned matrix instead of cosines (the paper's gain over them: several points), a projector of one layer with layer norm and tanh, and one direction.

Cost: two stretches of a row, and rows^2 x `width` for the loss.  Accumulation is exact where the encoder has no batch normalisation.

Scaled to the budget: batch 1024 -> 256; projector 512 -> 128; EfficientNet-B0 -> the encoder; Adam at 1e-4 -> AdamW at 1e-3.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, dist, encode
from ..losses import full_precision, mean
from ..nets.heads import MLP, Linear


class COLA(Method):
    """Contrastive learning of two stretches of a clip by a bilinear similarity."""

    family: ClassVar[str] = "contrastive"
    paper: ClassVar[str] = "Saeed et al. 2021, Contrastive Learning of General-Purpose Audio Representations"
    needs: ClassVar[frozenset[str]] = frozenset({"sound", "augment"})
    couples_rows: ClassVar[bool] = True

    width: int = 128
    """Width in which stretches are compared."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"batch": "1024 -> 256, because a short run needs steps more than negatives", "lr": "1e-4 -> 0.001, for a small encoder"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.width), norm="layer", last=True)
        self.similarity = Linear(self.width, self.width, bias=False)
        nn.init.orthogonal_(self.similarity.weight)
        return self

    def _project(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (2, B, D) and embeddings (B, 2, P) of both stretches."""
        features = torch.stack(encode(self.encoder, batch.views))
        return features.detach(), torch.tanh(self.projector(features)).transpose(0, 1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features, embedded = self._project(batch)
        return {**self.couple(embedded), "features": features[0], "positives": features[1]}

    def embed(self, batch: Batch) -> Tensor:
        return self._project(batch)[1]

    def couple(self, embedded: Tensor) -> dict[str, Tensor]:
        nats, found = bilinear(self.similarity(embedded[:, 0]), embedded[:, 1])
        loss = mean(nats)
        return {
            "loss": loss, "accuracy": mean(found), "baseline": loss.new_tensor(math.log(len(embedded) * dist.world())).detach(),
            "features": embedded[:, 0].detach(), "positives": embedded[:, 1].detach(),
        }  # fmt: skip

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector, "similarity": self.similarity})


@full_precision
def bilinear(asked: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) each: nats of finding the own partner among all ranks' `other` (B, P) by the product with `asked` (B, P); whether it is the best."""
    scores = asked @ dist.gather_rows(other).T
    own = torch.arange(len(asked), device=scores.device) + dist.rank() * len(asked)
    return F.cross_entropy(scores, own, reduction="none"), (scores.argmax(1) == own).to(scores.dtype).detach()
