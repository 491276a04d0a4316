"""What `cluster` found, kept as a model folder: `predict` says of further rows which cluster they belong to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
import torch
import torch.nn as nn

from .. import modalities, nets
from ..core import Encoder, Kept, ModelError, RequestError, module
from ..core.listener import Listener
from ..tasks.cluster import Cluster
from ..train.finetune import Plan, Tuned
from ..train.precision import device_of
from . import label_file
from .adapt import Finetuned
from .embed import embed
from .opening import open_dataset

if TYPE_CHECKING:
    import pyarrow as pa

PLAN = Plan()
AGAIN = "Cluster again with --save."
STILL = 1e-9
"""A row nearer to the mean than this share of the farthest one has no direction."""


@dataclass(frozen=True)
class Space:
    """Where representations are compared: about their mean, by direction."""

    mean: np.ndarray
    """(D,) float64 of the rows that were clustered; 0 where there was one."""
    least: float
    """Rows that are no farther from the mean have no direction."""

    @classmethod
    def of(cls, features: np.ndarray) -> Space:
        """The space of rows (N, D)."""
        mean = features.mean(0, dtype=np.float64) * (len(features) > 1)
        length = np.linalg.norm(features.astype(np.float64) - mean, axis=1)
        return cls(mean, float(STILL * max(1e-300, length.max())))

    def place(self, features: np.ndarray) -> np.ndarray:
        """(N, D) float32 of length 1 (0 where a row is the mean itself), the mean taken off."""
        centred = features.astype(np.float64) - self.mean
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        return (centred / np.where(length > self.least, length, np.inf)).astype(np.float32)


def distances(rows: torch.Tensor, centres: torch.Tensor, which: torch.Tensor) -> np.ndarray:
    """(N,) float64: 1 - the cosine of each row (N, D) with the centre (K, D) that `which` (N,) names."""
    return (1 - (rows.double() * centres[which].double()).sum(1)).numpy().clip(0, 2)


@dataclass(kw_only=True)
class ClusterModel(Finetuned):
    """An encoder, the space of the rows that were clustered, and as its head the centres (K, D), of length 1."""

    space: Space

    @classmethod
    def of(cls, encoder: Encoder, modality, space: Space, centres: torch.Tensor, told: list[dict[str, Any]]) -> ClusterModel:  # fmt: skip
        """The model of what was found: `told` as in `Clustered.clusters`, of which the examples are not kept."""
        head = nn.Linear(centres.shape[1], len(centres), bias=False)
        head.weight.data = centres.float().contiguous()
        about = {"clusters": [{k: v for k, v in one.items() if k != "examples"} for one in told]}
        task = module.build(Cluster, {"k": len(centres)}, "cluster")
        return cls(model=Tuned(encoder, head).eval(), task=task, modality=modality, result=about, space=space)  # fmt: skip

    def save(self, folder: str | Path) -> Path:
        """Writes the model folder: encoder, centres, labels.json (with the mean of the rows) and the modality's own files."""
        kept = Kept(self.model.encoder, {"head": self.model.head})
        where = {"mean": self.space.mean.tolist(), "least": self.space.least}
        return label_file.write(folder, kept, self.task, self.result, self.modality, **where)


def finetune_clusters(*_args, **_options) -> NoReturn:
    """RequestError: nothing is trained."""
    raise RequestError("Clustering trains no head.", "selftaught cluster RUN DATA --save FOLDER keeps its clusters for predict; finetune with --task classify or regress.")  # fmt: skip


def load_clusters(folder: str | Path) -> ClusterModel | None:
    """The model that `cluster` wrote; None where the folder holds a model of another kind, or none.  ModelError where it is broken."""
    found = label_file.read(folder, (Cluster.wants,), AGAIN)
    if found is None or not isinstance(found.task, Cluster):
        return None
    kept, task = nets.store.load(found.home, parts=["head"]), found.task
    head = kept.parts["head"]
    with label_file.checked(folder, AGAIN):
        mean, least = np.asarray(found.held["mean"], np.float64), float(found.held["least"])
        if mean.shape != (kept.encoder.dim,) or not np.isfinite(mean).all() or not (math.isfinite(least) and least > 0):
            raise ValueError(f"the mean of the rows is no {kept.encoder.dim} numbers")
        if (getattr(head, "in_features", None), getattr(head, "out_features", None)) != (kept.encoder.dim, task.k):
            raise ValueError("the centres do not fit the encoder")
    return ClusterModel(
        model=Tuned(kept.encoder, head).eval(), task=task, modality=modalities.load(found.home), result=found.result, space=Space(mean, least)
    )  # fmt: skip


def predict_clusters(
    model: str | Path | Finetuned, data, *, batch: int = 256, device: str | None = "cpu", column: str | None = None, max_bad: float = 1.0,
    listener: Listener | None = None,
) -> pa.Table:  # fmt: skip
    """One line a row: row (of the source), name, cluster (0 was the largest) and distance, 1 - its cosine with the centre, as `cluster` gives them.

    Every row is given to a cluster: a distance far above the cluster's mean (in labels.json) tells of a row unlike those that were clustered.
    Rows that cannot be read have no line: they are counted in the table's metadata ("rejected").  Raises ModelError or DataError.
    """
    import pyarrow as pa

    found = model if isinstance(model, ClusterModel) else None if isinstance(model, Finetuned) else load_clusters(model)
    if found is None:
        raise ModelError(f"{str(model)!r} holds no clusters.", "selftaught cluster RUN DATA --save FOLDER makes them.")
    listener = listener or Listener()
    dataset = open_dataset(data, found.modality, listener, column=column, max_bad=max_bad)
    features = embed(found.model.encoder, dataset, batch=batch, device=str(device_of(device)), listener=listener)
    rows = torch.from_numpy(found.space.place(features))
    centres = cast(nn.Linear, found.model.head).weight.detach().cpu()
    which = torch.mm(rows, centres.T).argmax(1)
    table = pa.table({
        "row": pa.array(dataset.source_rows(), pa.int64()), "name": pa.array(dataset.names(), pa.string()),
        "cluster": pa.array(which.numpy(), pa.int64()), "distance": pa.array(np.round(distances(rows, centres, which), 6), pa.float64()),
    })  # fmt: skip
    about = {"rejected": str(len(getattr(dataset, "rejected", ()))), "task": "cluster"}
    return table.replace_schema_metadata(about)
