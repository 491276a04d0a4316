"""I-JEPA: from one block of the picture, predict what a slow teacher says of other blocks: no pixels, no augmentation.

Paper: Assran et al., "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture", CVPR 2023
(arXiv:2301.08243); objective: equation 1, blocks: section 3.

When it works: large photographs, long runs, big vision transformers; tasks of counting and depth, for which augmentation is harmful.
When it fails: small data and short runs (published barely above the untrained network on Imagenette after 200 epochs); few patches (a 4 x 4 grid has no
blocks to speak of).  Nothing in the loss forbids collapse but the teacher's slowness: watch the effective rank, and `spread`.
What to watch: `spread`, the deviation of targets over tokens: near 0 they have become one.

Cost: the context's tokens through the encoder, all through the teacher and the small predictor.  Rows do not meet in the loss: micro-batches add up.

Scaled to the budget: predictor of 12 blocks of 384 -> 2 of 128, which predicts all target blocks in one pass instead of one after another; the
teacher's momentum starts at 0.99 where 0.996 counts on 300,000 steps; batch 2048 -> 128.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Tokens, ViewSpec
from ..losses import full_precision, mean, smooth_absolute
from ..nets.decoder import Decoder
from ..nets.teacher import Teacher
from ..views import rectangles


class IJEPA(Method):
    """Predicts a teacher's representation of some blocks from another block."""

    family: ClassVar[str] = "distillation"
    paper: ClassVar[str] = "Assran et al. 2023, Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture"  # fmt: skip
    aliases: ClassVar[tuple[str, ...]] = ("ijepa",)
    needs: ClassVar[frozenset[str]] = frozenset({"pixels", "tokens", "mask"})

    targets: int = 4
    """Blocks that are predicted."""
    momentum: float = 0.99
    """How much of the teacher stays at each step, at the start; it rises to 1 over the run."""
    decoder_width: int = 128
    """Width of the predictor."""
    decoder_depth: int = 2
    """Blocks of the predictor."""
    decoder_heads: int = 4
    """Attention heads of the predictor."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128 if cpu else 512, optimizer="adamw", lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98), warmup=0.1,
            duration=Duration(10, "minutes") if cpu else Duration(400, "epochs"),
            scaled={
                "batch": f"2048 -> {128 if cpu else 512}",
                "predictor": f"12 blocks of 384 -> {self.decoder_depth} of {self.decoder_width}",
                "momentum": f"0.996 -> {self.momentum:g}, because a short run has few steps for the teacher to follow in",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder, self.modality = encoder, facts.modality
        tokens, _ = facts.example(encoder, facts.modality.mild(facts))
        if tokens.grid is None or len(tokens.grid) != 2 or min(tokens.grid) < 4:
            raise RequestError(
                f"i-jepa needs a grid of 4 x 4 patches at least, not {tokens.grid}.",
                "Take a smaller patch (--encoder vit:patch=4) or larger pictures (--size).",
            )
        width = tokens.values.shape[-1]
        self.predictor = Decoder(
            width, width, width=self.decoder_width, depth=self.decoder_depth, heads=self.decoder_heads, grid=tokens.grid
        )
        self.teacher = Teacher(encoder, start=self.momentum)
        return self

    def _blocks(self, batch: Batch, grid: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """(B, N) bool each: the context, and the targets, which it does not hold.  A context that is left empty gets one token."""
        draw, sides = batch.draw(), (grid[0], grid[1])
        targets = rectangles(draw, sides, self.targets, purpose="targets")[0].any(1)
        whole = rectangles(draw, sides, 1, scale=(0.85, 1.0), aspect=(1.0, 1.0), purpose="context")[0][:, 0]
        context = whole & ~targets
        spare = draw.uniform("spare", targets.shape[1]).argmax(1, keepdim=True)
        only = torch.zeros_like(targets).scatter(1, spare, True) & ~context.any(1, keepdim=True)
        return context | only, targets & ~only

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        tokens = self.encoder.tokenize(view)
        assert tokens.grid is not None
        context, targets = self._blocks(batch, tokens.grid)
        with torch.no_grad():
            wanted = normal(self.teacher.net.trunk(self.teacher.net.tokenize(view)).patches[targets])  # type: ignore[operator]
        kept, places = _taken(tokens, context)
        encoded = self.encoder.trunk(kept)
        predicted = self.predictor.head(self.predictor(encoded, places, tokens).patches[targets])
        spread = wanted.std(0, correction=0).mean() if len(wanted) else wanted.sum()
        return {
            "loss": mean(smooth_absolute(predicted, wanted), batch.total), "spread": spread,
            "features": self.encoder.pool(encoded).detach(),
        }  # fmt: skip

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        grid = self.encoder.tokenize(batch.views[0]).grid
        assert grid is not None
        return self._blocks(batch, grid)[1].sum()

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.teacher.update(self.encoder, progress)

    def keep(self) -> Kept:
        return Kept(self.encoder, {"predictor": self.predictor})


def _taken(tokens: Tokens, chosen: Tensor) -> tuple[Tokens, Tensor]:
    """The tokens where `chosen` (B, N) holds, padded to the longest row, and their places (B, K)."""
    many = chosen.sum(1, keepdim=True)
    places = (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(many.max())]
    stays = torch.arange(places.shape[1], device=places.device) < many
    kept = tokens.take(places)
    front = torch.ones(len(stays), kept.prefix, dtype=torch.bool, device=stays.device)
    return replace(kept, valid=torch.cat([front, stays], 1)), places


@full_precision
def normal(x: Tensor) -> Tensor:
    """(M, D) with mean 0 and deviation 1 along D."""
    return F.layer_norm(x, x.shape[1:])
