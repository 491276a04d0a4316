"""HuBERT: predict, in hidden places, which cluster of sounds the frame belongs to; the clusters are found beforehand, and later anew in what was learned.

Paper: Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units", TASLP 2021 (arXiv:2106.07447); objective:
equations 1 to 3.

When it works: speech, as wav2vec 2.0 but steadier: its targets do not move while it learns, and no codebook can collapse.
When it fails: little sound, where the clusters of cepstra are mostly loudness and voice; sounds whose order says nothing.
What to watch: `accuracy` against `baseline`; `code_perplexity`, the clusters that the batch's frames fall into; it falls to 1 where all sounds are alike.

The first iteration's clusters are of mel cepstra with their slopes (39 numbers a frame), the later ones' of an inner layer of the encoder as it stood when they began; k-means sees
the rows of training alone, once, and stays as it is in between.  Centroids, scaling and what the features were are saved with the model.

Cost: the stem is most of it, as for wav2vec 2.0; from the second iteration on the frames pass once more through the kept encoder up to that layer.  Rows do not meet in
the loss: micro-batches add up.

Scaled to the budget: 7 x 512 channels, 12 x 768 -> 7 x 128 and 4 x 128; 100 clusters, then 500 -> 100 throughout; a network from scratch for each iteration -> one that goes on; cepstra
every 10 ms -> one for each frame; each dimension is standardised, so that loudness does not outweigh the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, dist, random
from ..losses import logged, mean, per_token
from ..nets.blind import BlindGuess
from ..nets.heads import Linear, Prototypes
from ..nets.hidden_frames import clips_in, hide, typical_frames
from ..nets.ragged import picked
from ..nets.units import Units
from ..views.spans import span_masks

FITTED = 1 << 17
"""Frames that k-means sees, at most about."""


class HuBERT(Method):
    """Predicts the clusters of hidden frames."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = "Hsu et al. 2021, HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units"  # fmt: skip
    needs: ClassVar[frozenset[str]] = frozenset({"sound", "stem", "stages"})
    commits: ClassVar[frozenset[str]] = frozenset({"seen"})
    refresh_at: ClassVar[tuple[Duration | float, ...]] = (0.5,)

    clusters: int = 100
    """Clusters of each iteration."""
    iterations: int = 2
    """How often clusters are formed: at the start of cepstra, then of the encoder."""
    layer: int = 0
    """The block whose output later iterations cluster, from 1; 0: the one in the middle."""
    share: float = 0.8
    """Spans begin in share / span of a clip's frames; as they overlap, some half of the frames are hidden."""
    span: int = 10
    """Frames in a span; at most a quarter of the clip's."""
    temperature: float = 0.1
    """Divides the cosines."""
    code_width: int = 128
    """Dimensions in which frames meet the clusters' learned vectors."""
    unmasked: float = 0.0
    """Weight of the same loss in places that are not hidden."""
    stem_gradient: float = 0.1
    """What of its gradient reaches the stem."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        rows = clips_in(60 if cpu else 600, facts.modality)
        return Recipe(
            batch=rows, optimizer="adamw", lr=5e-4, weight_decay=0.01, betas=(0.9, 0.98), warmup=0.1, schedule="linear", clip=1.0,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"batch": f"47 minutes of speech -> {rows} clips", "clusters": f"100, then 500 -> {self.clusters}"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder, self.refresh_at = encoder, (1 / max(1, self.iterations),)  # type: ignore[misc]
        encoder.architecture = "hubert"  # type: ignore[assignment]
        self.units = Units(encoder, self.clusters, self.iterations, self.layer)  # type: ignore[arg-type]
        self.projector = Linear(encoder.dim, self.code_width)
        self.prototypes = Prototypes(self.code_width, self.clusters)
        self.blind = BlindGuess(self.clusters)
        self.taken = min(1.0, FITTED / max(1, facts.rows * typical_frames(encoder, facts.modality)))  # type: ignore[arg-type]
        return self

    def _frames(self, batch: Batch) -> Tensor:
        return self.encoder.frames(batch.views[0]["length"])  # type: ignore[operator]

    def _hidden(self, batch: Batch) -> Tensor:
        """(B, T) bool: the frames that are hidden."""
        return span_masks(self._frames(batch), batch.draw(), self.share, self.span)

    def refresh(self, sweep: Iterable[Batch]) -> None:
        held, key, progress = [], 0, 0.0
        self.units.begin(self.encoder)  # type: ignore[arg-type]
        for batch in sweep:
            progress, key = batch.progress, random.key(batch.seed, batch.step, "k-means")
            found, layout = self.units.features(batch.views[0], progress, self._frames(batch))
            chance = batch.draw().uniform("fitted", layout.valid.shape[1])[layout.valid]
            held.append(found[chance < self.taken].float().cpu())
        self.units.fit(torch.cat(held), progress, key=key)
        self.blind.counts.zero_()  # type: ignore[union-attr]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        label = self.units(batch.views[0], batch.progress, self._frames(batch))
        heard = hide(self.encoder, batch.views[0], self._hidden(batch), self.stem_gradient)  # type: ignore[arg-type]
        at = (torch.ones_like(heard.hidden) if self.unmasked else heard.hidden).nonzero()[:, 0]
        wanted, masked = label[at], heard.hidden[at]
        scores = self.prototypes(self.projector(picked(heard.context, at)))
        nats = per_token(scores / self.temperature, wanted, True)
        totals = [None, None] if batch.total is None else [*batch.total.reshape(-1), None]
        loss = mean(nats[masked], totals[0])
        if self.unmasked:
            loss = loss + self.unmasked * mean(nats[~masked], totals[1])
        met = dist.total(torch.bincount(label, minlength=self.clusters).to(nats.dtype))
        return {
            "loss": loss, "accuracy": logged((scores.argmax(1) == wanted)[masked].to(nats.dtype)), "masked": logged(heard.hidden.to(nats.dtype)),
            "codes": nats.new_tensor(self.clusters), "code_perplexity": torch.special.entr(met / met.sum().clamp_min(1)).sum().exp(),
            **self.blind(wanted[masked]), **heard.ranks(), "features": heard.pooled,
        }  # fmt: skip

    @torch.no_grad()
    def count(self, batch: Batch) -> Tensor:
        hidden = self._hidden(batch).sum()
        if not self.unmasked:
            return hidden
        return torch.stack([hidden, self._frames(batch).sum() - hidden])

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.blind.commit(outputs)

    def keep(self) -> Kept:
        dictionary, about = self.units.kept()
        parts = {"projector": self.projector, "prototypes": self.prototypes, "dictionary": dictionary}
        return Kept(self.encoder, parts, sides={"clusters.json": {"clusters": self.clusters, **about}})
