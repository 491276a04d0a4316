"""Inpainting (context encoder): paint what was cut out of the picture.

Paper: Pathak et al., "Context Encoders: Feature Learning by Inpainting", CVPR 2016 (arXiv:1604.07379); objective: equation 1, and with
`adversarial` above 0 equation 3, (1 - adversarial) x squared error + adversarial x the loss of equation 2: a discriminator of the encoder's kind sees the whole picture
with what was painted in its place, and must tell it from a real one (nets/adversary.py: each side's gradient is its own).  The paper's weight is 0.001; it sharpens pictures and did
little for its transfer.

When it works: pictures of things in surroundings that foretell them; where the parts and their place matter.
When it fails: textures that go on across the hole (the answer is the neighbouring colour); short runs.
What to watch: `loss` against `baseline`, which paints the mean colour; with
`adversarial`, `error` (the squared error alone) and `critic`, which is 1.39 where the discriminator is fooled.

Cost: one picture a row through the encoder, and a small painter; with `adversarial` about three times that.  Rows do not meet in the loss: micro-batches add up where nothing is normalised over the batch.

Scaled to the budget: the hole is one square of `share` of the area at a random place, filled with the mean colour; the channel-wise fully connected layer is the encoder's
own global mean.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Sheet, ViewSpec, encode
from ..losses import log_loss, logged, mean
from ..nets.adversary import judged
from ..nets.heads import MLP
from ..nets.painter import Painter


class Inpainting(Method):
    """Paints a square that was cut out."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Pathak et al. 2016, Context Encoders: Feature Learning by Inpainting"
    aliases: ClassVar[tuple[str, ...]] = ("context-encoder",)
    needs: ClassVar[frozenset[str]] = frozenset({"pixels"})

    share: float = 0.25
    """Share of the area that is cut out."""
    adversarial: float = 0.0
    """Weight of a discriminator's opinion beside the squared error's; the paper takes 0.001."""
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
        if not 0 <= self.adversarial < 1:
            raise RequestError(
                f"adversarial = {self.adversarial} is no weight.", "Give 0 to below 1; the paper takes 0.001."
            )
        self.encoder, self.modality = encoder, facts.modality
        if self.adversarial:
            self.critic, self.judge = encoder.sibling(), MLP((encoder.dim, self.width, 1), norm="none")
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
        features = features.detach()
        if self.adversarial:
            return {
                **self._against(per_row, wanted, torch.where(hole, painted, wanted), batch.total),
                "features": features,
            }
        return {"loss": mean(per_row, batch.total), "baseline": logged(flat), "features": features}

    def _against(self, error: Tensor, real: Tensor, painted: Tensor, total: Tensor | None) -> dict[str, Tensor]:
        """The joint loss of painter and discriminator.  It has no blind guess: what a discriminator loses says nothing of progress."""
        pictures = self.modality.unpainted(torch.cat([real, painted.to(real.dtype)]))
        told = judged(self.critic, self.judge, pictures, learns=True)[0].chunk(2)
        critic = log_loss(told[0], real=True) + log_loss(told[1], real=False)
        taken = judged(self.critic, self.judge, pictures, learns=False)[0].chunk(2)[1]
        player = (1 - self.adversarial) * error + self.adversarial * log_loss(taken, real=True)
        return {"loss": mean(player + critic, total), "error": logged(error), "critic": logged(critic)}

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
