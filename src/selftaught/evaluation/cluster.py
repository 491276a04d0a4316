"""`cluster`: the rows of a dataset in groups of like representations; which group a row is in, what each group is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import measures
from ..core import RequestError, random
from ..core.listener import Listener
from ..measures.topics import topics
from ..train.precision import device_of
from .cluster_models import ClusterModel, Space, distances
from .embed import embed
from .opening import open_dataset, open_encoders
from .search import is_embedded, read_embedded
from .texts import is_text, shortened, texts_of

if TYPE_CHECKING:
    import pyarrow as pa

TRIED = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30)
"""Numbers of clusters of which one is chosen where none is named."""
JUDGED = 2_000
"""Rows on which that choice is made, at most."""
STARTS = 4
EXAMPLES = 3


@dataclass(frozen=True)
class Clustered:
    """What `cluster` found."""

    table: pa.Table
    """One line a row of the data: row (of the source), name, cluster (0 is the largest) and distance, 1 - its cosine with the centre."""
    clusters: list[dict[str, Any]]
    """[{"cluster", "rows", "distance" (mean), "words" (of texts: the most characteristic), "examples" (nearest the centre: row, name, distance, text)}]."""
    tried: dict[int, float]
    """{clusters: mean silhouette} of the numbers that were tried; empty where the number was named."""
    model: ClusterModel
    """What says of further rows which cluster they belong to: `save` keeps it, `predict` takes it."""

    def plain(self) -> dict[str, Any]:
        """What `cluster --json` prints."""
        tried = {str(k): round(v, 6) for k, v in self.tried.items()}
        return {"rows": self.table.num_rows, "clusters": self.clusters, "tried": tried}


def cluster(
    run, data, *, clusters: int | None = None, seed: int = 0, column: str | None = None, max_bad: float = 0.01, names: str | None = None,
    batch: int = 256, device: str | None = "cpu", listener: Listener | None = None,
) -> Clustered:  # fmt: skip
    """The rows of `data` in `clusters` groups (None: as many as the mean silhouette finds best) by k-means of their representations.

    data: what `embed` takes, or what it wrote with the same encoder (then without words).  Representations are centred (what all rows share tells none apart),
    brought to length 1 and clustered by cosine: Dhillon & Modha 2001, the best of four starts.  Clusters are told by words that are commoner in them than in
    the others, where rows are texts.  No label is read.  The same numbers for the same seed on one machine.
    Raises RequestError where more clusters are asked for than there are unlike rows.  Cost: one pass of the encoder, and four k-means.
    """
    import pyarrow as pa

    listener, where = listener or Listener(), str(device_of(device))
    encoders, modality = open_encoders(run)
    texts: list[str] | None = None
    if is_embedded(data):
        rows, called, features = read_embedded(Path(data), encoders[0])
        lost = 0
    else:
        dataset = open_dataset(data, modality, listener, column=column, max_bad=max_bad, names=names)
        features = embed(encoders[0], dataset, batch=batch, device=where, listener=listener)
        rows, called, lost = dataset.source_rows(), dataset.names(), len(getattr(dataset, "rejected", ()))
        texts = texts_of(dataset) if is_text(dataset) else None
    space = Space.of(features)
    placed = space.place(features)
    unlike = len(np.unique(placed, axis=0))
    if clusters is not None and not 1 <= clusters <= unlike:
        raise RequestError(f"{clusters} clusters cannot be made of {unlike} unlike rows.", f"Give 1 to {unlike}.")
    tried: dict[int, float] = {}
    if clusters is None:
        clusters, tried = _chosen(placed, unlike, seed)
        listener.say(f"{clusters} clusters: the best mean silhouette ({tried.get(clusters, 0):.3f}) of {', '.join(map(str, tried)) or 'one'}.")  # fmt: skip
    which, distance, centres = _grouped(placed, clusters, seed)
    table = pa.table({
        "row": pa.array(rows, pa.int64()), "name": pa.array(called, pa.string()), "cluster": pa.array(which, pa.int64()),
        "distance": pa.array(distance, pa.float64()),
    })  # fmt: skip
    told = _told(which, distance, rows, called, texts)
    model = ClusterModel.of(encoders[0], modality or dataset.modality, space, centres, told)
    return Clustered(table.replace_schema_metadata({"rejected": str(lost), "task": "cluster"}), told, tried, model)


def _grouped(placed: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """((N,) cluster, the largest first; (N,) 1 - cosine with its centre; the centres) of the best of several starts."""
    rows, best = torch.from_numpy(placed), None
    for start in range(STARTS if k > 1 else 1):
        centres, which = measures.spherical_kmeans(rows, k, key=random.key(seed, "clusters", start), iterations=100)
        distance = distances(rows, centres, which)
        if best is None or distance.sum() < best[1].sum():
            best = which.numpy(), distance, centres
    assert best is not None
    names, first, place, count = np.unique(best[0], return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -count))
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return rank[place], np.round(best[1], 6), best[2][torch.from_numpy(names[order])]


def _chosen(placed: np.ndarray, unlike: int, seed: int) -> tuple[int, dict[int, float]]:
    """(the number of clusters with the best mean silhouette, {number: silhouette})."""
    from sklearn.metrics import silhouette_score

    some = placed
    if len(placed) > JUDGED:
        kept = random.permutation(random.key(seed, "rows for the number of clusters"), len(placed))[:JUDGED]
        some = placed[np.sort(kept.numpy())]
    tried = {}
    for k in (k for k in TRIED if k <= min(unlike - 1, len(some) // 2)):
        which = _grouped(some, k, seed)[0]
        if 1 < len(np.unique(which)) < len(some):
            tried[k] = float(silhouette_score(some, which, metric="cosine"))
    return (max(tried, key=lambda k: tried[k]) if tried else 1), tried


def _told(which: np.ndarray, distance: np.ndarray, rows: np.ndarray, names: Sequence[str], texts: list[str] | None) -> list[dict[str, Any]]:  # fmt: skip
    words = topics(texts, which) if texts is not None else {}
    out = []
    for number in np.unique(which).tolist():
        own = np.flatnonzero(which == number)
        nearest = own[np.argsort(distance[own], kind="stable")][:EXAMPLES]
        one: dict[str, Any] = {"cluster": number, "rows": len(own), "distance": round(float(distance[own].mean()), 6)}
        one |= {"words": words[number]} if texts is not None else {}
        one["examples"] = [
            {"row": int(rows[i]), "name": names[i], "distance": float(distance[i])}
            | ({"text": shortened(texts[i])} if texts is not None else {})
            for i in nearest
        ]
        out.append(one)
    return out
