"""BEST-RQ: hide stretches of a sound and name the random codes of what was hidden.

Paper: Chiu et al., "Self-supervised Learning with Random-projection Quantizer for Speech Recognition", ICML 2022 (arXiv:2202.01855); several codebooks, each with
a head of its own: Zhang et al., "Google USM", 2023 (arXiv:2303.01037), section 3.1.

When it works: speech, on small machines: targets cost a product of matrices, and there are neither negatives nor a teacher, so that nothing can collapse; before
finetuning, and for what is read off token by token.
When it fails: as frozen features of a whole clip after a short run: codes hold speaker and channel as well as content.  Features that are not normalised project to
one side, and few codes are used (`code_perplexity` near 1).
What to watch: `loss` against `baseline`, nats of one who knows how often each code occurs; `code_perplexity`, of `codes`; `masked`, the share of the tokens
that really was hidden.

Targets are log-mel energies, normalised by the data set's mean and deviation and then by those of each clip and band over its true frames, which takes
microphone and average voice out of them.  Masks are spans from true lengths; clips of one or two tokens have none.

Cost: one forward and backward of all tokens; the heads run on masked tokens only.

Scaled to the budget: one codebook of 8192 -> 4 of 256, as a batch of short clips holds a thousand tokens; share 0.4 (starts with chance 0.01 at each frame, of 400 ms) -> 0.5 in
spans of 3 tokens (120 ms), a quarter of the clip at most; batch 2048 -> 64; noise of deviation 0.1 -> the encoder's mask token (--replace noise is the paper's).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Draw, Duration, Encoder, Facts, Kept, Method, Recipe, View, ViewSpec
from ..losses import full_precision, logged, mean, per_token
from ..nets.blind import BlindGuess
from ..nets.heads import Linear
from ..nets.random_codes import RandomCodes
from ..nets.sound import heard
from ..views.spans import span_masks


class BestRQ(Method):
    """Predicts random codes of hidden stretches."""

    family: ClassVar[str] = "generative"
    paper: ClassVar[str] = "Chiu et al. 2022, Self-supervised Learning with Random-projection Quantizer"
    aliases: ClassVar[tuple[str, ...]] = ("bestrq",)
    needs: ClassVar[frozenset[str]] = frozenset({"sound", "target", "tokens"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})

    share: float = 0.5
    """Share of each clip's tokens that are hidden and predicted."""
    span: int = 3
    """Tokens in a hidden stretch; of a short clip a quarter of it at most."""
    codebooks: int = 4
    """Random codebooks, each predicted by a head of its own."""
    codes: int = 256
    """Codes in each."""
    width: int = 16
    """Numbers in a code."""
    replace: Literal["token", "noise"] = "token"
    """What stands where something was hidden: the encoder's mask token, or noise of a tenth of the data's deviation."""
    drawn: int = 0
    """The seed of projections and codes."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 512, optimizer="adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), warmup=0.1, clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(400, "epochs"),
            scaled={
                "batch": f"2048 -> {64 if cpu else 512}, because a short run needs steps",
                "codes": f"8192 in one codebook -> {self.codes} in {self.codebooks}, for small data",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder, self.modality = encoder, facts.modality
        tokens, target = facts.example(encoder, facts.modality.mild(facts))
        self.quantiser = RandomCodes(
            inputs=target.outputs, codebooks=self.codebooks, codes=self.codes, width=self.width, seed=self.drawn
        )
        self.head = Linear(tokens.values.shape[-1], self.codebooks * self.codes)
        self.blind = BlindGuess(self.codebooks * self.codes)
        return self

    def _target(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...] | None]:
        """Codes (M, codebooks) of the M hidden tokens, (B, N) bool which those are, (B,) how many tokens there are, and the grid."""
        (view,) = batch.views
        with torch.no_grad():
            grid = self.encoder.tokenize(view).grid
        target = self.modality.target(view, grid)
        lengths, width = target.valid.sum(1), target.valid.shape[1]
        chosen = span_masks(lengths, batch.draw(), self.share, self.span, width=width)
        normal = by_clip(target.values.unflatten(2, (-1, self.modality.bands)), self.modality.mel(view)[1])
        return self.quantiser(normal.flatten(2)[chosen]), chosen, lengths, grid

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        codes, chosen, lengths, grid = self._target(batch)
        if self.replace == "noise":
            hidden = drowned(view, chosen, self.modality, batch.draw())
        else:
            hidden = self.modality.corrupt(view, chosen, grid, batch.draw())
        known, summary = self.encoder.read(self.encoder.tokenize(hidden), chosen)
        nats = per_token(self.head(known).unflatten(1, (self.codebooks, -1)).flatten(0, 1), codes.flatten(), True)
        book = torch.arange(self.codebooks, device=codes.device) * self.codes
        guess = self.blind((codes + book).flatten())
        used = guess["seen"].to(nats.dtype).view(self.codebooks, -1)
        used = used / used.sum(1, keepdim=True).clamp_min(1)
        return {
            "loss": mean(nats.view(-1, self.codebooks).mean(1), batch.total), "masked": logged(chosen.sum(1) / lengths.clamp_min(1)),
            **guess, "baseline": guess["baseline"].to(nats.dtype) - math.log(self.codebooks), "codes": nats.new_tensor(self.codes).detach(),
            "code_perplexity": torch.special.entr(used).sum(1).exp().mean(), "features": summary.detach(),
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.blind.commit(outputs)

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        return self._target(batch)[1].sum()

    def keep(self) -> Kept:
        return Kept(self.encoder, {"head": self.head, "quantiser": self.quantiser})


@full_precision
def by_clip(x: Tensor, frames: Tensor) -> Tensor:
    """(B, N, stack, bands) with mean 0 and deviation 1 of every clip and band over its true `frames` (B,); 0 behind the end."""
    flat = x.flatten(1, 2)
    there = (torch.arange(flat.shape[1], device=x.device) < frames[:, None])[..., None]
    count = frames[:, None, None].clamp_min(1)
    centred = (flat - (flat * there).sum(1, keepdim=True) / count) * there
    return (centred / (centred.square().sum(1, keepdim=True) / count + 0.01).sqrt()).view_as(x)


def drowned(view: View, chosen: Tensor, modality: Any, draw: Draw) -> View:
    """The log-mel energies of a view with noise, of mean 0 and deviation 0.1 of the data's, in the frames of `chosen` (B, N) tokens."""
    mel, frames = heard(view, modality.front.to(view.device))
    hit = chosen.repeat_interleave(-(-mel.shape[1] // chosen.shape[1]), 1)[:, : mel.shape[1], None]
    noise = 0.1 * draw.normal("noise", *mel.shape[1:]).to(mel.dtype) * mel.new_tensor(modality.std) + mel.new_tensor(
        modality.mean
    )
    return View(view.modality, view.role, {"mel": torch.where(hit, noise, mel), "length": frames})
