"""Relative position: where does this tile lie, seen from the middle one?

Paper: Doersch, Gupta & Efros, "Unsupervised Visual Representation Learning by Context Prediction", ICCV 2015 (arXiv:1505.05192).

When it works: photographs of things with parts in a usual order (a face, a car), upright.
When it fails: textures, top views, microscopy: no part has a place; pictures so small that a tile shows nothing (under about 32 pixels).  The task is
solved by features of the middle of the network: probe every layer (`selftaught evaluate --layer all`).  With
`colour` drop, the default, the encoder sees no colours in training: where colour is the class, take jitter.
What to watch: `accuracy`, of eight answers.  High within a few steps is a shortcut, not understanding.

Cost: nine tiles of about a quarter of a cell-free third each: less than one whole picture a row.  Rows do not meet in the loss: micro-batches add up where nothing is
normalised over the batch.

Scaled to the budget: all eight neighbours of each middle tile at once (of four tiles all pairs), where the paper draws one; 96-pixel tiles -> 85 % of a third of the side; SGD -> AdamW.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Draw, Duration, Encoder, Facts, Kept, Method, Recipe, Sheet, View, ViewSpec, encode
from ..losses import logged, mean, per_token
from ..nets.heads import MLP
from ..views import usual_grid

PLACES = ("upper left", "above", "upper right", "left", "right", "lower left", "below", "lower right")


class RelativePosition(Method):
    """Predicts on which side of the middle tile another tile lies."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = "Doersch et al. 2015, Unsupervised Visual Representation Learning by Context Prediction"
    aliases: ClassVar[tuple[str, ...]] = ("context-prediction",)
    needs: ClassVar[frozenset[str]] = frozenset({"tiles"})

    grid: int = 0
    """Tiles a side; 0 takes 3, and 2 where pictures have under 48 pixels."""
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
        self.across = self.grid or usual_grid(facts.modality.side)
        self.pairs = pairs_of(self.across)
        self.head = MLP((2 * encoder.dim, self.hidden, len(PLACES)), norm=self.norm)
        return self

    def _tiles(self, view: View, draw: Draw) -> list[View]:
        return self.modality.tiles(view, self.across, draw, colour=self.colour, reveal=self.reveal)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        features = encode(self.encoder, self._tiles(view, batch.draw()))
        logits = self.head(torch.cat([torch.cat([features[a], features[b]], 1) for a, b, _ in self.pairs]))
        places = torch.tensor([place for _, _, place in self.pairs], device=logits.device)
        wanted = places.repeat_interleave(len(batch))
        per_row = per_token(logits, wanted, True).view(len(places), -1).mean(0)
        right = (logits.argmax(1) == wanted).to(per_row.dtype).view(len(places), -1).mean(0)
        shares = torch.bincount(places).to(per_row.dtype) / len(places)
        return {
            "loss": mean(per_row, batch.total), "accuracy": logged(right), "baseline": torch.special.entr(shares).sum(),
            "features": features[0].detach(),
        }  # fmt: skip

    def show(self, batch: Batch) -> list[Sheet]:
        held = View.cat(self._tiles(batch.views[0], batch.draw()))
        rows = torch.arange(len(batch), device=batch.index.device)
        a, b, truth = torch.tensor(self.pairs, device=rows.device)[rows % len(self.pairs)].T
        one, other = (held.take(n * len(batch) + rows) for n in (a, b))
        guess = self.head(torch.cat(encode(self.encoder, [one, other]), 1)).argmax(1)
        said, lies = (self.modality.together(_pair(one, other, place), 3) for place in (guess, truth))
        caption = "It was told of the middle tile and had to say where the other belongs (tiles are evened out in brightness and colour)."
        columns = {"where it said": said, "where it lies": lies, "picture": batch.views[0]}
        words = {"where it said": [PLACES[n] for n in guess.tolist()]}
        return [Sheet("places", "Where does it belong?", caption, columns, words, {"where it said": guess == truth})]

    def keep(self) -> Kept:
        return Kept(self.encoder, {"head": self.head})


def pairs_of(grid: int) -> list[tuple[int, int, int]]:
    """(tile, other, place of the other seen from it) of tiles in row order: the middle one of nine with each neighbour, else all
    pairs of neighbours in both directions."""
    found = []
    for a in range(grid * grid):
        for b in range(grid * grid):
            down, across = b // grid - a // grid, b % grid - a % grid
            if a != b and max(abs(down), abs(across)) == 1 and (grid != 3 or a == 4):
                number = 3 * (down + 1) + across + 1
                found.append((a, b, number - (number > 4)))
    return found


def _pair(middle: View, other: View, place: Tensor) -> list[View]:
    """Nine tiles of which two are there: the middle one, and the other at `place` (B,), 0 to 7 around it."""
    tiles = []
    for number in range(len(PLACES)):
        elsewhere = place != number
        shown = {k: other[k].masked_fill(elsewhere.view(-1, *[1] * (other[k].ndim - 1)), math.nan) for k in other.parts}
        tiles.append(other.with_parts(**shown))
    return [*tiles[:4], middle, *tiles[4:]]
