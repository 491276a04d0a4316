"""BYOL: predict, from one view, what a slowly following copy of the network says of another; no negatives.

Paper: Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020 (arXiv:2006.07733); objective: equation 2, both ways.

When it works: as SimCLR, with less need of a large batch and less harm from near-duplicates, because no example is pushed away; long runs.
When it fails: short runs (the teacher must first become worth following: expect SimCLR to lead for the first minutes); a learning
rate or a momentum that lets teacher and student agree on a constant.  Nothing in the loss forbids collapse: batch normalisation in
the projector, the predictor and the slow teacher keep it away, so watch the effective rank; a loss near 0 within a few steps is a
collapse, not a success.

Cost: SimCLR's, and one forward more a view for the teacher; twice the parameters in memory.  Loss runs from 0 (same direction) to 8.

The teacher: parameters follow as an exponential moving average after every applied step; buffers are copied; its batch normalisation
uses the statistics of its own batch, as in the paper.  Accumulation over micro-batches is refused while batch normalisation trains.

Scaled to the budget: batch 4096 -> 256; projector and predictor 4096-256 -> 512-128; the teacher's momentum starts at 0.99 where
the paper's 0.996 counts on 300,000 steps; LARS -> AdamW.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, encode
from ..losses import mean, negative_cosine
from ..nets.heads import MLP
from ..nets.teacher import Teacher


class BYOL(Method):
    """A student predicts a slowly following teacher's view of the same example."""

    family: ClassVar[str] = "distillation"
    paper: ClassVar[str] = "Grill et al. 2020, Bootstrap Your Own Latent"
    needs: ClassVar[frozenset[str]] = frozenset({"augment"})

    momentum: float = 0.99
    """How much of the teacher stays at each step, at the start; it rises to 1 over the run."""
    hidden: int = 512
    """Hidden width of projector and predictor."""
    width: int = 128
    """Output width of projector and predictor."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside projector and predictor.  Without it BYOL collapses easily; "layer" allows accumulation."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={
                "batch": "4096 -> 256, because a short run needs steps",
                "momentum": f"0.996 -> {self.momentum:g}, because a short run has few steps for the teacher to follow in",
                "optimizer": "LARS at 3.2 -> AdamW, for this batch",
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
        predicted = [self.predictor(self.projector(f)) for f in features]
        with torch.no_grad():
            wanted = encode(self.teacher, batch.views)
        there, back = (2 + 2 * negative_cosine(p, w) for p, w in zip(predicted, reversed(wanted), strict=True))
        return {
            "loss": mean(there + back, batch.total),
            "features": features[0].detach(),
            "positives": features[1].detach(),
        }

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.teacher.update(self._student(), progress)

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector, "predictor": self.predictor})
