"""Denoising autoencoder: paint the whole picture from one of which a part of the places was wiped out.

Paper: Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008 (masking noise, section 2.3).

When it works: as the autoencoder, and where the representation is wide: it cannot simply copy.
When it fails: photographs, where most of the error lies in backgrounds and textures; noise so small that neighbours give it away (single places of a large
picture: take inpainting or mae, which hide whole patches).
What to watch: `loss` against `baseline`, which paints the mean picture: their ratio is the share of the pixels' variance that is lost.

Cost: one picture a row through the encoder, and a small painter.  Rows do not meet in the loss: micro-batches add up where nothing is normalised over the batch.

Scaled to the budget: all layers at once; noise 0.25 of all places, as in the paper.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Sheet, ViewSpec, encode
from ..losses import mean, per_token
from ..nets.blind import BlindGuess
from ..nets.painter import Painter


class DenoisingAutoencoder(Method):
    """Paints a picture from what noise left of it."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Vincent et al. 2008, Extracting and Composing Robust Features with Denoising Autoencoders"
    needs: ClassVar[frozenset[str]] = frozenset({"pixels"})

    noise: float = 0.25
    """Share of the places that are wiped out in the input."""
    width: int = 64
    """Width of the painter's first map."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128, optimizer="adamw", lr=1e-3, weight_decay=1e-2,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"layers": "one after the other -> all at once", "optimizer": "SGD -> AdamW at 0.001"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if not 0 < self.noise < 1:
            raise RequestError(
                f"noise = {self.noise} is no share.", "Give a number between 0 and 1, or take autoencoder."
            )
        self.encoder, self.modality = encoder, facts.modality
        self.painter = Painter(encoder.dim, facts.modality.channels, facts.modality.side, width=self.width)
        self.blind = BlindGuess(None)
        return self

    def _gone(self, batch: Batch, wanted: Tensor) -> Tensor:
        """(B, 1, H, W) bool: the places that are wiped out."""
        return batch.draw().uniform("noise", 1, *wanted.shape[2:]) < self.noise

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        wanted = self.modality.painted(view)
        gone = self._gone(batch, wanted)  # 0 is the mean: nothing to see
        (features,) = encode(self.encoder, [self.modality.unpainted(wanted.masked_fill(gone, 0))])
        per_row = per_token(self.painter(features).flatten(1), wanted.flatten(1), False)
        return {"loss": mean(per_row, batch.total), "features": features.detach(), **self.blind(wanted.flatten(1))}

    def show(self, batch: Batch) -> list[Sheet]:
        (view,) = batch.views
        wanted = self.modality.painted(view)
        gone = self._gone(batch, wanted)
        painted = self.painter(self.encoder(self.modality.unpainted(wanted.masked_fill(gone, 0))))
        saw = self.modality.unpainted(wanted.masked_fill(gone, math.nan))
        about = f"{self.noise:.0%} of the places were wiped out (grey)."
        return [Sheet.repainted(saw, self.modality.unpainted(painted), view, about)]

    def keep(self) -> Kept:
        return Kept(self.encoder, {"painter": self.painter})
