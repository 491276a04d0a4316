"""A dictionary of sounds: centroids of k-means, and which of them a frame is nearest to."""

from __future__ import annotations

import hashlib
import warnings

import torch
import torch.nn as nn
from torch import Tensor

from ..core import DataError


class Dictionary(nn.Module):
    """(M, width) -> (M,) int64: the nearest of `clusters` centroids, of features brought to mean 0 and variance 1 a dimension.

    Everything lies in buffers, so that checkpoints and saved folders hold it: centroids (clusters, width), shift and scale (width,), and shares (clusters,):
    how often each was met in fitting.
    """

    centroids: Tensor
    shift: Tensor
    scale: Tensor
    shares: Tensor

    def __init__(self, clusters: int, width: int):
        super().__init__()
        if clusters < 2 or width < 1:
            raise ValueError(f"{clusters} clusters in {width} dimensions: two clusters at least")
        self.options = {"clusters": clusters, "width": width}
        self.register_buffer("centroids", torch.empty(clusters, width).normal_())
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("shares", torch.full((clusters,), 1 / clusters))

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        centroids = self.centroids
        x = (features.to(centroids.dtype) - self.shift) / self.scale
        with torch.autocast(x.device.type, enabled=False):
            return torch.addmm(centroids.square().sum(1), x, centroids.T, alpha=-2).argmin(1)

    @torch.no_grad()
    def fit(self, features: Tensor, *, key: int) -> None:
        """k-means in small batches (scikit-learn's, of one seed) on features (M, width): the same on every process.

        With fewer different frames than clusters the rest stays unused.  DataError where the frames fall into fewer than two clusters: labels that are
        all alike teach nothing, at a loss of 0."""
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.exceptions import ConvergenceWarning

        clusters, x = len(self.centroids), features.float()
        if len(x) < 2 or not bool(torch.isfinite(x).all()):
            raise DataError(f"{len(x)} frames, or frames that are not finite, make no dictionary.", "Give more sound.")
        self.shift.copy_(x.mean(0))
        deviation = x.std(0, correction=0)
        self.scale.copy_(torch.where(deviation > 1e-5, deviation, 1.0))
        x = (x - self.shift.to(x.dtype)) / self.scale.to(x.dtype)
        different = len(torch.unique(x[: 1 << 16], dim=0))
        made = min(clusters, different)
        if made > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                found = MiniBatchKMeans(
                    made,
                    random_state=key % (1 << 31),
                    batch_size=10_000,
                    max_iter=100,
                    n_init=3,
                    reassignment_ratio=0.0,
                ).fit(x.cpu().numpy())
            held = torch.from_numpy(found.cluster_centers_).to(self.centroids)
            self.centroids.copy_(torch.cat([held, held[:1].expand(clusters - made, -1)]))
            label = self(features)
            self.shares.copy_(torch.bincount(label, minlength=clusters) / len(label))
        if made < 2 or int((self.shares > 0).sum()) < 2:
            raise DataError(
                "All frames fall into one cluster: a dictionary of one word teaches nothing.",
                "Look at the sounds (selftaught look): they may be silent, or all the same.",
            )

    @property
    def perplexity(self) -> float:
        """Clusters in use, as the entropy of `shares` counts them."""
        return float(torch.special.entr(self.shares).sum().exp())

    def fingerprint(self) -> str:
        """SHA-256 of centroids, shift and scale."""
        digest = hashlib.sha256()
        for held in (self.centroids, self.shift, self.scale):
            digest.update(held.detach().cpu().double().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def config(self) -> dict:
        return {"kind": "dictionary", "options": self.options}
