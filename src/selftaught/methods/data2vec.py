"""data2vec: from a masked input, predict what a slow teacher's upper layers say of the whole one; the same for every kind of data.

Paper: Baevski et al., "data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language", ICML 2022
(arXiv:2202.03555); objective: equation 2, targets: section 3.3.

When it works: long runs; wherever tokens have a context: speech most of all.
When it fails: small data and short runs (published at a third of the others' accuracy on Imagenette after 200 epochs).  Nothing in the loss forbids collapse but the
teacher's slowness and the normalised targets: watch the effective rank, and `spread`.
What to watch: `spread`, the deviation of targets over tokens: near 0 they have become one, and a loss near 0 is then a collapse, not a success.

Cost: all tokens through the encoder, and once more through the teacher.  Rows do not meet in the loss: micro-batches add up.

Scaled to the budget: upper 6 of 12 layers -> the upper half; ratio 0.6 of a picture's patches, in blocks, as in the paper (of 15 % of a text's tokens: say --ratio 0.15); the
teacher's momentum starts at 0.99 where 0.9998 counts on 500,000 steps; Adam -> AdamW.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec
from ..losses import full_precision, mean, smooth_absolute
from ..nets.heads import Linear
from ..nets.teacher import Teacher
from ..views import hidden_tokens


class Data2Vec(Method):
    """Predicts a teacher's contextual representation of masked tokens."""

    family: ClassVar[str] = "distillation"
    paper: ClassVar[str] = "Baevski et al. 2022, data2vec: A General Framework for Self-supervised Learning"
    needs: ClassVar[frozenset[str]] = frozenset({"target", "tokens", "stages"})

    ratio: float = 0.6
    """Share of each row's tokens that are masked and predicted."""
    span: int = 0
    """Neighbouring tokens that are masked together; 0: as many as suit the data (of sound 3, else 1; blocks on pictures)."""
    momentum: float = 0.99
    """How much of the teacher stays at each step, at the start; it rises to 1 over the run."""
    beta: float = 2.0
    """Error below which the loss is quadratic."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128 if cpu else 512, optimizer="adamw", lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98), warmup=0.1, clip=3.0,
            duration=Duration(10, "minutes") if cpu else Duration(400, "epochs"),
            scaled={
                "batch": f"2048 -> {128 if cpu else 512}",
                "momentum": f"0.9998 -> {self.momentum:g}, because a short run has few steps for the teacher to follow in",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder, self.modality = encoder, facts.modality
        tokens, _ = facts.example(encoder, facts.modality.mild(facts))
        self.head = Linear(tokens.values.shape[-1], tokens.values.shape[-1])
        self.teacher = Teacher(encoder, start=self.momentum)
        return self

    def _chosen(self, batch: Batch) -> tuple[Tensor, tuple[int, ...] | None]:
        """(B, N) bool of the tokens to mask, and their grid: blocks on a picture, else runs of tokens."""
        (view,) = batch.views
        with torch.no_grad():
            tokens = self.encoder.tokenize(view)
        able = self.modality.target(view, tokens.grid).valid & tokens.told
        span = self.span or getattr(self.modality, "span", 1)
        return hidden_tokens(batch.draw(), able, tokens.grid, self.ratio, span=span), tokens.grid

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        chosen, grid = self._chosen(batch)
        with torch.no_grad():
            stages = self.teacher.net.features(view)  # type: ignore[operator]
            upper = stages[len(stages) // 2 :]
            wanted = averaged([stage.patches[chosen] for stage in upper])
        hidden = self.modality.corrupt(view, chosen, grid, batch.draw())
        read = self.encoder.trunk(self.encoder.tokenize(hidden))
        off = smooth_absolute(self.head(read.patches[chosen]), wanted, beta=self.beta)
        spread = wanted.std(0, correction=0).mean() if len(wanted) else wanted.sum()
        return {
            "loss": mean(off, batch.total), "spread": spread, "features": self.encoder.pool(read).detach(),
        }  # fmt: skip

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        return self._chosen(batch)[0].sum()

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.teacher.update(self.encoder, progress)

    def keep(self) -> Kept:
        return Kept(self.encoder, {"head": self.head})


@full_precision
def averaged(layers: list[Tensor]) -> Tensor:
    """(M, D) mean of the layers' (M, D), each of mean 0 and deviation 1 along D, and normalised so again."""
    width = layers[0].shape[1:]
    return F.layer_norm(torch.stack([F.layer_norm(x, width) for x in layers]).mean(0), width)
