"""SwAV: views of an example must agree on which of a set of learned prototypes it belongs to, with small crops beside large ones.

Paper: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020
(arXiv:2006.09882); objective: equations 1 and 2, Sinkhorn assignments: section 3.1, multi-crop: section 3.2.

When it works: photographs with one main subject, where a small crop still tells what it is; data that fall into groups.
When it fails: short runs (the first epochs give little beyond the untrained network); very small pictures (nothing is left of a
crop of a crop); far more prototypes than rows in a batch, so that an even assignment means nothing; strongly unequal groups, which the
even assignment cuts to pieces.
What to watch: `code_perplexity`, the number of prototypes that the batch's assignments use; near 1 the codes have collapsed.

Small batches: --queue 1024 keeps the projections of earlier rows, which take part in the assignments (and in nothing else), so that an even
assignment means something with more prototypes than a batch has rows.  They enter after a share of the run, once there are enough.

Cost: as SimCLR for the two large crops; a small crop of half the side costs a quarter of one.  Rows of the batch meet in the
assignments, and no replay is offered: accumulation is refused.

Scaled to the budget: 3000 prototypes and batch 4096 -> 64 and 256, so that each prototype has rows in every batch and no queue of old
features is needed (the paper: 3,840, from its 15th epoch of 200); epsilon 0.05 -> 0.03; 6 small crops -> 2; prototypes rest for the first 2 % of the steps (the paper's first epoch of 400-800); LARS -> AdamW.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, ViewSpec, dist, encode
from ..losses import sinkhorn, swapped_prediction
from ..nets.heads import MLP, Prototypes
from ..nets.queue import Queue


class SwAV(Method):
    """Swapped prediction of cluster assignments, with multi-crop."""

    family: ClassVar[str] = "clustering"
    paper: ClassVar[str] = (
        "Caron et al. 2020, Unsupervised Learning of Visual Features by Contrasting Cluster Assignments"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"augment", "local"})
    couples_rows: ClassVar[bool] = True
    commits: ClassVar[frozenset[str]] = frozenset({"projections"})

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
    queue: int = 0
    """Earlier rows, over all processes, that take part in the assignments; 0 has none."""
    queue_from: float = 0.1
    """Share of the run after which they do."""
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
        if self.queue < 0 or self.queue % dist.world():
            raise RequestError(
                f"queue = {self.queue} cannot be shared by {dist.world()} processes.",
                "Give a multiple of their number.",
            )
        if self.queue:
            self.earlier = Queue(self.queue, 2 * self.width)  # a row holds both large views
            self.register_buffer("stored", torch.zeros((), dtype=torch.int64))
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        views = batch.of("global") + batch.of("local")
        features = encode(self.encoder, views)
        projected = self.projector(torch.cat(features))
        scores = self.codebook(projected, resting=batch.progress < self.resting)
        cosines = list(scores.chunk(len(views)))
        assigned = [self._assign(c, old) for c, old in zip(cosines, self._old(batch.progress), strict=False)]
        loss = swapped_prediction(assigned, cosines, temperature=self.temperature)
        return {
            "loss": loss, "baseline": loss.new_tensor(math.log(self.prototypes)), "features": features[0].detach(), "positives": features[1].detach(),
            "code_perplexity": _perplexity(assigned[0]), "codes": loss.new_tensor(self.prototypes),
            **({"projections": dist.gather_rows(torch.cat(projected.detach().chunk(len(views))[:2], 1))} if self.queue else {}),
        }  # fmt: skip

    def nearness(self, batch: Batch) -> Tensor:
        return self.codebook(self.projector(self.encoder(batch.views[0])))

    def _assign(self, cosines: Tensor, old: Tensor | None) -> Tensor:
        """(B, K) codes of the batch's rows, worked out together with those of earlier rows where these take part."""
        both = cosines if old is None else torch.cat([cosines, self.codebook(old)])
        return sinkhorn(both, epsilon=self.epsilon, iterations=self.iterations)[: len(cosines)]

    def _old(self, progress: float) -> list[Tensor] | list[None]:
        """This process's share of the earlier projections of each large view, or nothing while there are not enough."""
        if not self.queue or progress < self.queue_from or int(self.get_buffer("stored")) < self.queue:
            return [None, None]
        return list(self.earlier.rows.chunk(dist.world())[dist.rank()].chunk(2, 1))

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        if self.queue and "projections" in outputs:
            self.earlier.push(outputs["projections"])
            stored = self.get_buffer("stored")
            stored.copy_((stored + len(outputs["projections"])).clamp_max(self.queue))

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector, "prototypes": self.codebook})


@torch.no_grad()
def _perplexity(assigned: Tensor) -> Tensor:
    """exp of the entropy of how often each prototype is the first choice, over all ranks: 1 to their number."""
    used = torch.bincount(assigned.argmax(1), minlength=assigned.shape[1])
    share = dist.total(used).to(assigned.dtype) / (len(assigned) * dist.world())
    return torch.special.entr(share).sum().exp()
