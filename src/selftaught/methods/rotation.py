"""Rotation: tell by which of four quarter turns a picture was turned.

Paper: Gidaris, Singh & Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018
(arXiv:1803.07728); objective: equations 2 and 3, all four turns of every picture in the batch.

When it works: pictures of things that stand upright (animals, vehicles, letters); small networks and short runs; a loss that anyone
can read: accuracy 0.25 is chance.
When it fails: pictures without an upright (satellites, microscopes, textures, round things): accuracy stays near 0.25 and
nothing is learned; pictures with tell-tale borders or captions, by which the turn is read off without looking at the rest: `margin` cuts
the rim off (quarter turns themselves leave no trace: no pixel is resampled).  It learns what tells a direction and little else, so contrastive methods usually transfer better.

Cost: four forwards and backwards a picture, of one view.

Scaled to the budget: batch 128 pictures (512 turned ones) -> 64, because a short run needs steps; SGD at 0.1 for 100 epochs ->
AdamW with a cosine.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Sheet, ViewSpec, encode
from ..losses import logged, mean, per_token
from ..nets.heads import Linear
from ..views import Compose, Trim

TURNS = 4


class Rotation(Method):
    """Predicts the quarter turn of a picture."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = "Gidaris et al. 2018, Unsupervised Representation Learning by Predicting Image Rotations"
    aliases: ClassVar[tuple[str, ...]] = ("rotnet",)
    needs: ClassVar[frozenset[str]] = frozenset({"turn"})

    margin: float = 0.03
    """Share of each side that is cut off every rim before anything else: frames and scan lines would tell the turn."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 128, optimizer="adamw", lr=1e-3, weight_decay=1e-2,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={
                "batch": f"128 -> {64 if cpu else 128} pictures, each in four turns",
                "optimizer": "SGD at 0.1 -> AdamW at 0.001",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(Compose((Trim(self.margin), facts.modality.mild(facts))))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if not 0 <= self.margin < 0.5:
            raise RequestError(f"margin = {self.margin} is no rim.", "Give 0 to below 0.5.")
        self.encoder = encoder
        self.modality = facts.modality
        self.head = Linear(encoder.dim, TURNS)
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        turned = [self.modality.turn(view, quarters) for quarters in range(TURNS)]
        features = encode(self.encoder, turned)
        logits = self.head(torch.cat(features))
        wanted = torch.arange(TURNS, device=logits.device).repeat_interleave(len(batch))
        per_row = per_token(logits, wanted, True).view(TURNS, -1).mean(0)
        right = (logits.argmax(1) == wanted).float().view(TURNS, -1).mean(0)
        return {
            "loss": mean(per_row, batch.total), "accuracy": logged(right),
            "baseline": per_row.new_tensor(math.log(TURNS)), "features": features[0].detach(),
        }  # fmt: skip

    def show(self, batch: Batch) -> list[Sheet]:
        (view,) = batch.views
        truth = torch.arange(len(batch), device=view.device) % TURNS
        turned = self.modality.turn(view, truth)
        guess = self.head(self.encoder(turned)).argmax(1)
        words = [f"{90 * t}, said {90 * g}" for t, g in zip(truth.tolist(), guess.tolist(), strict=True)]
        return [Sheet(
            "turns", "Which way is up?", "Left: the picture as it was turned, by how many degrees, and what it said; right: turned back by what it said.",
            {"turned": turned, "turned back": self.modality.turn(turned, -guess % TURNS)}, {"turned": words}, {"turned": guess == truth},
        )]  # fmt: skip

    def keep(self) -> Kept:
        return Kept(self.encoder, {"head": self.head})
