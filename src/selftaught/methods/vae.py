"""Variational autoencoder: paint the picture from a noisy code whose distribution is held to a standard normal one.

Paper: Kingma & Welling, "Auto-Encoding Variational Bayes", ICLR 2014 (arXiv:1312.6114); `beta`: Higgins et al., "beta-VAE", ICLR 2017.

When it works: data of few smooth factors (shape, pose, style); where new examples are to be drawn.
When it fails: photographs, as with every autoencoder; a `beta` that is large beside what the code can explain: then the code is given up (posterior
collapse).
What to watch: `kl`, nats in the code: near 0 the code says nothing; `loss` against `baseline`, which paints the mean picture.

Cost: the autoencoder's.  Rows do not meet in the loss: micro-batches add up where nothing is normalised over the batch.

Scaled to the budget: the representation is the encoder's, before the code; the pixels' deviation given the code is a constant, 1 of theirs; the loss is
in nats a pixel value, so that pictures of any size train alike.
"""

from __future__ import annotations

from typing import ClassVar, Self

from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Sheet, ViewSpec, encode
from ..losses import full_precision, logged, mean, per_token
from ..nets.blind import BlindGuess
from ..nets.heads import Linear
from ..nets.painter import Painter


class VAE(Method):
    """An autoencoder with a noisy code near a standard normal distribution."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Kingma & Welling 2014, Auto-Encoding Variational Bayes"
    needs: ClassVar[frozenset[str]] = frozenset({"pixels"})

    code: int = 64
    """Width of the code."""
    beta: float = 1.0
    """Weight of the divergence from a standard normal distribution."""
    width: int = 64
    """Width of the painter's first map."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128, optimizer="adamw", lr=1e-3, weight_decay=1e-2, clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"optimizer": "Adagrad -> AdamW at 0.001"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if self.code < 1 or self.beta < 0:
            raise RequestError(
                f"code = {self.code}, beta = {self.beta}.", "Give a width of 1 at least and a weight of 0 at least."
            )
        self.encoder, self.modality = encoder, facts.modality
        self.middle, self.spread = Linear(encoder.dim, self.code), Linear(encoder.dim, self.code)
        self.painter = Painter(self.code, facts.modality.channels, facts.modality.side, width=self.width)
        self.blind = BlindGuess(None)
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        wanted = self.modality.painted(view).flatten(1)
        (features,) = encode(self.encoder, [view])
        middle, spread = self.middle(features), self.spread(features).clamp(-10, 10)
        noise = batch.draw().normal("code", self.code).to(middle.dtype)
        painted = self.painter(middle + noise * (spread / 2).exp()).flatten(1)
        error, nats = per_token(painted, wanted, False), divergence(middle, spread)
        per_row = error / 2 + self.beta * nats / wanted.shape[1]
        blind = self.blind(wanted)["baseline"]
        return {
            "loss": mean(per_row, batch.total), "kl": logged(nats), "baseline": blind / 2, "features": features.detach(),
        }  # fmt: skip

    def show(self, batch: Batch) -> list[Sheet]:
        (view,) = batch.views
        painted = self.modality.unpainted(self.painter(self.middle(self.encoder(view))))
        drawn = self.modality.unpainted(
            self.painter(batch.draw().normal("drawn", self.code).to(painted["pixels"].dtype))
        )
        dreams = Sheet(
            "drawn", "Pictures that it makes up", "Painted from codes drawn at random; no example stands behind them.",
            {"drawn": drawn}, headed=False,
        )  # fmt: skip
        return [Sheet.repainted(view, painted, view, "All that it paints from is a short code."), dreams]

    def keep(self) -> Kept:
        return Kept(self.encoder, {"middle": self.middle, "spread": self.spread, "painter": self.painter})


@full_precision
def divergence(middle: Tensor, spread: Tensor) -> Tensor:
    """(B,) nats from N(middle, exp(spread)) to N(0, 1), both (B, K): Kingma & Welling 2014, appendix B."""
    return (middle.square() + spread.exp() - spread - 1).sum(1) / 2
