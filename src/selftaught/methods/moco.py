"""MoCo: find the slow teacher's embedding of the same example among those of others, with a queue of old ones if wanted.

Paper: Chen, Xie & He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021 (arXiv:2104.02057), version 3: a
predictor, both ways, the keys of the batch; objective: its algorithm 1.  The queue (`queue` > 0): He et al., "Momentum Contrast for Unsupervised
Visual Representation Learning", CVPR 2020 (arXiv:1911.05722), and version 2 (arXiv:2003.04297).

When it works: as SimCLR; small batches, where the queue brings the negatives that the batch lacks; vision transformers.
When it fails: short runs with a long queue (old keys come from a network that has moved on); near-duplicates in the data, which are pushed apart.
What to watch: `accuracy`, how often the own key is the most similar of all.

Cost: SimCLR's, one forward more a view for the teacher, and twice the parameters.  Rows of the batch meet in the loss and no replay is
offered: accumulation is refused.

Scaled to the budget: batch 4096 -> 256 (version 3) and queue 65,536 -> 0; heads 4096-256 -> 512-128; the teacher's momentum starts at 0.95
where 0.99 counts on 300,000 steps; LARS -> AdamW.  The queue's negatives join those of the batch; the factor 2 tau before the loss is left out (AdamW
does not see it).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, dist, encode
from ..losses import keyed_nce
from ..nets.heads import MLP
from ..nets.queue import Queue
from ..nets.teacher import Teacher


class MoCo(Method):
    """A query finds its key, which a slow teacher made, among the keys of others."""

    family: ClassVar[str] = "contrastive"
    paper: ClassVar[str] = "Chen et al. 2021, An Empirical Study of Training Self-Supervised Vision Transformers"
    aliases: ClassVar[tuple[str, ...]] = ("moco-v3", "moco-v2")
    needs: ClassVar[frozenset[str]] = frozenset({"augment"})
    couples_rows: ClassVar[bool] = True
    commits: ClassVar[frozenset[str]] = frozenset({"keys"})

    temperature: float = 0.1
    """Divides the cosines."""
    momentum: float = 0.95
    """How much of the teacher stays at each step, at the start; it rises to 1 over the run."""
    queue: int = 0
    """Old keys that stand among the negatives (version 2: 65,536)."""
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
        self.old = Queue(self.queue, self.width)
        return self

    def _student(self) -> nn.Module:
        """What the teacher follows; the predictor is the student's alone."""
        return nn.Sequential(self.encoder, self.projector)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features = encode(self.encoder, batch.views)
        queries = self.predictor(self.projector(torch.cat(features))).chunk(2)
        with torch.no_grad():
            keys = [F.normalize(k, dim=-1) for k in encode(self.teacher, batch.views)]
        pairs = [
            keyed_nce(q, k, more=self.old.rows, temperature=self.temperature)
            for q, k in zip(queries, reversed(keys), strict=True)
        ]
        (there, found), (back, again) = pairs
        chance = math.log(len(batch) * dist.world() + self.queue)
        return {
            "loss": (there + back) / 2, "accuracy": ((found + again) / 2).detach(), "baseline": there.new_tensor(chance),
            "keys": dist.gather_rows(keys[0]), "features": features[0].detach(),
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.teacher.update(self._student(), progress)
        self.old.push(outputs.get("keys"))

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector, "predictor": self.predictor})
