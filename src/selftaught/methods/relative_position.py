"""Relative position: where does this tile lie, seen from the middle one?

Paper: Doersch, Gupta & Efros, "Unsupervised Visual Representation Learning by Context Prediction", ICCV 2015 (arXiv:1505.05192).

When it works: photographs of things with parts in a usual order (a face, a car), upright.
When it fails: textures, top views, microscopy: no part has a place; pictures so small that a tile shows nothing (under about 32 pixels).  The task is
solved by features of the middle of the network: probe every layer (`selftaught evaluate --layer all`).  With
`colour` drop, the default, the encoder sees no colours in training: where colour is the class, take jitter.
What to watch: `accuracy`, of eight answers.  High within a few steps is a shortcut, not understanding.

Cost: nine tiles of about a quarter of a cell-free third each: less than one whole picture a row.  Rows do not meet in the loss: micro-batches add up where nothing is
normalised over the batch.

Scaled to the budget: all eight neighbours of each middle tile at once, where the paper draws one; 96-pixel tiles -> 85 % of a third of the side; SGD -> AdamW.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Draw, Duration, Encoder, Facts, Kept, Method, Recipe, Sheet, View, ViewSpec, encode
from ..losses import logged, mean, per_token
from ..nets.heads import MLP

GRID, MIDDLE = 3, 4
PLACES = ("upper left", "above", "upper right", "left", "right", "lower left", "below", "lower right")


class RelativePosition(Method):
    """Predicts on which side of the middle tile another tile lies."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = "Doersch et al. 2015, Unsupervised Visual Representation Learning by Context Prediction"
    aliases: ClassVar[tuple[str, ...]] = ("context-prediction",)
    needs: ClassVar[frozenset[str]] = frozenset({"tiles"})

    hidden: int = 512
    """Hidden width of the classifier of a pair."""
    norm: Literal["batch", "layer", "none"] = "none"
    """Normalisation inside the classifier."""

    colour: Literal["drop", "project", "jitter", "keep"] = "drop"
    """How the colour fringes of a lens, which tell a place, are hidden: one channel drawn for each tile; no green-magenta; channels shifted at
    random and some rows grey (weaker); not at all."""
    reveal: tuple[Literal["border", "brightness", "blocks"], ...] = ()
    """Shortcuts that are left open: tiles without a gap, slow changes of brightness, JPEG's grid and the lens's softness."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128, optimizer="adamw", lr=1e-3, weight_decay=1e-2,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"pairs": "one of eight neighbours -> all eight", "optimizer": "SGD -> AdamW at 0.001"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.plain(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder, self.modality = encoder, facts.modality
        self.head = MLP((2 * encoder.dim, self.hidden, GRID * GRID - 1), norm=self.norm)
        return self

    def _tiles(self, view: View, draw: Draw) -> list[View]:
        return self.modality.tiles(view, GRID, draw, colour=self.colour, reveal=self.reveal)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        features = encode(self.encoder, self._tiles(view, batch.draw()))
        others = [f for n, f in enumerate(features) if n != MIDDLE]
        logits = self.head(torch.cat([torch.cat([features[MIDDLE], f], 1) for f in others]))
        wanted = torch.arange(len(others), device=logits.device).repeat_interleave(len(batch))
        per_row = per_token(logits, wanted, True).view(len(others), -1).mean(0)
        right = (logits.argmax(1) == wanted).to(per_row.dtype).view(len(others), -1).mean(0)
        return {
            "loss": mean(per_row, batch.total), "accuracy": logged(right),
            "baseline": per_row.new_tensor(math.log(len(others))), "features": features[MIDDLE].detach(),
        }  # fmt: skip

    def show(self, batch: Batch) -> list[Sheet]:
        tiles = self._tiles(batch.views[0], batch.draw())
        rows = torch.arange(len(batch), device=batch.index.device)
        truth = rows % len(PLACES)
        middle, held = tiles[MIDDLE], View.cat([t for n, t in enumerate(tiles) if n != MIDDLE])
        other = held.take(truth * len(batch) + rows)
        guess = self.head(torch.cat(encode(self.encoder, [middle, other]), 1)).argmax(1)
        said, lies = (self.modality.together(_pair(middle, other, place), GRID) for place in (guess, truth))
        caption = "It was told of the middle tile and had to say where the other belongs (tiles are evened out in brightness, in one colour)."
        columns = {"where it said": said, "where it lies": lies, "picture": batch.views[0]}
        words = {"where it said": [PLACES[n] for n in guess.tolist()]}
        return [Sheet("places", "Where does it belong?", caption, columns, words, {"where it said": guess == truth})]

    def keep(self) -> Kept:
        return Kept(self.encoder, {"head": self.head})


def _pair(middle: View, other: View, place: Tensor) -> list[View]:
    """Nine tiles of which two are there: the middle one, and the other at `place` (B,), 0 to 7 around it."""
    tiles = []
    for number in range(GRID * GRID - 1):
        elsewhere = place != number
        shown = {k: other[k].masked_fill(elsewhere.view(-1, *[1] * (other[k].ndim - 1)), math.nan) for k in other.parts}
        tiles.append(other.with_parts(**shown))
    return [*tiles[:MIDDLE], middle, *tiles[MIDDLE:]]
