"""MoCo v3: find the slow teacher's embedding of the same example among those of the batch.

Paper: Chen, Xie & He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021 (arXiv:2104.02057); objective:
its algorithm 1.

When it works: as SimCLR; vision transformers.
When it fails: near-duplicates in the data, which are pushed apart; tiny batches, which hold few negatives (moco-v2 keeps old ones).
What to watch: `accuracy`, how often the own key is the most similar of all.

Cost: SimCLR's, one forward more a view for the teacher, and twice the parameters.  Rows of the batch meet in the loss and no replay is
offered: accumulation is refused.

Scaled to the budget: batch 4096 -> 256; heads 4096-256 -> 512-128; the teacher's momentum starts at 0.95 where 0.99 counts on 300,000
steps; LARS -> AdamW.  The factor 2 tau before the loss is left out: AdamW does not see it.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, dist, encode
from ..losses import keyed_nce
from ..nets.heads import MLP
from ..nets.teacher import Teacher


class MoCoV3(Method):
    """A query finds its key, which a slow teacher made, among the keys of others."""

    family: ClassVar[str] = "contrastive"
    paper: ClassVar[str] = "Chen et al. 2021, An Empirical Study of Training Self-Supervised Vision Transformers"
    aliases: ClassVar[tuple[str, ...]] = ("moco",)
    needs: ClassVar[frozenset[str]] = frozenset({"augment"})
    couples_rows: ClassVar[bool] = True

    temperature: float = 0.1
    """Divides the cosines."""
    momentum: float = 0.95
    """How much of the teacher stays at each step, at the start; it rises to 1 over the run."""
    hidden: int = 512
    """Hidden width of projector and predictor."""
    width: int = 128
    """Output width of projector and predictor."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside projector and predictor."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={
                "batch": "4096 -> 256, because a short run needs steps",
                "momentum": f"0.99 -> {self.momentum:g}, because a short run has few steps for the teacher to follow in",
                "optimizer": "LARS -> AdamW, for this batch",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.hidden, self.width), norm=self.norm)
        self.predictor = MLP((self.width, self.hidden, self.width), norm=self.norm)
        self.teacher = Teacher(self._student(), start=self.momentum, statistics="batch")
        return self

    def _student(self) -> nn.Module:
        """What the teacher follows; the predictor is the student's alone."""
        return nn.Sequential(self.encoder, self.projector)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features = encode(self.encoder, batch.views)
        queries = self.predictor(self.projector(torch.cat(features))).chunk(2)
        with torch.no_grad():
            keys = encode(self.teacher, batch.views)
        pairs = [keyed_nce(q, k, temperature=self.temperature) for q, k in zip(queries, reversed(keys), strict=True)]
        (there, found), (back, again) = pairs
        chance = math.log(len(batch) * dist.world())
        return {
            "loss": (there + back) / 2, "accuracy": ((found + again) / 2).detach(), "baseline": there.new_tensor(chance),
            "features": features[0].detach(), "positives": features[1].detach(),
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.teacher.update(self._student(), progress)

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector, "predictor": self.predictor})
