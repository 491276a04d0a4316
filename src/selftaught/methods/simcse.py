"""SimCSE: the same text twice through the encoder; dropout alone makes the two differ, and they must find one another in the batch.

Paper: Gao, Yao & Chen, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", EMNLP 2021 (arXiv:2104.08821), unsupervised;
objective: equation 4.

When it works: sentences and short texts, on an encoder that knows its words already (`--encoder RUN` of a masked-token run, or a model
from elsewhere): it spreads out representations that crowd into a corner, so that cosines mean something.
When it fails: from fresh weights it learns little more than which words a text holds; long documents; data of one domain, where
telling texts apart teaches little of what they are about (TSDAE or masked tokens help more); a corpus of many near copies, which it pushes
apart (equal texts are left out of one another's negatives).
What to watch: `uniformity` should fall (texts spread over the sphere) while `alignment` stays low; `accuracy` near 1 is usual, since dropout
is a weak change.

Dropout is the whole of the augmentation: without it both passes are the same and nothing is learned.  An encoder that drops nothing gets
`dropout`, fresh or loaded, and is told so; one without a place for it is refused.  Every row of both passes has a mask of its own, bound to
(seed, step, micro-batch, rank): the same in a replay and after resuming, so that accumulation is exact.

Cost: two forward and backward passes a text.

Scaled to the budget: batch 64 as the paper's; lr 3e-5 -> 5e-4, for a small encoder (a loaded one learns at a share of it); [CLS] -> the
encoder's own pooling; the head (one layer and tanh) is used while training only, as in the paper.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, View, ViewSpec, dist
from ..losses import keyed_nce, logged, twin_rows
from ..nets import dropout as drops
from ..views import row_keys

BITS, CHANNELS = 16, 4
"""A row's key travels beside its embeddings as numbers of 16 bits, which every floating-point type but the halves holds exactly."""


class SimCSE(Method):
    """Contrastive learning in which dropout is the only difference between two views."""

    family: ClassVar[str] = "contrastive"
    paper: ClassVar[str] = "Gao et al. 2021, SimCSE: Simple Contrastive Learning of Sentence Embeddings"
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    couples_rows: ClassVar[bool] = True

    temperature: float = 0.05
    """Divides the cosines."""
    dropout: float = 0.1
    """What an encoder that drops nothing is given; one with dropout of its own keeps it (--set encoder_options.dropout=...)."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=64 if cpu else 256, optimizer="adamw", lr=5e-4, weight_decay=0.01, betas=(0.9, 0.98), clip=1.0,
            duration=Duration(5, "minutes") if cpu else Duration(3, "epochs"),
            scaled={"lr": "3e-5 -> 0.0005, for a small encoder", "pooling": "[CLS] -> the encoder's own"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        own = drops.strongest(encoder)
        if not drops.places(encoder):
            raise RequestError(
                f"simcse tells two passes apart by dropout alone, and {encoder.kind} has no place for any: both would be the same.",
                "Take a transformer (leave --encoder out), or a method that changes the input (simclr, tsdae, masked-token).",
            )
        if not own and not 0 < self.dropout < 1:
            raise RequestError(
                f"simcse tells two passes apart by dropout alone; dropout {self.dropout:g} makes both the same, and nothing is learned.",
                "Leave --dropout out (0.1), or give a share between 0 and 1.",
            )
        self.switched = 0 if own else drops.switch_on(encoder, self.dropout)
        self.encoder = encoder
        self.head = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.Tanh())
        return self

    def notes(self) -> list[str]:
        if not self.switched:
            return [f"dropout: {drops.strongest(self.encoder):g}, the encoder's own."]
        return [f"dropout: 0 -> {self.dropout:g} at {self.switched} places of the encoder, as SimCSE needs some."]

    def _twice(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (2, B, D) of two passes, and (B, 2, P + 4): their embeddings with the row's key behind."""
        (view,) = batch.views
        features = self.encoder(View.cat([view, view])).unflatten(0, (2, -1))
        with torch.autocast(features.device.type, enabled=False):
            wide = features if features.dtype == torch.float64 else features.float()
            embedded = self.head(wide).transpose(0, 1)
        shifts = BITS * torch.arange(CHANNELS, device=embedded.device)
        marks = (row_keys(view)[:, None] >> shifts & (1 << BITS) - 1).to(embedded)
        return features, torch.cat([embedded, marks[:, None].expand(-1, 2, -1)], -1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features, embedded = self._twice(batch)
        return {**self.couple(embedded), "features": features[0].detach(), "positives": features[1].detach()}

    def embed(self, batch: Batch) -> Tensor:
        return self._twice(batch)[1]

    def couple(self, embedded: Tensor) -> dict[str, Tensor]:
        vectors, marks = embedded.split([embedded.shape[-1] - CHANNELS, CHANNELS], -1)
        twins = twin_rows(marks[:, 0])
        loss, accuracy = keyed_nce(vectors[:, 0], vectors[:, 1], temperature=self.temperature, twins=twins)
        rivals = len(vectors) * dist.world() - twins.sum(1)  # the own key among them
        return {
            "loss": loss, "accuracy": accuracy, "baseline": logged(rivals.to(loss.dtype).log()),
            "duplicates": logged(twins.any(1).to(loss.dtype)),
            "features": vectors[:, 0].detach(), "positives": vectors[:, 1].detach(),
        }  # fmt: skip

    def keep(self) -> Kept:
        return Kept(self.encoder)
