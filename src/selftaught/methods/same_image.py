"""Same image or not: do two tiles come from one picture?

Paper: the question of Doersch et al., "Unsupervised Visual Representation Learning by Context Prediction", ICCV 2015 (arXiv:1505.05192), put
as in Isola et al., "Learning Visual Groups from Co-occurrences in Space and Time", ICLR 2016 workshop (arXiv:1511.06811): co-occurrence as a yes or no.

When it works: scenes and materials, where any part tells of the whole; also top views and microscopy, because no direction counts.
When it fails: pictures that are all of one kind (every pair looks alike); lighting that is constant within a picture and differs between them answers
the question, so each tile's brightness and contrast are taken out.
What to watch: `accuracy`, of two answers, with as many yes as no.

Cost: four tiles of a row, each less than a quarter of the picture.  Rows of the batch meet in the loss and no replay is offered: accumulation is refused.

Scaled to the budget: every other row of the batch answers no, weighed down to as much as the yes; the paper draws one.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Sheet, ViewSpec, dist, encode
from ..losses import same_or_not
from ..nets.heads import Linear

GRID = 2


class SameImage(Method):
    """Tells whether two tiles come from the same picture."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = "Isola et al. 2016, Learning Visual Groups from Co-occurrences in Space and Time"
    needs: ClassVar[frozenset[str]] = frozenset({"tiles"})
    couples_rows: ClassVar[bool] = True

    width: int = 128
    """Width in which tiles are compared."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128, optimizer="adamw", lr=1e-3, weight_decay=1e-2,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"pairs": "one other picture -> all others of the batch"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.plain(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder, self.modality = encoder, facts.modality
        self.asked, self.other = Linear(encoder.dim, self.width), Linear(encoder.dim, self.width)
        self.bias = torch.nn.Parameter(torch.zeros(()))
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        features = encode(self.encoder, self.modality.tiles(view, GRID, batch.draw(), colour="jitter"))
        if len(batch) * dist.world() < 2:
            raise RequestError("same-image needs two rows in a batch at least.", "Give a larger batch.")
        pairs = [(n, (n + 1) % len(features)) for n in range(len(features))]
        found = [same_or_not(self.asked(features[a]), self.other(features[b]), self.bias) for a, b in pairs]
        loss, right = (torch.stack(column).mean() for column in zip(*found, strict=True))
        return {
            "loss": loss, "accuracy": right.detach(), "baseline": loss.new_tensor(math.log(2)),
            "features": features[0].detach(),
        }  # fmt: skip

    def show(self, batch: Batch) -> list[Sheet]:
        tiles = self.modality.tiles(batch.views[0], GRID, batch.draw(), colour="jitter")
        rows = torch.arange(len(batch), device=batch.index.device)
        same = rows % 2 == 0
        one, other = tiles[0], tiles[1].take(torch.where(same, rows, rows.roll(1)))
        first, second = self.asked(self.encoder(one)), self.other(self.encoder(other))
        said = (first * second).sum(1) / math.sqrt(first.shape[1]) + self.bias > 0
        words = [
            f"{'same' if s else 'other'}, said {'same' if g else 'other'}"
            for s, g in zip(same.tolist(), said.tolist(), strict=True)
        ]
        about = "Two tiles: of the same picture, or of two? Under the second, what is true and what it said."
        columns = {"one tile": one, "another": other}
        return [Sheet("pairs", "Same picture or not?", about, columns, {"another": words}, {"another": said == same})]

    def keep(self) -> Kept:
        return Kept(self.encoder, {"asked": self.asked, "other": self.other})
