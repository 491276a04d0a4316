"""EMP-SSL: many small crops of an example agree with their mean, and every crop's embeddings fill as much volume as they can.

Paper: Tong, Chen, Ma & LeCun, "EMP-SSL: Towards Self-Supervised Learning in One Training Epoch", 2023 (arXiv:2304.03977); objective: equations 1 to 3,
total coding rate after Yu et al. 2020.

When it works: very few passes over the data: many crops of a picture say at once what other methods meet over many epochs.
When it fails: things that a small crop does not show; batches much smaller than the embedding is wide (the volume of few rows says little).
What to watch: `similarity`, the mean cosine of crops to their mean, towards 1; `coding_rate`, which falls when the embeddings collapse.

Cost: `crops` small forwards and backwards a row: an epoch is not an epoch of other methods, so compare by images forwarded (rows x crops x steps) or by time.
The published figures average the embeddings of many crops of each test picture, which is a trick of evaluation of its own: here a row is embedded once, whole.
Rows of the batch meet in the loss; embeddings are replayed when micro-batches are accumulated, where nothing is normalised over the batch.

Scaled to the budget: 20 to 200 crops of a quarter of the picture, enlarged to its whole side -> 8 of the modality's small crops, at their own small size;
projector 4096-512 -> 512-64; LARS -> AdamW.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, ViewSpec, encode
from ..losses import coding_rate, mean
from ..nets.heads import MLP


class EMPSSL(Method):
    """Many crops, their mean, and the total coding rate."""

    family: ClassVar[str] = "decorrelation"
    paper: ClassVar[str] = "Tong et al. 2023, EMP-SSL: Towards Self-Supervised Learning in One Training Epoch"
    aliases: ClassVar[tuple[str, ...]] = ("empssl",)
    needs: ClassVar[frozenset[str]] = frozenset({"local"})
    couples_rows: ClassVar[bool] = True

    crops: int = 8
    """Small crops of each example."""
    similarity: float = 200.0
    """Weight of the cosine of crops to their mean; the coding rate weighs 1."""
    distortion: float = 0.2
    """How finely volume is measured: epsilon squared of the coding rate."""
    hidden: int = 512
    """Hidden width of the projector."""
    width: int = 64
    """Output width of the projector."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside the projector.  Only without batch normalisation, here and in the encoder, can a step be accumulated."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(30, "epochs"),
            scaled={
                "crops": f"20 -> {self.crops}, so that a step stays short",
                "projector": f"4096-512 -> {self.hidden}-{self.width}",
                "optimizer": "LARS at 0.3 -> AdamW, for this batch",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.local(facts), role="local") for _ in range(self.crops)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if self.crops < 2:
            raise RequestError(f"crops = {self.crops} have nothing to agree with.", "Give at least 2.")
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.hidden, self.width), norm=self.norm)
        return self

    def _project(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (2, B, D) of the first two crops and embeddings (B, V, P) of all."""
        features = encode(self.encoder, batch.views)
        return torch.stack(features[:2]).detach(), self.projector(torch.cat(features)).unflatten(
            0, (len(features), -1)
        ).transpose(0, 1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features, embedded = self._project(batch)
        return {**self.couple(embedded), "features": features[0], "positives": features[1]}

    def embed(self, batch: Batch) -> Tensor:
        return self._project(batch)[1]

    def couple(self, embedded: Tensor) -> dict[str, Tensor]:
        wide = embedded.float() if embedded.dtype in (torch.float16, torch.bfloat16) else embedded
        unit = F.normalize(wide, dim=-1)
        # the gradient reaches the mean too, as in the paper's code
        likeness = mean(F.cosine_similarity(unit, unit.mean(1, keepdim=True), dim=-1).mean(1))
        volume = coding_rate(unit.transpose(0, 1), distortion=self.distortion).mean()
        return {
            "loss": -self.similarity * likeness - volume, "similarity": likeness.detach(), "coding_rate": volume.detach(),
            "features": embedded[:, 0].detach(), "positives": embedded[:, 1].detach(),
        }  # fmt: skip

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector})
