"""NNCLR: an example's positive is its nearest neighbour among earlier examples, so that positives differ by more than a view.

Paper: Dwibedi et al., "With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual Representations",
ICCV 2021 (arXiv:2104.14548); objective: equation 3, both ways.

When it works: where views alone are too easy or too poor (weak augmentation, one look of each thing); data with several examples of everything.
When it fails: short runs (early neighbours are strangers: expect SimCLR to lead for the first minutes); a support set that holds few of what a row could be.
What to watch: `accuracy`, how often the neighbour finds its own row's prediction first.

Cost: SimCLR's, and a search among the support set: rows x `support` x width.  Rows of the batch meet in the loss and no replay is
offered: accumulation is refused.

Scaled to the budget: batch 4096 -> 256; support 98,304 -> 8,192; heads 2048-2048-256 -> 512-128; LARS -> AdamW.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, ViewSpec, dist, encode
from ..losses import full_precision, keyed_nce
from ..nets.heads import MLP
from ..nets.queue import Queue


class NNCLR(Method):
    """Contrastive learning with the nearest neighbour of a view in the place of the view."""

    family: ClassVar[str] = "contrastive"
    paper: ClassVar[str] = "Dwibedi et al. 2021, With a Little Help from My Friends"
    needs: ClassVar[frozenset[str]] = frozenset({"augment"})
    couples_rows: ClassVar[bool] = True
    commits: ClassVar[frozenset[str]] = frozenset({"support"})

    temperature: float = 0.1
    """Divides the cosines."""
    support: int = 8192
    """Earlier rows among which neighbours are looked for."""
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
                "support": f"98304 -> {self.support}, so that it is filled early",
                "optimizer": "LARS -> AdamW, for this batch",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if self.support < 1:
            raise RequestError(f"support = {self.support} leaves no neighbours.", "Give a number of earlier rows.")
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.hidden, self.width), norm=self.norm)
        self.predictor = MLP((self.width, self.hidden, self.width), norm=self.norm)
        self.earlier = Queue(self.support, self.width)
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features = encode(self.encoder, batch.views)
        embedded = self.projector(torch.cat(features))
        predicted = self.predictor(embedded).chunk(2)
        friends = [_nearest(z, self.earlier.rows) for z in embedded.detach().chunk(2)]
        pairs = [
            keyed_nce(friend, p, temperature=self.temperature)
            for friend, p in zip(friends, reversed(predicted), strict=True)
        ]
        (there, found), (back, again) = pairs
        return {
            "loss": (there + back) / 2, "accuracy": ((found + again) / 2).detach(),
            "baseline": there.new_tensor(math.log(len(batch) * dist.world())),
            "support": dist.gather_rows(F.normalize(embedded.detach().chunk(2)[0], dim=-1)), "features": features[0].detach(), "positives": features[1].detach(),
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.earlier.push(outputs.get("support"))

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector, "predictor": self.predictor})


@torch.no_grad()
@full_precision
def _nearest(rows: Tensor, support: Tensor) -> Tensor:
    """(B, P) the row of `support` (unit length) with the largest cosine to each of `rows`."""
    return support[(F.normalize(rows, dim=-1) @ support.to(rows.dtype).T).argmax(1)].to(rows.dtype)
