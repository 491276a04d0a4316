"""k-means on features and how its clusters agree with classes: accuracy under the best matching, NMI, ARI.  NumPy in."""

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import random


def kmeans(features: np.ndarray, k: int, *, seed: int = 0, restarts: int = 4) -> np.ndarray:
    """(N,) int64 cluster of each row of `features` (N, D): scikit-learn's Lloyd k-means, best of `restarts` k-means++ starts.

    Raises ValueError where there are fewer rows than clusters.
    """
    if not 1 <= k <= len(features):
        raise ValueError(f"{k} clusters asked of {len(features)} rows")
    from sklearn.cluster import KMeans

    # Features with fewer distinct rows than clusters cannot fill them: ask for what there is (scikit-learn warns).
    distinct = len(np.unique(features, axis=0)) if len(features) <= 4 * k else k
    start = random.key(seed, "kmeans") % (1 << 32)
    model = KMeans(min(k, distinct), n_init=restarts, random_state=start)
    return model.fit_predict(np.ascontiguousarray(features, dtype=np.float32)).astype(np.int64)


@torch.no_grad()
def spherical_kmeans(features: Tensor, k: int, *, key: int, iterations: int = 20) -> tuple[Tensor, Tensor]:
    """Unit centroids (k, D) and the cluster (N,) int64 of each row of `features` (N, D): k-means by cosine.

    scikit-learn's Lloyd k-means on rows of unit length, its means put back to unit length, rows given to the most similar.  In one thread: with more,
    the order of sums and so the last bit would change from call to call.  Raises ValueError where there are fewer rows than clusters.
    Dhillon & Modha 2001.  Cost: at most `iterations` x N k D multiply-adds of one core.
    """
    if not 1 <= k <= len(features):
        raise ValueError(f"{k} clusters asked of {len(features)} rows")
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    rows = F.normalize(features.float(), dim=1)
    start = random.key(key, "kmeans") % (1 << 32)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than clusters: some stay empty
        model = KMeans(k, init="random", n_init=1, max_iter=iterations, random_state=start).fit(rows.cpu().numpy())
    centroids = F.normalize(torch.from_numpy(model.cluster_centers_).to(rows), dim=1)
    parts = rows.split(max(1, (1 << 24) // k))  # 2^24 cosines at once at most
    return centroids, torch.cat([(part @ centroids.T).argmax(1) for part in parts])


def matching(clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) int64: each cluster renamed to the class that the best one-to-one matching gives it (Hungarian algorithm).

    Clusters beyond the number of classes are matched to none and get -1.
    """
    from scipy.optimize import linear_sum_assignment

    names, cluster = np.unique(clusters, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    table = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(table, (cluster, label), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    renamed = np.full(len(names), -1, dtype=np.int64)
    renamed[rows] = classes[columns]
    return renamed[cluster]


def agreement(clusters: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """{"accuracy", "nmi", "ari"} of clusters (N,) against classes (N,); accuracy under the best one-to-one matching."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "accuracy": float((matching(clusters, labels) == labels).mean()),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
    }
