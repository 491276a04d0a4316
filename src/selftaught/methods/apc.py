"""APC: listen from left to right and predict the energies some tokens ahead.

Paper: Chung, Hsu, Tang & Glass, "An Unsupervised Autoregressive Model for Speech Representation Learning", Interspeech 2019 (arXiv:1904.03240); objective: equation 1,
absolute error; Chung & Glass, "Generative Pre-Training for Speech with Autoregressive Predictive Coding", 2020 (arXiv:1910.12607), with a transformer.

When it works: speech, on small machines; phonemes and speakers are both kept; every token teaches, so it uses data well.
When it fails: clips of less than half a second, of which little is left to predict; as a representation of a whole clip, since a token knows nothing of what
follows; stationary noises, where repeating what was heard is already good.
What to watch: `loss` against `copied`, the error of one who repeats what is heard now, not only against `baseline`, that of the mean.

Too near a token is told by its neighbour, too far nobody can know: `ahead` counts tokens (of 40 ms, where frames are stacked by four; the paper's 3 to 5 frames are 30 to 50 ms).

Cost: one forward and backward of all tokens, and one linear layer.  Rows do not meet in the loss: micro-batches add up.

Scaled to the budget: three GRU layers of 512 -> the encoder's causal transformer of 128; 100 epochs of 360 hours -> minutes; Adam -> AdamW; batch 32 -> 64.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Target, Tokens, ViewSpec
from ..losses import full_precision, logged, mean, middle
from ..nets.heads import Linear


class APC(Method):
    """Predicts the energies some tokens ahead of each token."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Chung et al. 2019, An Unsupervised Autoregressive Model for Speech Representation Learning"
    aliases: ClassVar[tuple[str, ...]] = ("autoregressive-predictive-coding",)
    needs: ClassVar[frozenset[str]] = frozenset({"sound", "target", "tokens", "causal"})

    ahead: int = 2
    """How many tokens ahead."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 256, optimizer="adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"batch": f"32 -> {64 if cpu else 256}", "network": "3 GRU layers of 512 -> a small causal transformer"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        encoder.causal = True  # type: ignore[assignment]  # in the representation too: a token trained without its future has no use for it
        self.encoder, self.modality = encoder, facts.modality
        tokens, target = facts.example(encoder, facts.modality.mild(facts))
        longest = int(target.valid.sum(1).max())
        if not 1 <= self.ahead < longest:
            raise RequestError(
                f"ahead = {self.ahead}: these sounds have up to {longest} tokens, and none stands so far ahead of another.",
                f"Give 1 to {longest - 1}." if longest > 1 else "Give longer sounds, or fewer frames in a token.",
            )
        self.head = Linear(tokens.values.shape[-1], target.outputs)
        return self

    def _target(self, batch: Batch) -> tuple[Tokens, Target, Tensor]:
        """Tokens, target, and (B, N - ahead) bool: True where the token that stands `ahead` places on is there."""
        (view,) = batch.views
        tokens = self.encoder.tokenize(view)
        target = self.modality.target(view, tokens.grid)
        return tokens, target, target.valid[:, self.ahead :]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        tokens, target, chosen = self._target(batch)
        read = self.encoder.trunk(tokens, causal=True)
        here, ahead = target.values[:, : chosen.shape[1]][chosen], target.values[:, self.ahead :][chosen]
        off = absolute(self.head(read.patches[:, : chosen.shape[1]][chosen]), ahead)
        return {
            "loss": mean(off, batch.total), "baseline": logged(absolute(middle(ahead), ahead)), "copied": logged(absolute(here, ahead)),
            "features": self.encoder.pool(read).detach(),
        }  # fmt: skip

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        return self._target(batch)[-1].sum()

    def keep(self) -> Kept:
        return Kept(self.encoder, {"head": self.head})


@full_precision
def absolute(predicted: Tensor, wanted: Tensor) -> Tensor:
    """(M,) mean absolute error of (M, P)."""
    return (predicted - wanted.to(predicted.dtype)).abs().mean(1)
