"""Inpainting (context encoder): paint what was cut out of the picture.

Paper: Pathak et al., "Context Encoders: Feature Learning by Inpainting", CVPR 2016 (arXiv:1604.07379); objective: equation 1, without the
adversarial loss of equation 2, which sharpens pictures and did little for the paper's transfer.

When it works: pictures of things in surroundings that foretell them; where the parts and their place matter.
When it fails: textures that go on across the hole (the answer is the neighbouring colour); short runs.
What to watch: `loss` against `baseline`, which paints the mean colour.

Cost: one picture a row through the encoder, and a small painter.  Rows do not meet in the loss: micro-batches add up where nothing is normalised over the batch.

Scaled to the budget: the hole is one square of `share` of the area at a random place, filled with the mean colour; the channel-wise fully connected layer is the encoder's
own global mean.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Sheet, ViewSpec, encode
from ..losses import logged, mean
from ..nets.painter import Painter


class Inpainting(Method):
    """Paints a square that was cut out."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Pathak et al. 2016, Context Encoders: Feature Learning by Inpainting"
    aliases: ClassVar[tuple[str, ...]] = ("context-encoder",)
    needs: ClassVar[frozenset[str]] = frozenset({"pixels"})

    share: float = 0.25
    """Share of the area that is cut out."""
    width: int = 64
    """Width of the painter's first map."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128, optimizer="adamw", lr=1e-3, weight_decay=1e-2,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"hole": "the middle or random blocks -> one square at a random place", "optimizer": "Adam -> AdamW at 0.001"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if not 0 < self.share < 1:
            raise RequestError(f"share = {self.share} is no hole.", "Give a number between 0 and 1.")
        self.encoder, self.modality = encoder, facts.modality
        self.painter = Painter(encoder.dim, facts.modality.channels, facts.modality.side, width=self.width)
        return self

    def _hole(self, batch: Batch, side: int) -> Tensor:
        """(B, 1, side, side) bool: the square that is cut out of each row."""
        length = min(side - 1, max(1, round(side * math.sqrt(self.share))))
        corner = batch.draw().integers("hole", side - length + 1, 2)[:, :, None]
        along = torch.arange(side, device=corner.device)
        inside = (along >= corner) & (along < corner + length)  # (B, 2, side)
        return (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        wanted = self.modality.painted(view)
        hole = self._hole(batch, wanted.shape[-1])
        (features,) = encode(self.encoder, [self.modality.unpainted(wanted.masked_fill(hole, 0))])
        painted = self.painter(features)
        painted = painted.float() if painted.dtype in (torch.float16, torch.bfloat16) else painted
        size = hole.sum((1, 2, 3)) * wanted.shape[1]
        per_row = ((painted - wanted).square() * hole).sum((1, 2, 3)) / size
        flat = (wanted.square() * hole).sum((1, 2, 3)) / size  # the mean colour, which is what the hole shows
        return {"loss": mean(per_row, batch.total), "baseline": logged(flat), "features": features.detach()}

    def show(self, batch: Batch) -> list[Sheet]:
        (view,) = batch.views
        wanted = self.modality.painted(view)
        hole = self._hole(batch, wanted.shape[-1])
        painted = self.painter(self.encoder(self.modality.unpainted(wanted.masked_fill(hole, 0))))
        saw, filled = wanted.masked_fill(hole, math.nan), torch.where(hole, painted.to(wanted.dtype), wanted)
        about = "A square was cut out (grey); around it the truth is pasted in."
        return [Sheet.repainted(self.modality.unpainted(saw), self.modality.unpainted(filled), view, about)]

    def keep(self) -> Kept:
        return Kept(self.encoder, {"painter": self.painter})
