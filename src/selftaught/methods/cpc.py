"""CPC: from what was heard so far, tell the tokens that follow from others.

Paper: van den Oord, Li & Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018 (arXiv:1807.03748); objective: equation 4 for each of k steps,
with negatives of the own recording and of others, as its section 3.1 compares.

When it works: speech of some seconds, where content changes and speaker and room do not; both negatives and context grow with length.
When it fails: clips of less than half a second (nothing to predict from); music and drones, where the future is the present.
What to watch: `accuracy`, how often the true token has the highest score, and `loss` against `baseline`, the logarithm of the number of candidates.  A loss near 0 with few candidates
is an easy task, not a good representation.

Candidates of an anchor: the true token, every other true token of the same clip, and `others` tokens of each other clip of the batch, drawn by that clip: so no order of rows, and no
division among processes, changes them.  Padding is never a candidate.  The more of them are from the own clip, the less the speaker helps.

Cost: one forward and backward of all tokens, and tokens x ahead x (tokens of a clip + rows x others) x `width` multiply-adds.  Rows of the batch meet in the loss and no replay is
offered: accumulation is refused.

Scaled to the budget: convolutions on waves and a GRU of 256 -> the encoder's log-mel tokens and causal transformer; 12 steps of 10 ms -> 3 of 40 ms; log-bilinear scores ->
cosines / 0.1, which a short run learns sooner; batch 8 x 20,480 samples -> 64 clips.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, ViewSpec, dist
from ..losses import full_precision, logged, mean
from ..nets.heads import MLP, Linear


class CPC(Method):
    """Tells the tokens that follow from other tokens of the clip and of other clips."""

    family: ClassVar[str] = "contrastive"
    paper: ClassVar[str] = "van den Oord et al. 2018, Representation Learning with Contrastive Predictive Coding"
    aliases: ClassVar[tuple[str, ...]] = ("contrastive-predictive-coding",)
    needs: ClassVar[frozenset[str]] = frozenset({"sound", "target", "tokens", "causal"})
    couples_rows: ClassVar[bool] = True

    ahead: int = 3
    """How many tokens ahead are told from others, each by a layer of its own."""
    others: int = 2
    """Tokens of each other clip that stand beside the true one."""
    temperature: float = 0.1
    """Divides the cosines."""
    width: int = 64
    """Width in which tokens are compared."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 256, optimizer="adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"ahead": f"12 of 10 ms -> {self.ahead} tokens", "scores": f"log-bilinear -> cosines / {self.temperature:g}"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        encoder.causal = True  # type: ignore[assignment]  # in the representation too: a token trained without its future has no use for it
        self.encoder, self.modality = encoder, facts.modality
        tokens, target = facts.example(encoder, facts.modality.mild(facts))
        longest = int(target.valid.sum(1).max())
        if not 1 <= self.ahead < longest or self.others < 1:
            raise RequestError(
                f"ahead = {self.ahead}, others = {self.others}: these sounds have up to {longest} tokens.",
                f"Give 1 to {longest - 1} and at least one other." if longest > 1 else "Give longer sounds.",
            )
        inner = tokens.values.shape[-1]
        self.latent = MLP((inner, inner, self.width), norm="layer")
        self.guesses = Linear(inner, self.ahead * self.width)
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        tokens = self.encoder.tokenize(view)
        valid = self.modality.target(view, tokens.grid).valid
        latent = self.latent(tokens.patches)
        read = self.encoder.trunk(tokens, causal=True)
        predicted = self.guesses(read.patches).unflatten(2, (self.ahead, -1))
        # Each row's tokens by a number of its own, padding last: the first `others` stand for it beside the others
        number = batch.draw().uniform("others", valid.shape[1]).masked_fill(~valid, 2.0)
        pool = number.argsort(dim=1, stable=True)[:, : self.others]
        pool = F.pad(pool, (0, self.others - pool.shape[1]))
        many = valid.sum(1).clamp_max(self.others)
        nats, found, chance = told_apart(predicted, latent, valid, pool, many, self.temperature)
        return {
            "loss": mean(nats), "accuracy": logged(found), "baseline": logged(chance), "features": self.encoder.pool(read).detach(),
        }  # fmt: skip

    def keep(self) -> Kept:
        return Kept(self.encoder, {"latent": self.latent, "ahead": self.guesses})


@full_precision
def told_apart(
    predicted: Tensor, latent: Tensor, valid: Tensor, pool: Tensor, many: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(M,) each: nats of the true token among its candidates, whether it scores highest, and the logarithm of how many they are.

    predicted (B, N, K, P): what is expected 1 to K tokens after each; latent (B, N, P), true where `valid` (B, N); pool (B, n): the places by which a
    row stands among the others' candidates, the first `many` (B,) of them.  M counts the pairs of a token and a true token after it.
    """
    (rows, count, steps, _), device = predicted.shape, predicted.device
    predicted, latent = F.normalize(predicted, dim=-1), F.normalize(latent, dim=-1)
    place = torch.arange(count, device=device)[:, None] + 1 + torch.arange(steps, device=device)
    there = valid[:, place.clamp_max(count - 1)] & (place < count)
    asked = predicted[there] / temperature
    row, at, step = there.nonzero(as_tuple=True)
    own = torch.einsum("btkp,bsp->btks", predicted, latent)[there] / temperature
    own = own.masked_fill(~valid[row], -torch.inf)
    share = dist.gather_rows(latent.gather(1, pool[..., None].expand(-1, -1, latent.shape[2])))
    used = torch.arange(pool.shape[1], device=device) < dist.gather_rows(many)[:, None]
    used = used & (torch.arange(len(share), device=device) != row[:, None] + dist.rank() * rows)[..., None]
    foreign = (asked @ share.flatten(0, 1).T).masked_fill(~used.flatten(1), -torch.inf)
    right = own.gather(1, (at + 1 + step)[:, None])
    wrong = torch.cat([own.scatter(1, (at + 1 + step)[:, None], -torch.inf), foreign], 1)
    candidates = wrong.isfinite().sum(1) + 1
    nats = F.softplus(wrong.logsumexp(1) - right[:, 0], threshold=40)
    return nats, (right[:, 0] > wrong.amax(1)).to(nats.dtype).detach(), candidates.to(nats.dtype).log()
