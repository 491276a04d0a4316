"""ELECTRA: a small generator fills gaps, and the encoder tells of every token whether it is the original or the generator's.

Paper: Clark et al., "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", ICLR 2020 (arXiv:2003.10555).

When it works: small budgets: every token teaches, not one in seven, and the large head runs on the small generator's gaps alone.
When it fails: to generate or to fill gaps (the generator is dropped); a generator as large as the encoder, whose fakes cannot be told.
What to watch: `auc`, the chance that a replaced token looks more replaced than an original one (0.5 is blind); accuracy would say little, since
some nine tokens in ten are originals.  `replaced` is their share: a generator that guesses right leaves fewer.

A token that the generator happens to guess right counts as original.  The sampling carries no gradient: the generator learns to fill gaps, not
to deceive.  Both share the token embedding (through a projection where their widths differ), nothing else.

Cost: one forward and backward of encoder and generator; the vocabulary's logits at hidden tokens, twice.

Scaled to the budget: batch 128 x 128 tokens -> 64 rows; weight 50 and a generator of a quarter of the width as for the paper's small model.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Target, Tokens, View, ViewSpec
from ..losses import binary_nats, head_loss, logged, mean
from ..measures import ranked_above
from ..nets.blind import BlindGuess
from ..nets.heads import LanguageHead, Linear
from ..views import random_tokens


class ELECTRA(Method):
    """Tells replaced tokens from originals."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = (
        "Clark et al. 2020, ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators"
    )
    aliases: ClassVar[tuple[str, ...]] = ("replaced-token",)
    needs: ClassVar[frozenset[str]] = frozenset({"target", "tokens", "vocabulary"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})

    ratio: float = 0.15
    """Share of each row's tokens that the generator fills in."""
    generator: float = 0.25
    """Width and heads of the generator as a share of the encoder's."""
    packing: Literal["isolated", "bos_bestfit", "none"] = "isolated"
    """Texts: packed into sequences without padding so that they cannot see one another, so that they can, or one text a row."""
    weight: float = 50.0
    """Of the encoder's loss beside the generator's."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 256, optimizer="adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(40, "epochs"),
            scaled={"batch": f"128 rows of 128 tokens -> {64 if cpu else 256} rows", "lr": "5e-4 -> 0.001, for a small encoder"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        embedding, heads = getattr(encoder, "embedding", None), getattr(encoder, "heads", 0)
        if embedding is None or not heads or not hasattr(encoder, "blocks"):
            raise RequestError(
                f"electra makes its generator of the encoder's own kind, which {encoder.kind!r} does not allow.",
                "Leave --encoder out, or take text-transformer.",
            )
        self.encoder, self.modality, wide = encoder, facts.modality, embedding.embedding_dim
        fewer = max(1, round(heads * self.generator))
        narrow = max(1, round(wide * self.generator / fewer)) * fewer
        _, target = facts.example(encoder, facts.modality.mild(facts))
        self.small = encoder.sibling(
            width=narrow, heads=fewer
        ).blocks  # its own embedding goes: the encoder's serves both
        self.narrow = nn.Identity() if narrow == wide else Linear(wide, narrow)
        self.fill = LanguageHead(narrow, target.outputs, predicts="own", eps=getattr(encoder, "eps", 1e-5), inner=wide)
        self.fill.weight = embedding.weight  # type: ignore[assignment]
        self.judge = nn.Sequential(Linear(wide, wide), nn.GELU(), Linear(wide, 1))
        self.blind = BlindGuess(target.classes)
        return self

    def _target(self, batch: Batch) -> tuple[Target, Tensor, Tensor]:
        """Target, (B, L) bool of the tokens to fill in, and of all that are judged.  A row's choice depends on that row alone."""
        (view,) = batch.views
        with torch.no_grad():
            tokens = self.encoder.tokenize(view)
        target = self.modality.target(view, tokens.grid)
        able = target.valid if tokens.content is None else target.valid & tokens.content
        return target, random_tokens(batch.draw(), able, self.ratio), able

    def _filled(self, batch: Batch, target: Target, chosen: Tensor) -> tuple[View, Tensor]:
        """The view with the generator's tokens in the chosen places, and (M, D) what it knows of them."""
        (view,) = batch.views
        tokens: Tokens = self.encoder.tokenize(self.modality.corrupt(view, chosen, None, batch.draw()))
        known = self.small(tokens.with_values(self.narrow(tokens.values))).values[chosen]  # type: ignore[operator]
        chance = batch.draw().uniform("generator", chosen.shape[1])[chosen]
        values = target.values.clone()
        values[chosen] = sampled(known, self.fill, chance, max(1, (1 << 24) // target.outputs))
        return self.modality.untarget(values, view, tokens.grid), known

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        target, chosen, able = self._target(batch)
        gaps, judged = (None, None) if batch.total is None else batch.total
        view, known = self._filled(batch, target, chosen)
        generator = head_loss(known, self.fill, target, chosen, gaps)
        read = self.encoder.trunk(self.encoder.tokenize(view))
        score = self.judge(read.values[able])[:, 0]
        replaced = (self.modality.target(view, read.grid).values != target.values)[able]
        judge = mean(binary_nats(score, replaced), judged)
        guess, share = self.blind(target.values[chosen]), logged(replaced.to(score.dtype))
        blind = torch.special.entr(torch.stack([share, 1 - share])).sum()
        guess["baseline"] = guess["baseline"] + self.weight * blind
        return {
            "loss": generator + self.weight * judge, "features": self.encoder.pool(read).detach(), "generator": generator.detach(),
            "discriminator": judge.detach(), "auc": ranked_above(score.detach(), replaced), "replaced": share, **guess,
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.blind.commit(outputs)

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        return torch.stack([one.sum() for one in self._target(batch)[1:]])

    def keep(self) -> Kept:
        return Kept(self.encoder)


@torch.no_grad()
def sampled(known: Tensor, head: nn.Module, chance: Tensor, rows: int) -> Tensor:
    """(M,) ids drawn from the softmax of head(known), `known` (M, D), by (M,) uniform numbers: where the distribution function passes them.

    As exact as Gumbel noise, for one random number a token instead of one for each id; `rows` go through the head at once."""
    out = []
    for some, number in zip(known.split(rows), chance.split(rows), strict=True):
        with torch.autocast(some.device.type, enabled=False):
            logits = head(some.float() if some.dtype in (torch.float16, torch.bfloat16) else some)
        reached = F.softmax(logits, dim=-1).cumsum(-1)
        out.append((reached <= number[:, None].to(reached.dtype) * reached[:, -1:]).sum(-1))
    return torch.cat(out).clamp_max(head.out_features - 1)  # type: ignore[union-attr, operator]
