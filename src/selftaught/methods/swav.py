"""SwAV: views of an example must agree on which of a set of learned prototypes it belongs to, with small crops beside large ones.

Paper: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020
(arXiv:2006.09882); objective: equations 1 and 2, Sinkhorn assignments: section 3.1, multi-crop: section 3.2.

When it works: photographs with one main subject, where a small crop still tells what it is; data that fall into groups.
When it fails: short runs (the first epochs give little beyond the untrained network); very small pictures (nothing is left of a
crop of a crop); far more prototypes than rows in a batch, so that an even assignment means nothing; strongly unequal groups, which the
even assignment cuts to pieces.
What to watch: `code_perplexity`, the number of prototypes that the batch's assignments use; near 1 the codes have collapsed.

Cost: as SimCLR for the two large crops; a small crop of half the side costs a quarter of one.  Rows of the batch meet in the
assignments, and no replay is offered: accumulation is refused.

Scaled to the budget: 3000 prototypes and batch 4096 -> 64 and 256, so that each prototype has rows in every batch and no queue of old
features is needed; epsilon 0.05 -> 0.03; 6 small crops -> 2; prototypes rest for the first 2 % of the steps (the paper's first epoch of 400-800); LARS -> AdamW.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.func import functional_call

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, dist, encode
from ..losses import sinkhorn, swapped_prediction
from ..nets.heads import MLP, Prototypes


class SwAV(Method):
    """Swapped prediction of cluster assignments, with multi-crop."""

    family: ClassVar[str] = "clustering"
    paper: ClassVar[str] = (
        "Caron et al. 2020, Unsupervised Learning of Visual Features by Contrasting Cluster Assignments"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"augment", "local"})
    couples_rows: ClassVar[bool] = True

    prototypes: int = 64
    """Number of prototypes; at most about the rows of a batch."""
    crops: int = 2
    """Small crops of each example, beside the two large ones."""
    temperature: float = 0.1
    """Divides the cosines of the prediction."""
    epsilon: float = 0.03
    """Smoothness of the assignments: lower makes them harder."""
    iterations: int = 3
    """Sinkhorn iterations."""
    resting: float = 0.02
    """Share of the run, at its start, during which the prototypes stay where they were drawn."""
    hidden: int = 256
    """Hidden width of the projector."""
    width: int = 64
    """Output width of the projector."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=3e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={
                "batch": "4096 -> 256, because a short run needs steps",
                "prototypes": f"3000 -> {self.prototypes}, several rows of the batch to each, so that no queue is needed",
                "crops": f"6 small crops -> {self.crops}",
                "optimizer": "LARS at 4.8 -> AdamW, for this batch",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        large = [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]
        return large + [ViewSpec(facts.modality.local(facts), role="local") for _ in range(self.crops)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.hidden, self.width))
        self.codebook = Prototypes(self.width, self.prototypes)
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        views = batch.of("global") + batch.of("local")
        features = encode(self.encoder, views)
        weight: Tensor = self.codebook.weight
        if (
            batch.progress < self.resting
        ):  # a gradient of zero, not none: data-parallel training waits for every parameter's
            weight = weight.detach() + 0 * weight
        scores = functional_call(self.codebook, {"weight": weight}, (self.projector(torch.cat(features)),))
        cosines = list(scores.chunk(len(views)))
        assigned = [
            sinkhorn(c, epsilon=self.epsilon, iterations=self.iterations) for c in cosines[: len(batch.of("global"))]
        ]
        loss = swapped_prediction(assigned, cosines, temperature=self.temperature)
        return {
            "loss": loss, "baseline": loss.new_tensor(math.log(self.prototypes)), "features": features[0].detach(),
            "code_perplexity": _perplexity(assigned[0]), "codes": loss.new_tensor(self.prototypes),
        }  # fmt: skip

    def nearness(self, batch: Batch) -> Tensor:
        return self.codebook(self.projector(self.encoder(batch.views[0])))

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector, "prototypes": self.codebook})


@torch.no_grad()
def _perplexity(assigned: Tensor) -> Tensor:
    """exp of the entropy of how often each prototype is the first choice, over all ranks: 1 to their number."""
    used = torch.bincount(assigned.argmax(1), minlength=assigned.shape[1])
    share = dist.total(used).to(assigned.dtype) / (len(assigned) * dist.world())
    return torch.special.entr(share).sum().exp()
