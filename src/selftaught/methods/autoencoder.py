"""Autoencoder: squeeze the picture into the representation and paint it again.

Paper: Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313, 2006.

When it works: data whose large differences are the ones that matter (digits, aligned faces, spectra); a representation narrower than the data.
When it fails: photographs, where most of the error lies in backgrounds and textures: expect kNN at or below that of raw pixels.  A representation as wide as the
data may simply copy it (denoising-autoencoder, inpainting and mae cannot).
What to watch: `loss` against `baseline`, which paints the mean picture: their ratio is the share of the pixels' variance that is lost.

Cost: one picture a row through the encoder, and a small painter.  Rows do not meet in the loss: micro-batches add up where nothing is normalised over the batch.

Scaled to the budget: all layers at once, where the paper had to train one after the other before.
"""

from __future__ import annotations

from typing import ClassVar, Self

from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, Sheet, ViewSpec, encode
from ..losses import mean, per_token
from ..nets.blind import BlindGuess
from ..nets.painter import Painter


class Autoencoder(Method):
    """Paints its input again from the representation."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Hinton & Salakhutdinov 2006, Reducing the Dimensionality of Data with Neural Networks"
    needs: ClassVar[frozenset[str]] = frozenset({"pixels"})

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
        self.encoder, self.modality = encoder, facts.modality
        self.painter = Painter(encoder.dim, facts.modality.channels, facts.modality.side, width=self.width)
        self.blind = BlindGuess(None)
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        wanted = self.modality.painted(view)
        (features,) = encode(self.encoder, [view])
        per_row = per_token(self.painter(features).flatten(1), wanted.flatten(1), False)
        return {"loss": mean(per_row, batch.total), "features": features.detach(), **self.blind(wanted.flatten(1))}

    def show(self, batch: Batch) -> list[Sheet]:
        (view,) = batch.views
        painted = self.modality.unpainted(self.painter(self.encoder(view)))
        return [Sheet.repainted(view, painted, view, "All that it paints from is the representation.")]

    def keep(self) -> Kept:
        return Kept(self.encoder, {"painter": self.painter})
