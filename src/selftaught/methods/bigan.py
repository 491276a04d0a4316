"""BiGAN: a game in which pictures with the codes read from them must look like codes with the pictures painted from them.

Paper: Donahue, Krähenbühl & Darrell, "Adversarial Feature Learning", ICLR 2017 (arXiv:1605.09782); the same by Dumoulin et al., "Adversarially Learned
Inference", ICLR 2017 (arXiv:1606.00704); the discriminator's features as a representation: Radford, Metz & Chintala, "DCGAN", ICLR 2016 (arXiv:1511.06434).

Players: an encoder E and a generator G against a discriminator D.  With s(x, z) D's log-odds, s+ = s(x, E(x)) and s- = s(G(z), z), z standard normal:
  D's loss = -log sigmoid(s+) - log(1 - sigmoid(s-)) + drift (s+^2 + s-^2), for D's parameters alone, pairs held fixed;
  E's and G's loss = -log(1 - sigmoid(s+)) - log sigmoid(s-), for theirs alone, D held fixed (it does not saturate; Donahue et al., section 3.4).
The loss is the sum; the gradient of each side is its own exactly (nets/adversary.py), and both step at once, as in the paper.

When it works: pictures of one kind (digits, faces); where new pictures are wanted too.
When it fails: photographs in short runs: a generator needs thousands of steps, and what it cannot paint yet teaches nothing; expect neither network to beat
an untrained one within minutes.  The code alone reaches the encoder: what it does not hold is not learned.
What to watch: `critic`, nats of 2 ln 2 = 1.39 for a discriminator that is fooled; near 0 it has won, and the others are taught little: lower
`pace`, raise `noise` or `drift`.

Cost: encoder, generator, and the discriminator twice on twice the rows: about three times an autoencoder's.  Rows meet only in batch statistics.

Scaled to the budget: 200 epochs -> minutes; uniform codes -> normal ones, and E's are brought to mean 0 and deviation 1; D is another network of the encoder's kind, shown
pictures under noise that fades, at a pace of its own: at the others' pace it won within 300 steps.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, View, ViewSpec, encode
from ..losses import log_loss, logged, mean
from ..nets.adversary import judged
from ..nets.heads import MLP
from ..nets.painter import Painter


class BiGAN(Method):
    """An encoder and a generator that together fool a discriminator of pictures and codes."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Donahue et al. 2017, Adversarial Feature Learning"
    aliases: ClassVar[tuple[str, ...]] = ("ali", "gan")
    needs: ClassVar[frozenset[str]] = frozenset({"pixels"})

    representation: Literal["encoder", "discriminator"] = "encoder"
    """Which of the two networks that see pictures is kept, evaluated and exported."""
    code: int = 64
    """Width of the code."""
    width: int = 64
    """Width of the generator's first map."""
    hidden: int = 256
    """Hidden width of the judge of a picture's features and its code."""
    pace: float = 0.2
    """The discriminator's learning rate as a share of the others'."""
    noise: float = 0.5
    """Deviation of the noise on pictures that the discriminator sees, in deviations of a pixel; it falls to 0 over the run."""

    drift: float = 0.1
    """Weight of the discriminator's squared scores in its loss: it stays unsure enough to teach (Karras et al. 2018, appendix A.1)."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64, optimizer="adamw", lr=5e-4, weight_decay=1e-4, betas=(0.5, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={"batch": "128 -> 64, because a short run needs steps", "optimizer": "Adam at 2e-4 -> AdamW at 5e-4"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if min(self.code, self.width, self.hidden) < 1 or self.pace <= 0 or min(self.noise, self.drift) < 0:
            raise RequestError(
                f"code = {self.code}, width = {self.width}, hidden = {self.hidden}, pace = {self.pace}, noise = {self.noise}, drift = {self.drift}.",
                "Give widths of 1 at least, a pace above 0, noise and drift of 0 at least.",
            )
        self.encoder, self.other, self.modality = encoder, encoder.sibling(), facts.modality
        # Codes of mean 0 and deviation 1 from the start: else D knows them by their length and looks at nothing else.
        self.middle = MLP((encoder.dim, self.code), norm="batch", last=True)
        self.painter = Painter(self.code, facts.modality.channels, facts.modality.side, width=self.width)
        self.judge = MLP((encoder.dim + self.code, self.hidden, self.hidden, 1), norm="none")
        return self

    @property
    def reader(self) -> Encoder:
        """E, which reads a code in a picture."""
        return self.encoder if self.representation == "encoder" else self.other

    @property
    def trunk(self) -> Encoder:
        """The part of D that sees pictures."""
        return self.other if self.representation == "encoder" else self.encoder

    def param_groups(self) -> list[dict]:
        critic = {id(p) for part in (self.trunk, self.judge) for p in part.parameters()}
        groups = [(g, side) for g in super().param_groups() for side in (True, False)]
        split = [
            {**g, "params": [p for p in g["params"] if (id(p) in critic) == side], "lr_scale": self.pace if side else 1.0}
            for g, side in groups
        ]  # fmt: skip
        return [g for g in split if g["params"]]

    def _pairs(self, batch: Batch) -> tuple[View, Tensor, Tensor]:
        """2 B pictures, codes (2 B, K): real ones with what E reads in them, G's with what they were painted from; and E's features (B, D)."""
        (view,) = batch.views
        draw, real = batch.draw(), self.modality.painted(view)
        (features,) = encode(self.reader, [view])
        read = self.middle(features)
        drawn = draw.normal("code", self.code).to(read.dtype)
        pictures = torch.cat([real, self.painter(drawn).to(real.dtype)])
        if self.noise:
            shown = self.noise * (1 - batch.progress)
            noise = [draw.normal(name, *real.shape[1:]) for name in ("on real", "on painted")]
            pictures = pictures + shown * torch.cat(noise).to(pictures.dtype)
        return self.modality.unpainted(pictures), torch.cat([read, drawn]), features

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        pictures, codes, read = self._pairs(batch)
        scores, told = judged(self.trunk, self.judge, pictures, codes, learns=True)
        real, painted = scores.chunk(2)
        critic = log_loss(real, real=True) + log_loss(painted, real=False)
        held = self.drift * (real.square() + painted.square())
        real, painted = judged(self.trunk, self.judge, pictures, codes, learns=False)[0].chunk(2)
        players = log_loss(real, real=False) + log_loss(painted, real=True)
        features = read if self.reader is self.encoder else told[: len(batch)]
        return {
            "loss": mean(critic + held + players, batch.total), "critic": logged(critic), "players": logged(players),
            "features": features.detach(),
        }  # fmt: skip

    def keep(self) -> Kept:
        reading = {"middle": self.middle} if self.reader is self.encoder else {}
        return Kept(self.encoder, {"painter": self.painter, **reading})
