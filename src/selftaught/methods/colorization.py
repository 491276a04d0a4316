"""Colourisation: which colours belong to this grey picture?

Paper: Zhang, Isola & Efros, "Colorful Image Colorization", ECCV 2016 (arXiv:1603.08511); objective: equations 2 to 4.

When it works: colour photographs of things whose colour follows from what they are (sky, grass, skin); the encoder then also serves grey pictures.
When it fails: man-made things of any colour; pictures without much colour (radiographs, drawings): refused where they have one channel.  The encoder never
sees colour in training: where colour is the class, expect the raw input to win.
What to watch: `accuracy`, how often the likeliest bin is the true one; `baseline`, what the mere frequency of colours scores.

Cost: one picture a row, and a classifier of about 300 bins at every place of the encoder's finest stage.  Rows do not meet in the loss: micro-batches add up where
nothing is normalised over the batch.

Scaled to the budget: colour at every pixel -> at every place of the first stage, read from all stages brought to its grid; the frequencies that balance
the bins are counted during the run instead of before it.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import (
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
    dist,
)
from ..losses import full_precision, logged, mean
from ..nets.heads import MLP
from ..views import lab

ANNEALED = 0.38
"""Divides the scores before the mean colour is taken (the paper's equation 5): between the mean, which is dull, and the likeliest."""


class Colorization(Method):
    """Predicts the colours of a picture from its lightness."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = "Zhang et al. 2016, Colorful Image Colorization"
    aliases: ClassVar[tuple[str, ...]] = ("colourisation", "colorisation")
    needs: ClassVar[frozenset[str]] = frozenset({"colour"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})

    balance: float = 0.5
    """How far rare colours count as much as common ones: 0 not at all, 1 wholly."""
    hidden: int = 256
    """Hidden width of the classifier at each place."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128, optimizer="adamw", lr=1e-3, weight_decay=1e-2,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"places": "every pixel -> every place of the first stage", "optimizer": "Adam at 3e-5 -> AdamW at 0.001"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if getattr(facts.modality, "channels", 3) != 3:
            raise RequestError(
                "These pictures have no colour to predict.", "Take another method, such as rotation or mae."
            )
        if facts.sample is None:
            raise ValueError("this method sizes its head by an example: give Facts(sample=a raw view of a few rows)")
        self.encoder, self.modality = encoder, facts.modality
        was = encoder.training
        encoder.eval()  # a look at an example must not move running statistics
        with torch.no_grad():
            example = self.views(facts)[0].transform(facts.sample, Draw(torch.arange(len(facts.sample))))
            widths = [stage.values.shape[-1] for stage in encoder.features(self.modality.grey(example))]
        encoder.train(was)
        self.register_buffer("centres", lab.bins(), persistent=False)
        self.register_buffer("counts", torch.zeros(len(self.get_buffer("centres"))))
        self.head = MLP((sum(widths), self.hidden, len(self.get_buffer("centres"))), norm="none")
        return self

    def _columns(self, view: View) -> tuple[Tensor, tuple[int, ...]]:
        """(B, N, D) all stages at the places of the first (hypercolumns), and its grid."""
        stages = self.encoder.features(view)
        grid = stages[0].grid
        assert grid is not None
        maps = [s.patches.transpose(1, 2).unflatten(2, s.grid) for s in stages]  # type: ignore[arg-type]
        brought = [maps[0], *(F.interpolate(m, size=grid, mode="nearest") for m in maps[1:])]
        return torch.cat(brought, 1).flatten(2).transpose(1, 2), grid

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        grey = self.modality.grey(view)
        columns, grid = self._columns(grey)
        logits = self.head(columns.flatten(0, 1))
        ab = self.modality.colours(view, grid).flatten(0, 1)
        index, share = lab.soft_bins(ab, self.get_buffer("centres"))
        counts = self.get_buffer("counts")
        weight, prior = self._weights(counts)[index[:, 0]], (counts + 1).log().expand(len(ab), -1)
        per_place, right = _cross_entropy(logits, index, share, weight)
        blind, _ = _cross_entropy(prior, index, share, weight)
        rows = len(batch)
        return {
            "loss": mean(per_place.view(rows, -1).mean(1), batch.total),
            "accuracy": logged(right.view(rows, -1).mean(1)),
            "baseline": logged(blind.view(rows, -1).mean(1)),
            "seen": dist.total(torch.zeros_like(counts).index_add_(0, index.flatten(), share.flatten().to(counts.dtype))),
            "features": columns.mean(1).detach()[:, -self.encoder.dim :],
        }  # fmt: skip

    def _weights(self, counts: Tensor) -> Tensor:
        """(Q,) what each bin weighs: 1 / (balance x frequency + (1 - balance) / Q), with mean 1 over what is seen."""
        frequency = (counts + 1) / (counts + 1).sum()
        weight = 1 / ((1 - self.balance) / len(counts) + self.balance * frequency)
        return weight / (frequency * weight).sum()

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        if "seen" in outputs:
            self.get_buffer("counts").add_(outputs["seen"])

    def show(self, batch: Batch) -> list[Sheet]:
        (view,) = batch.views
        grey = self.modality.grey(view)
        columns, grid = self._columns(grey)
        likely = (self.head(columns).float() / ANNEALED).softmax(-1)
        painted = self.modality.coloured(view, likely @ self.get_buffer("centres").to(likely.dtype), grid)
        return [Sheet.repainted(grey, painted, view, "The colours are the mean of what it holds for likely.")]

    def keep(self) -> Kept:
        return Kept(self.encoder, {"head": self.head})


@full_precision
def _cross_entropy(logits: Tensor, index: Tensor, share: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(M,) weighted cross-entropy of logits (M, Q) with soft targets (M, 5), and whether the likeliest bin is the nearest."""
    logs = logits.log_softmax(1).gather(1, index)
    return -(share * logs).sum(1) * weight, (logits.argmax(1) == index[:, 0]).to(logits.dtype)
