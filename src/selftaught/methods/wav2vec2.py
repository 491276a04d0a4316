"""wav2vec 2.0: tell the unit of speech that stood in a hidden place from units that stood elsewhere in the clip; the units are learned alongside.

Paper: Baevski et al., "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations", NeurIPS 2020 (arXiv:2006.11477);
objective: equations 2 to 4, with the penalty on the stem's output of the authors' code.

When it works: continuing a published model on speech of one's own; much speech and long runs.
When it fails: small data from scratch (published with 1.6 hours of speech a step for days), where the codebook is unsteady.  Its collapse looks like success: all places get
one code, every negative is then the same thing as the truth and is left out, and the loss is 0; the alarm says so.
What to watch: `code_perplexity`, the codes in use over all groups (the number of groups is collapse, groups x codes the most); `accuracy`; `stem_rank`, `rank`.

Cost: the stem is most of it; codes and comparisons are worked out for hidden frames alone.  Rows meet in the use of codes, of which sums are shared: micro-batches are replayed.

Scaled to the budget: 7 x 512 channels, 12 x 768 -> 7 x 128 and 4 x 128; batch 1.6 hours -> about a minute; temperature 2 -> 0.5 over this run, where 0.999995^step
needs 280,000 steps; Adam -> AdamW; codes 2 x 320 -> 2 x 64, 256 dimensions -> 128.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, dist, random
from ..losses import mean, row_nce
from ..nets.heads import Linear
from ..nets.hidden_frames import clips_in, hide, typical_frames
from ..nets.pretrained_speech import take_head
from ..nets.quantiser import GumbelQuantiser, gumbel
from ..nets.ragged import Layout, picked
from ..views.spans import other_places, span_masks

COLUMNS = 7
"""Of a row's sums, in front of those of its codes: nats, targets, found, blind nats, hidden frames, frames, squares of the stem's output."""


class Wav2Vec2(Method):
    """Tells the quantised frame of a hidden place from those of other places."""

    family: ClassVar[str] = "contrastive"
    paper: ClassVar[str] = "Baevski et al. 2020, wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations"  # fmt: skip
    aliases: ClassVar[tuple[str, ...]] = ("wav2vec-2.0", "wav2vec")
    needs: ClassVar[frozenset[str]] = frozenset({"sound", "stem"})
    couples_rows: ClassVar[bool] = True

    share: float = 0.65
    """Spans begin in share / span of a clip's frames; as they overlap, about half of the frames are hidden."""
    span: int = 10
    """Frames in a span; at most a quarter of the clip's."""
    negatives: int = 100
    """Other hidden frames of its clip that each is held against."""
    temperature: float = 0.1
    """Divides the cosines."""
    groups: int = 2
    """Codebooks whose choices stand side by side."""
    codes: int = 64
    """Codes in each."""
    code_width: int = 128
    """Dimensions of all groups' codes together, and of the space in which they are compared."""
    diversity: float = 0.1
    """Weight of the share of codes that are not used."""
    penalty: float = 10.0
    """Weight of the mean square of the stem's output."""
    stem_gradient: float = 0.1
    """What of its gradient reaches the stem."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        rows = clips_in(60 if cpu else 600, facts.modality)
        return Recipe(
            batch=rows, optimizer="adamw", lr=5e-4, weight_decay=0.01, betas=(0.9, 0.98), warmup=0.1, schedule="linear", clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"batch": f"1.6 hours of speech -> {rows} clips", "codes": f"2 x 320 -> {self.groups} x {self.codes}"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder, stem = encoder, encoder.channels[-1]  # type: ignore[index]
        self.quantiser = GumbelQuantiser(int(stem), self.groups, self.codes, self.code_width)
        self.predictor, self.target = Linear(encoder.dim, self.code_width), Linear(self.code_width, self.code_width)
        self.went_on = take_head(encoder, self.quantiser, self.predictor, self.target)  # type: ignore[arg-type]
        self.typical = typical_frames(encoder, facts.modality)  # type: ignore[arg-type]
        self.minutes = (facts.batch or 0) * self.typical * encoder.hop / facts.modality.rate / 60  # type: ignore[operator]
        return self

    def notes(self) -> list[str]:
        said = [self.went_on] if self.went_on else []
        if 0 < self.minutes < 30:
            said.append(
                f"a step hears {self.minutes:.1f} minutes of sound; wav2vec 2.0 was published with 96: expect an unsteady codebook. More rows, continuing a published model (--encoder transformers:FOLDER), or a method on log-mel energies is steadier."
            )
        if (own := max(1, self.typical // 4)) < self.span:
            said.append(f"a typical clip has {self.typical} frames: spans of {own} instead of {self.span}.")
        return said

    def _rows(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """((B, 7 + groups x codes) sums over each row's places: COLUMNS, then of its codes' probabilities; what is logged besides)."""
        (view,), draw = batch.views, batch.draw()
        hidden = span_masks(self.encoder.frames(view["length"]), draw, self.share, self.span)  # type: ignore[operator]
        heard = hide(self.encoder, view, hidden, self.stem_gradient)  # type: ignore[arg-type]
        counted = Layout(hidden & (hidden.sum(1, keepdim=True) > 1))
        at = heard.layout.pack(counted.valid).nonzero()[:, 0]
        chosen = Layout.of(counted.lengths)
        each = replace(draw, index=random.bits(draw.key("place"), draw.index)[counted.owner] + counted.position)
        noise = gumbel(each.uniform("gumbel", self.groups, self.codes)) if self.training else None
        vectors, code, shares = self.quantiser(picked(heard.normed, at), noise)
        number = (code * self.codes ** torch.arange(self.groups, device=code.device)).sum(1)
        with torch.autocast(vectors.device.type, enabled=False):
            predicted, wanted = self.predictor(picked(heard.context, at).to(vectors.dtype)), self.target(vectors)
        nats, found, left = row_nce(
            chosen.pad(predicted), chosen.pad(wanted), chosen.pad(number), chosen.valid,
            other_places(chosen.lengths, draw, self.negatives, chosen.valid.shape[1]), temperature=self.temperature,
        )  # fmt: skip
        wide = lambda x: x.to(nats.dtype)  # noqa: E731
        squares = heard.layout.pad(wide(heard.frames).square().mean(1)).sum(1)
        sums = [nats.sum(1), wide(chosen.lengths), found.sum(1), torch.log1p(left).sum(1), wide(hidden.sum(1)), wide(heard.layout.lengths), squares]  # fmt: skip
        rows = torch.cat([torch.stack(sums, 1), chosen.pad(shares.flatten(1)).sum(1)], 1)
        return rows, {"features": heard.pooled, **heard.ranks(), "temperature": self.quantiser.temperature.clone()}

    def embed(self, batch: Batch) -> Tensor:
        return self._rows(batch)[0]

    def couple(self, embedded: Tensor) -> dict[str, Tensor]:
        sums = dist.total(embedded[:, :COLUMNS].sum(0))
        targets, frames = sums[1].clamp_min(1), sums[5].clamp_min(1)
        contrastive, squares = mean(embedded[:, 0], sums[1]), mean(embedded[:, 6], sums[5])
        shares = dist.sum_all(embedded[:, COLUMNS:].sum(0)).view(self.groups, self.codes) / targets
        entropy = -(shares * shares.clamp_min(torch.finfo(shares.dtype).tiny).log()).sum(1)
        perplexity, codes = entropy.exp().sum(), self.groups * self.codes
        unused = (codes - perplexity) / codes
        beside = self.diversity * unused.detach() + self.penalty * sums[6] / frames  # who guesses blindly pays it too
        shown = {"contrastive": sums[0], "accuracy": sums[2], "baseline": sums[3] + beside * targets}
        return {
            "loss": contrastive + self.diversity * unused + self.penalty * squares, **{k: v / targets for k, v in shown.items()},
            "masked": sums[4] / frames, "penalty": sums[6] / frames, "diversity": unused.detach(), "code_perplexity": perplexity.detach(),
            "codes": shares.new_tensor(codes), "code_groups": shares.new_tensor(self.groups),
        }  # fmt: skip

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        rows, more = self._rows(batch)
        return self.couple(rows) | more

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.quantiser.anneal(progress)

    def keep(self) -> Kept:
        return Kept(self.encoder, {"quantiser": self.quantiser, "predictor": self.predictor, "target": self.target})
