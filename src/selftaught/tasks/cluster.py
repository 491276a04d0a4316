"""Clustering: groups of rows without labels, scored against classes where there are some.

selftaught cluster RUN DATA --clusters 20 -o clusters.csv hands the groups over: each row's cluster and its distance from the centre; each cluster's size, its most
characteristic words and the rows nearest its centre; with --save FOLDER, selftaught predict FOLDER DATA gives further rows their clusters.  Without --clusters their number is chosen by the mean silhouette, which leans to few.
selftaught evaluate describes them beside the verdict, wherever there are classes.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .. import measures
from ..core.errors import RequestError
from ..core.task import Task


class Cluster(Task):
    """k-means on the representation; accuracy under the best matching, NMI and ARI.

    Nothing is trained and no label is used but to score: there is no head and no split.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "nothing"
    aliases: ClassVar = ("clustering", "kmeans")
    k: int = 10
    """Number of clusters."""
    restarts: int = 4
    """Starts of k-means, of which the best is kept."""
    metric: str = "accuracy"
    """What decides: accuracy under the best one-to-one matching of clusters and classes."""

    @property
    def outputs(self) -> int:
        return self.k

    def head(self, dim: int):
        raise RequestError("Clustering trains no head.", "Finetune with --task classify or --task regress.")

    def assign(self, features: np.ndarray, *, seed: int = 0) -> np.ndarray:
        """(N,) int64 cluster of each row of features (N, D)."""
        return measures.kmeans(features, self.k, seed=seed, restarts=self.restarts)

    def items(self, guesses: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`guesses` are the clusters (N,) of `assign`."""
        return (measures.matching(guesses, targets) == targets).astype(np.float64), np.ones(len(targets))

    def metrics(self, guesses: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """`guesses` are the clusters (N,) of `assign`."""
        return measures.agreement(guesses, targets)
