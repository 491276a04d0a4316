"""DeepCluster v2: views of an example must fall into the cluster that k-means gave it; the clusters are formed anew each epoch.

Paper: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", NeurIPS 2020 (arXiv:2006.09882),
appendix "DeepCluster-v2"; the idea: Caron et al., "Deep Clustering for Unsupervised Learning of Visual Features", ECCV 2018 (arXiv:1807.05520).

When it works: data that fall into groups; several epochs, so that better features make better clusters.
When it fails: less than two epochs (the first clusters are those of an untrained network); strongly unequal groups; more clusters than the data have kinds of things,
by far.
What to watch: `accuracy`, how often a view falls into its example's cluster; `code_perplexity`, the number of clusters in use.

Cost: SimCLR's for two large crops, a quarter of one for each small crop, and once an epoch a forward pass of all rows and up to 20 passes of
spherical k-means on one core (rows x clusters x width).  Rows do not meet in the loss: micro-batches add up where nothing is normalised over the batch.

Scaled to the budget: 3 x 3000 clusters of 1.3 million pictures -> one set of 256 (at most half as many as rows); clusters are formed from clean views in a pass of
their own, where the paper takes last epoch's augmented ones; 6 small crops -> 2; batch 4096 -> 256; LARS -> AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, encode, random
from ..losses import logged, mean, per_token
from ..measures import spherical_kmeans
from ..nets.heads import MLP


class DeepClusterV2(Method):
    """Clusters of the representation as labels, formed anew each epoch."""

    family: ClassVar[str] = "clustering"
    paper: ClassVar[str] = "Caron et al. 2020, DeepCluster-v2, in Unsupervised Learning of Visual Features by Contrasting Cluster Assignments"  # fmt: skip
    aliases: ClassVar[tuple[str, ...]] = ("deepcluster",)
    needs: ClassVar[frozenset[str]] = frozenset({"augment", "local"})
    refresh_at: ClassVar[tuple[Duration, ...]] = (Duration(1, "epochs"),)

    clusters: int = 256
    """Number of clusters; at most half as many as rows."""
    crops: int = 2
    """Small crops of each example, beside the two large ones."""
    temperature: float = 0.1
    """Divides the cosines to the centroids."""
    hidden: int = 512
    """Hidden width of the projector."""
    width: int = 128
    """Output width of the projector, where clusters are formed."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside the projector.  Only without batch normalisation, here and in the encoder, can a step be accumulated."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={
                "batch": "4096 -> 256, because a short run needs steps",
                "clusters": f"3000 -> {self.clusters}",
                "crops": f"6 small crops -> {self.crops}",
                "optimizer": "LARS at 4.8 -> AdamW, for this batch",
            },
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        large = [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]
        return large + [ViewSpec(facts.modality.local(facts), role="local") for _ in range(self.crops)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.hidden, self.width), norm=self.norm)
        self.count_of = max(2, min(self.clusters, facts.rows // 2))
        self.register_buffer("centroids", F.normalize(torch.randn(self.count_of, self.width), dim=1))
        self.register_buffer("ids", torch.arange(facts.rows))
        self.register_buffer("assigned", torch.arange(facts.rows) % self.count_of)
        return self

    def refresh(self, sweep: Iterable[Batch]) -> None:
        ids, embedded, key = [], [], 0
        for batch in sweep:
            key = random.key(batch.seed, batch.step, "k-means")
            embedded.append(self.projector(encode(self.encoder, batch.views)[0]).float())
            ids.append(batch.index)
        order = torch.cat(ids).argsort()
        centroids, cluster = spherical_kmeans(torch.cat(embedded)[order], self.count_of, key=key)
        self.get_buffer("centroids").copy_(centroids)
        self.get_buffer("ids").copy_(torch.cat(ids)[order])
        self.get_buffer("assigned").copy_(cluster)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        views = batch.of("global") + batch.of("local")
        features = encode(self.encoder, views)
        embedded = self.projector(torch.cat(features))
        embedded = embedded.float() if embedded.dtype in (torch.float16, torch.bfloat16) else embedded
        wanted = self.get_buffer("assigned")[torch.searchsorted(self.get_buffer("ids"), batch.index)]
        with torch.autocast(embedded.device.type, enabled=False):
            scores = F.normalize(embedded, dim=1) @ self.get_buffer("centroids").to(embedded.dtype).T
        per_view = per_token(scores / self.temperature, wanted.repeat(len(views)), True).view(len(views), -1)
        right = (scores.argmax(1) == wanted.repeat(len(views))).to(scores.dtype).view(len(views), -1)
        used = torch.bincount(self.get_buffer("assigned"), minlength=self.count_of) / len(self.get_buffer("ids"))
        return {
            "loss": mean(per_view.mean(0), batch.total), "accuracy": logged(right.mean(0)),
            "baseline": scores.new_tensor(math.log(self.count_of)), "codes": scores.new_tensor(self.count_of),
            "code_perplexity": torch.special.entr(used).sum().exp(), "features": features[0].detach(), "positives": features[1].detach(),
        }  # fmt: skip

    def nearness(self, batch: Batch) -> Tensor:
        embedded = F.normalize(self.projector(self.encoder(batch.views[0])), dim=1)
        return embedded @ self.get_buffer("centroids").to(embedded.dtype).T

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector})
