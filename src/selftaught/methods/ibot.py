"""iBOT: DINO's soft classes for whole pictures, and the same for every hidden patch: what would the teacher, who sees it, call it?

Paper: Zhou et al., "iBOT: Image BERT Pre-Training with Online Tokenizer", ICLR 2022 (arXiv:2111.07832); objective: equations 2 and 3.  The pair of losses of Oquab
et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024 (arXiv:2304.07193), with --centring sinkhorn and --no-shared.

When it works: long runs of vision transformers, where patches are to be told apart too (segmentation, retrieval of parts); large data.
When it fails: short runs and small data, where simclr leads; few patches (nothing to guess from); a teacher whose answers are flat (--sharp lower).
What to watch: `code_perplexity`, the number of classes that the teacher uses: 1 is a collapse; losses stuck at ln(prototypes) are the other.
Cost: that of its views through a vision transformer, and the teacher's forward of the two large ones; twice the parameters.  Rows meet in centring and in the KoLeo
term, and no replay is offered: accumulation is refused.
Scaled to the budget: batch 1024 -> 64; 8,192 classes (DINOv2: 65,536) -> 128; the teacher's temperature ends at 0.05, not 0.07, and KoLeo is on, as in DINOv2, without which
a few hundred steps stay flat; heads 2048-2048-256 -> 256-256-64; 10 small crops -> 2; momentum 0.996 -> 0.95, for few steps; masks of 0.3, where the paper varies them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn as nn
from torch import Tensor

from .. import losses
from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, View, ViewSpec, encode
from ..nets.heads import SoftClasses
from ..nets.teacher import Teacher
from ..views import hidden_tokens


class IBOT(Method):
    """Self-distillation of the whole and of hidden patches."""

    family: ClassVar[str] = "distillation"
    paper: ClassVar[str] = "Zhou et al. 2022, iBOT: Image BERT Pre-Training with Online Tokenizer"
    aliases: ClassVar[tuple[str, ...]] = ("dinov2",)
    needs: ClassVar[frozenset[str]] = frozenset({"augment", "local", "target", "tokens"})
    couples_rows: ClassVar[bool] = True
    commits: ClassVar[frozenset[str]] = frozenset({"centres"})

    prototypes: int = 128
    """Number of soft classes."""
    crops: int = 2
    """Small crops of each example, beside the two large ones."""
    ratio: float = 0.3
    """Share of the tokens that are hidden; half of the large views have any."""
    shared: bool = True
    """Whether patches go through the head of the whole (iBOT) or one of their own (DINOv2)."""
    centring: Literal["mean", "sinkhorn"] = "mean"
    """What keeps the teacher's classes in even use: a running mean that is subtracted (iBOT), or Sinkhorn-Knopp (DINOv2)."""
    koleo: float = 0.1
    """Weight of the term that drives representations of different rows apart, as DINOv2 has it; iBOT: 0."""
    resting: float = 0.1
    """Share of the run, at its start, during which the prototypes stay where they were drawn."""
    sharp: float = 0.05
    """Divides the teacher's scores (the student's: 0.1); it rises to this from four sevenths of it over the first tenth of the run."""
    momentum: float = 0.95
    """How much of the teacher stays at each step, at the start; it rises to 1 over the run."""
    hidden: int = 256
    """Hidden width of the heads."""
    width: int = 64
    """Output width of the heads, where classes are compared."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 256, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=0.04, betas=(0.9, 0.98), warmup=0.1, clip=3.0,
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={"batch": f"1024 -> {64 if cpu else 256}, because a short run needs steps", "prototypes": f"8192 -> {self.prototypes}"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        large = [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]
        return large + [ViewSpec(facts.modality.local(facts), role="local") for _ in range(self.crops)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder, self.modality = encoder, facts.modality
        width = facts.example(encoder, facts.modality.augment(facts))[0].values.shape[-1]
        if self.shared and width != encoder.dim:
            raise RequestError(f"Tokens of {width} and rows of {encoder.dim} numbers share no head: say --no-shared.")
        sizes = (self.hidden, self.hidden, self.width)
        self.head = SoftClasses((encoder.dim, *sizes), self.prototypes)
        self.token_head = self.head if self.shared else SoftClasses((width, *sizes), self.prototypes)
        self.teacher = Teacher(self._student(), start=self.momentum)
        self.register_buffer("centres", torch.zeros(2, self.prototypes))
        return self

    def _student(self) -> nn.ModuleDict:
        return nn.ModuleDict({"encoder": self.encoder, "head": self.head, "token_head": self.token_head})

    def _hidden(self, batch: Batch, number: int) -> tuple[Tensor, View]:
        """(B, N) bool, which tokens of large view `number` are hidden, and the view without them."""
        view, draw = batch.of("global")[number], batch.draw(number)
        with torch.no_grad():
            tokens = self.encoder.tokenize(view)
        able = self.modality.target(view, tokens.grid).valid & tokens.told
        span = getattr(self.modality, "span", 1)
        chosen = hidden_tokens(draw, able, tokens.grid, self.ratio, span=span) & (draw.uniform("masked", 1) < 0.5)
        return chosen, self.modality.corrupt(view, chosen, tokens.grid, draw)

    def _targets(self, scores: Tensor, which: int, progress: float) -> Tensor:
        """(M, K) the teacher's classes, of pictures (which = 0) or patches (1)."""
        sharp = self.sharp * (4 + 3 * min(1.0, progress / 0.1)) / 7
        if self.centring == "sinkhorn":
            return losses.sinkhorn(scores, epsilon=sharp)
        return ((scores - self.get_buffer("centres")[which].to(scores.dtype)) / sharp).softmax(1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        large, small = batch.of("global"), batch.of("local")
        masks, views = zip(*(self._hidden(batch, number) for number in range(len(large))), strict=True)
        features, patches = _read(self.encoder, views, masks)
        rest = batch.progress < self.resting
        scores = self.head(torch.cat(features + encode(self.encoder, small)), rest).chunk(len(batch.views))
        with torch.no_grad():
            net: Any = self.teacher.net
            seen, named = _read(net["encoder"], large, masks)
            seen, named = net["head"](torch.cat(seen)), net["token_head"](named)
            wanted = list(self._targets(seen, 0, batch.progress).chunk(len(large)))
            meant = self._targets(named, 1, batch.progress)
        off = losses.soft_cross_entropy(meant, self.token_head(patches, rest), temperature=0.1)
        parts = zip(off.split([int(m.sum()) for m in masks]), masks, strict=True)
        tokens = losses.mean(torch.stack([losses.by_row(part, m) for part, m in parts]))
        whole = losses.swapped_prediction(wanted, list(scores), temperature=0.1)
        apart = torch.stack([losses.koleo(f) for f in features]).mean() if self.koleo else 0 * whole
        share = losses.logged(torch.stack([m.any(1) for m in masks]).to(whole.dtype))
        return {
            "loss": whole + tokens + self.koleo * apart, "class_loss": whole.detach(),
            "token_loss": tokens.detach() / share.clamp_min(1e-6), "baseline": math.log(self.prototypes) * (1 + share), "codes": share.new_tensor(self.prototypes),
            "code_perplexity": losses.perplexity(wanted[0]), "centres": torch.cat([losses.middle(seen), losses.middle(named)]),
            "features": features[0].detach(), "positives": features[1].detach(),
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.teacher.update(self._student(), progress)
        centres = self.get_buffer("centres")
        centres.lerp_(outputs.get("centres", centres).to(centres.dtype), 0.1)

    def keep(self) -> Kept:
        heads = {"": self.head} | ({} if self.shared else {"token_": self.token_head})
        parts = {of + name: part for of, head in heads.items() for name, part in zip(("projector", "prototypes"), head)}
        return Kept(self.encoder, parts)


def _read(encoder: Encoder, views: Sequence[View], masks: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Representations (B, D) of each view, and all tokens (M, D) where a mask (B, N) holds."""
    read = [encoder.trunk(encoder.tokenize(view)) for view in views]
    hidden = [tokens.patches[mask] for tokens, mask in zip(read, masks, strict=True)]
    return [encoder.pool(tokens) for tokens in read], torch.cat(hidden)
