"""SimCLR v2: SimCLR with a deeper projector, whose first layer stays with the encoder; then fine-tune, then distil on unlabelled data.

Paper: Chen, Kornblith, Swersky, Norouzi & Hinton, "Big Self-Supervised Models are Strong Semi-Supervised Learners", NeurIPS 2020 (arXiv:2006.10029); objective:
equation 1, fine-tuning from a middle layer of the projector: section 2, distillation: equation 2.

    selftaught pretrain PHOTOS --method simclr-v2 --out runs/big
    selftaught finetune runs/big LABELLED --out runs/teacher
    selftaught pretrain PHOTOS --method distil --teacher runs/teacher --out runs/student

The third gives a student that `selftaught predict runs/student` takes: taught on all photographs by a teacher that saw few labels.

When it works: as SimCLR; few labels and a fine-tuning to follow, for which the first layer of the projector is worth keeping; large networks.
When it fails: as SimCLR; a frozen read-out gains little from the kept layer (--kept none hands over the encoder alone); memory in short runs, whose old
embeddings come from a network that has moved on.
What to watch: as SimCLR: `accuracy`, how often the nearest other embedding is a view of the same row.

Cost: SimCLR's, and one hidden layer; with memory a forward more for one view, and rows x 2 x memory x width in the loss.  Accumulation is exact (embed, couple,
replay) where neither encoder nor projector has batch normalisation.

Scaled to the budget: ResNet-152 (3x, selective kernels) -> the modality's own encoder; projector 2048-2048-128 -> the encoder's width, 256 and 64; memory of 65,536
embeddings, which the paper finds worth 1 % -> none; batch 4096 -> 256, temperature 0.1, as in the paper; LARS -> AdamW.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, ViewSpec, dist, encode
from ..losses import info_nce
from ..nets.headed import Headed
from ..nets.heads import MLP, hidden_layer
from ..nets.queue import Queue
from ..nets.teacher import Teacher


class SimCLRv2(Method):
    """Contrastive learning with a deep projector, of which the first layer is kept."""

    family: ClassVar[str] = "contrastive"
    paper: ClassVar[str] = "Chen et al. 2020, Big Self-Supervised Models are Strong Semi-Supervised Learners"
    needs: ClassVar[frozenset[str]] = frozenset({"augment"})
    couples_rows: ClassVar[bool] = True
    commits: ClassVar[frozenset[str]] = frozenset({"keys"})

    temperature: float = 0.1
    """Divides the cosines."""
    hidden: int = 256
    """Width of the projector's second layer; the first is as wide as the encoder."""
    width: int = 64
    """Output width of the projector, where examples are compared."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside the projector.  Only without batch normalisation, here and in the encoder, can a step be accumulated."""
    kept: Literal["first", "none"] = "first"
    """How much of the projector is handed over with the encoder: its first layer, or nothing."""
    memory: int = 0
    """Old embeddings of a slowly following copy that stand beside the batch as negatives; 0 has none."""
    momentum: float = 0.95
    """How much of that copy stays at each step, at the start; it rises to 1 over the run."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256 if cpu else 512, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={
                "batch": f"4096 -> {256 if cpu else 512}, because a short run needs steps more than negatives",
                "projector": f"2048-2048-128 -> the encoder's width, {self.hidden} and {self.width}",
                "optimizer": "LARS at 6.4 -> AdamW, for this batch",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if self.memory < 0:
            raise RequestError(f"memory = {self.memory} is no number of embeddings.", "Give 0 or more.")
        self.encoder = encoder
        self.first = hidden_layer(encoder.dim, encoder.dim, norm=self.norm)
        self.projector = MLP((encoder.dim, self.hidden, self.width), norm=self.norm, last=self.norm != "none")
        self.teacher = Teacher(self._student(), start=self.momentum, statistics="batch") if self.memory else None
        self.old = Queue(self.memory, self.width) if self.memory else None
        return self

    def _student(self) -> nn.Module:
        return nn.Sequential(self.encoder, self.first, self.projector)

    def _project(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (2, B, D) of the first two views and embeddings (B, 2, P) of both; (B, 3, P) with the copy's of the first."""
        features = encode(self.encoder, batch.views)
        embedded = list(self.projector(self.first(torch.cat(features))).chunk(2))
        if self.teacher is not None:
            embedded.append(self.teacher(batch.views[0]))
        return torch.stack(features[:2]).detach(), torch.stack(embedded, 1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features, embedded = self._project(batch)
        return {**self.couple(embedded), "features": features[0], "positives": features[1]}

    def embed(self, batch: Batch) -> Tensor:
        return self._project(batch)[1]

    def couple(self, embedded: Tensor) -> dict[str, Tensor]:
        old = None if self.old is None else self.old.rows
        loss, accuracy = info_nce(embedded[:, :2], temperature=self.temperature, old=old)
        others = 2 * (len(embedded) * dist.world() - 1) + self.memory
        keys = {"keys": F.normalize(dist.gather_rows(embedded[:, 2].detach()), dim=-1)} if self.memory else {}
        return {
            "loss": loss, "accuracy": accuracy, "baseline": loss.new_tensor(math.log(1 + others)), **keys,
            "features": embedded[:, 0].detach(), "positives": embedded[:, 1].detach(),
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        if self.teacher is not None and self.old is not None:
            self.teacher.update(self._student(), progress)
            self.old.push(outputs.get("keys"))

    def keep(self) -> Kept:
        if self.kept == "none":
            return Kept(self.encoder, {"first": self.first, "projector": self.projector})
        whole = Headed(width=self.encoder.dim, norm=self.norm).join(self.encoder, self.first)
        return Kept(whole, {"projector": self.projector})
