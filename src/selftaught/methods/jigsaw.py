"""Jigsaw: in which order were the tiles of the picture shuffled?

Paper: Noroozi & Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", ECCV 2016 (arXiv:1603.09246).

When it works: photographs of things with parts in a usual order, upright; the whole arrangement says more than one pair (relative-position).
When it fails: textures, top views, microscopy; pictures so small that a tile shows nothing (under about 32 pixels).  The task is solved by features of
the middle of the network: probe every layer (`selftaught evaluate --layer all`).  With
`colour` drop, the default, the encoder sees no colours in training: where colour is the class, take jitter.
What to watch: `accuracy`, of `orders` answers.  High within a few steps is a shortcut, not understanding.

Cost: nine (four) tiles a row: less than one whole picture.  Rows do not meet in the loss: micro-batches add up where nothing is normalised over the batch.

Scaled to the budget: 1000 orders -> 64, far apart from one another as in the paper; 64-pixel tiles -> 85 % of a third of the side, and four tiles where pictures are small; SGD -> AdamW.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import (  # fmt: skip
    Batch,
    Draw,
    Duration,
    Encoder,
    Facts,
    Kept,
    Method,
    Recipe,
    RequestError,
    Sheet,
    View,
    ViewSpec,
    encode,
    random,
)
from ..losses import logged, mean, per_token
from ..nets.heads import MLP
from ..views import usual_grid

DRAWN = 2000  # permutations among which the next is chosen


class Jigsaw(Method):
    """Predicts the order in which tiles were shuffled, out of a fixed set of orders."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = "Noroozi & Favaro 2016, Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles"  # fmt: skip
    needs: ClassVar[frozenset[str]] = frozenset({"tiles"})

    grid: int = 0
    """Tiles a side; 0 takes 3, and 2 where pictures have under 48 pixels."""
    orders: int = 64
    """Number of orders to tell apart, where there are so many (24 of 2 x 2 tiles)."""
    part: int = 64
    """Width to which each tile's representation is brought before all nine are joined."""
    hidden: int = 512
    """Hidden width of the classifier."""
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
            scaled={"orders": f"1000 -> {self.orders}", "optimizer": "SGD -> AdamW at 0.001"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.plain(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if not 2 <= self.orders <= DRAWN:
            raise RequestError(f"orders = {self.orders} is no puzzle.", f"Give 2 to {DRAWN}.")
        self.encoder, self.modality = encoder, facts.modality
        self.across = self.grid or usual_grid(facts.modality.side)
        order = far_apart(self.orders, self.across**2)
        self.narrow = MLP((encoder.dim, self.part), norm="none")
        self.head = MLP((self.across**2 * self.part, self.hidden, len(order)), norm=self.norm)
        self.register_buffer("order", order, persistent=False)
        return self

    def _tiles(self, view: View, draw: Draw) -> list[View]:
        return self.modality.tiles(view, self.across, draw, colour=self.colour, reveal=self.reveal)

    def _guess(self, batch: Batch, tiles: list[View]) -> tuple[list[Tensor], Tensor, Tensor]:
        """Each tile's features, the scores (B, orders), and which order it was."""
        features = encode(self.encoder, tiles)
        parts = self.narrow(torch.cat(features)).unflatten(0, (self.across**2, -1)).transpose(0, 1)  # (B, tiles, part)
        orders = self.get_buffer("order")
        wanted = batch.draw().integers("order", len(orders))
        order = orders[wanted]
        return features, self.head(parts.gather(1, order[..., None].expand_as(parts)).flatten(1)), wanted

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        features, logits, wanted = self._guess(batch, self._tiles(view, batch.draw()))
        per_row = per_token(logits, wanted, True)
        right = (logits.argmax(1) == wanted).to(per_row.dtype)
        return {
            "loss": mean(per_row, batch.total), "accuracy": logged(right),
            "baseline": per_row.new_tensor(math.log(len(self.get_buffer("order")))), "features": features[0].detach(),
        }  # fmt: skip

    def show(self, batch: Batch) -> list[Sheet]:
        (view,) = batch.views
        tiles = self._tiles(view, batch.draw())
        _, logits, wanted = self._guess(batch, tiles)
        order, guess = (self.get_buffer("order")[n] for n in (wanted, logits.argmax(1)))
        back = order.gather(1, guess.argsort(1))  # the shuffled tile at p goes to the place that the guess names
        put = (in_order(tiles, order), in_order(tiles, back), tiles)
        shuffled, put, truth = (self.modality.together(t, self.across) for t in put)
        agree = order == guess
        caption = "Tiles as it got them (evened out in brightness, in one colour), as it put them together, as they lay, and the picture."
        columns = {"shuffled": shuffled, "put together": put, "truth": truth, "picture": view}
        said = [f"{n} of {self.across**2} in place" for n in agree.sum(1).tolist()]
        return [Sheet("puzzle", "The puzzle", caption, columns, {"put together": said}, {"put together": agree.all(1)})]

    def keep(self) -> Kept:
        return Kept(self.encoder, {"narrow": self.narrow, "head": self.head})


def in_order(tiles: list[View], order: Tensor) -> list[View]:
    """The tiles of each row in the order (B, T) of its own."""
    held = View.cat(tiles)
    rows = torch.arange(len(order), device=order.device)
    return [held.take(places * len(order) + rows) for places in order.T]


def far_apart(count: int, tiles: int) -> Tensor:
    """(at most count, tiles) int64 permutations, each the one of many drawn whose least Hamming distance to those before is the largest
    (the paper's algorithm 1); the same on every machine."""
    pool = random.permute_rows(random.key("jigsaw"), torch.arange(DRAWN), tiles)
    chosen = [0]
    least = (pool != pool[0]).sum(1)
    while len(chosen) < min(count, math.factorial(tiles)):
        chosen.append(int(least.argmax()))
        least = torch.minimum(least, (pool != pool[chosen[-1]]).sum(1))
    return pool[chosen]
