"""DINO: match a slow teacher's soft classes of the large views in every other view; centring and a low temperature keep it from collapse.

Paper: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021 (arXiv:2104.14294); objective:
equation 3, centring: equation 4.

When it works: photographs with one main subject; vision transformers, whose attention then parts thing from ground; long runs.
When it fails: short runs and small data with the paper's 65,536 classes; a teacher that is too sharp early (collapse to one class) or never sharpened (collapse
to all alike).
What to watch: `code_perplexity`, the number of classes that the teacher uses over the batch: 1 is the first collapse, all of `prototypes` with a flat
loss at ln(prototypes) the second.

Cost: that of its views, and the teacher's forward of the two large ones; twice the parameters.  Accumulation is refused while batch normalisation trains.

Scaled to the budget: batch 1024 -> 256; 65,536 classes -> 128; head 2048-2048-256 -> 512-512-128; 8 small crops -> none, which buys steps (--crops 2 and more for long runs); the teacher's
momentum starts at 0.9 where 0.996 counts on 125,000 steps, and its temperature stays at 0.02 where the paper's rises from 0.04 to 0.07: in a
few hundred steps the teacher else never sharpens.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, dist, encode
from ..losses import perplexity, swapped_prediction
from ..nets.heads import MLP, Prototypes
from ..nets.teacher import Teacher


class DINO(Method):
    """Self-distillation without labels, with multi-crop."""

    family: ClassVar[str] = "distillation"
    paper: ClassVar[str] = "Caron et al. 2021, Emerging Properties in Self-Supervised Vision Transformers"
    needs: ClassVar[frozenset[str]] = frozenset({"augment", "local"})
    commits: ClassVar[frozenset[str]] = frozenset({"centre"})

    prototypes: int = 128
    """Number of soft classes."""
    crops: int = 0
    """Small crops of each example, beside the two large ones; the paper has 8."""
    temperature: float = 0.1
    """Divides the student's scores."""
    cold: float = 0.02
    """Divides the teacher's scores at the start."""
    warm: float = 0.02
    """Divides the teacher's scores after a tenth of the run."""
    momentum: float = 0.9
    """How much of the teacher stays at each step, at the start; it rises to 1 over the run."""
    inertia: float = 0.9
    """How much of the centre stays at each step."""
    hidden: int = 512
    """Hidden width of the projector."""
    width: int = 128
    """Output width of the projector, where classes are compared."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside the projector; the paper has none for vision transformers."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=1e-3, weight_decay=0.04, betas=(0.9, 0.98), clip=3.0,
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={
                "batch": "1024 -> 256, because a short run needs steps",
                "prototypes": f"65536 -> {self.prototypes}, for small data",
                "momentum": f"0.996 -> {self.momentum:g}, because a short run has few steps for the teacher to follow in",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        large = [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]
        return large + [ViewSpec(facts.modality.local(facts), role="local") for _ in range(self.crops)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.hidden, self.hidden, self.width), norm=self.norm)
        self.codebook = Prototypes(self.width, self.prototypes)
        self.teacher = Teacher(self._student(), start=self.momentum, statistics="batch")
        self.register_buffer("centre", torch.zeros(self.prototypes))
        return self

    def _student(self) -> nn.Module:
        return nn.Sequential(self.encoder, self.projector, self.codebook)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        large, small = batch.of("global"), batch.of("local")
        features = encode(self.encoder, large + small)
        scores = list(self.codebook(self.projector(torch.cat(features))).chunk(len(features)))
        centre, share = self.get_buffer("centre"), min(1.0, batch.progress / 0.1)
        with torch.no_grad():
            taught = encode(self.teacher, large)
            sharp = self.cold + (self.warm - self.cold) * share
            wanted = [((t - centre.to(t.dtype)) / sharp).softmax(1) for t in taught]
            rows = (
                dist.total(torch.tensor(len(batch), device=batch.index.device)) if batch.total is None else batch.total
            )
            middle = dist.total(torch.stack(taught).mean(0).sum(0)) / rows
        loss = swapped_prediction(wanted, scores, temperature=self.temperature, total=batch.total)
        return {
            "loss": loss, "baseline": loss.new_tensor(math.log(self.prototypes)), "centre": middle,
            "code_perplexity": perplexity(wanted[0]), "codes": loss.new_tensor(self.prototypes), "features": features[0].detach(), "positives": features[1].detach(),
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.teacher.update(self._student(), progress)
        if "centre" in outputs:
            centre = self.get_buffer("centre")
            centre.lerp_(outputs["centre"].to(centre.dtype), 1 - self.inertia)

    def nearness(self, batch: Batch) -> Tensor:
        return self.codebook(self.projector(self.encoder(batch.views[0])))

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector, "prototypes": self.codebook})
