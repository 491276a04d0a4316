"""MoCo v2: find the slow teacher's embedding of the same example among a long queue of old ones.

Paper: Chen, Fan, Girshick & He, "Improved Baselines with Momentum Contrastive Learning", 2020 (arXiv:2003.04297), after He et al., "Momentum
Contrast for Unsupervised Visual Representation Learning", CVPR 2020 (arXiv:1911.05722); objective: its equation 1.

When it works: small batches, where the queue brings the negatives that the batch lacks.
When it fails: short runs with a long queue (old keys come from a network that has moved on); near-duplicates in the data, which are pushed apart.
What to watch: `accuracy`, how often the own key is more similar than every old one.

Cost: one view with gradient and one without: two thirds of SimCLR's, twice the parameters, and rows x queue x width in the loss.  Accumulation is refused:
the queue takes a whole step's keys at once.

Scaled to the budget: queue 65,536 -> 1,024; head 2048-128 -> 512-128; the teacher's momentum starts at 0.9 where 0.999 counts on a million
steps, and rises; SGD -> AdamW.  The paper shuffles rows between devices so that batch normalisation cannot tell the pair; here keys are normalised by running
statistics, which needs no devices.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, ViewSpec, dist
from ..losses import queued_nce
from ..nets.heads import MLP
from ..nets.queue import Queue
from ..nets.teacher import Teacher


class MoCoV2(Method):
    """A query finds its key, which a slow teacher made, among a queue of old keys."""

    family: ClassVar[str] = "contrastive"
    paper: ClassVar[str] = "Chen et al. 2020, Improved Baselines with Momentum Contrastive Learning"
    needs: ClassVar[frozenset[str]] = frozenset({"augment"})
    couples_rows: ClassVar[bool] = True
    commits: ClassVar[frozenset[str]] = frozenset({"keys"})

    temperature: float = 0.2
    """Divides the cosines."""
    momentum: float = 0.9
    """How much of the teacher stays at each step, at the start; it rises to 1 over the run."""
    queue: int = 1024
    """Old keys among which the own one is to be found."""
    hidden: int = 512
    """Hidden width of the projector."""
    width: int = 128
    """Output width of the projector."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside the projector; the paper has none, with which short runs learn little."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={
                "queue": f"65536 -> {self.queue}, so that it is filled early",
                "momentum": f"0.999 -> {self.momentum:g}, because a short run has few steps for the teacher to follow in",
                "optimizer": "SGD at 0.03 -> AdamW, for this batch",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if self.queue < 1:
            raise RequestError(
                f"queue = {self.queue} leaves no negatives.", "Give a number of old keys, or take moco-v3."
            )
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.hidden, self.width), norm=self.norm)
        # Keys take running statistics: a batch's own would tell its key from the queue's (the leak of He et al. 2020, section 3.3)
        self.teacher = Teacher(self._student(), start=self.momentum, statistics="copied")
        self.old = Queue(self.queue, self.width)
        return self

    def _student(self) -> nn.Module:
        return nn.Sequential(self.encoder, self.projector)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        asked, other = batch.views
        features = self.encoder(asked)
        with torch.no_grad():
            keys = F.normalize(self.teacher(other), dim=-1)
        loss, found = queued_nce(self.projector(features), keys, self.old.rows, temperature=self.temperature)
        return {
            "loss": loss, "accuracy": found.detach(), "baseline": loss.new_tensor(math.log(1 + self.queue)),
            "keys": dist.gather_rows(keys), "features": features.detach(),
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.teacher.update(self._student(), progress)
        self.old.push(outputs.get("keys"))

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector})
