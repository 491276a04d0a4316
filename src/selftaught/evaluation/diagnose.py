"""Label-free figures of the features, and clusters against classes: diagnosis inside this evaluation, never a ranking of methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .. import measures
from ..core import Draw, Encoder, clean
from .probe import Features

ROWS = 2_048
"""Test rows that are looked at: the same for all features, because effective rank grows with their number."""
VIEW_ROWS = 256
"""Test rows whose augmented views are compared."""


def measure(
    kept: dict[str, Features], clusters: dict[str, np.ndarray | None], targets: np.ndarray
) -> list[dict[str, Any]]:
    """One dict a set of features: "features", "rows", effective_rank (RankMe), effective_rank_centred, top_eigenvalue_share,
    dead_dimensions, mean_cosine, uniformity; and nmi and ari of the clusters of the test rows, where there are any."""
    return [
        {"features": name, **_figures(features.test, clusters.get(name), targets)} for name, features in kept.items()
    ]


def _figures(features: np.ndarray, clusters: np.ndarray | None, targets: np.ndarray) -> dict[str, Any]:
    x = torch.from_numpy(features[:ROWS])
    figures = {
        "effective_rank": measures.effective_rank(x),
        "effective_rank_centred": measures.effective_rank(x, centred=True),
        "top_eigenvalue_share": measures.top_eigenvalue_share(x),
        "dead_dimensions": measures.dead_dimensions(x),
    }
    if len(x) > 1:
        figures |= {"mean_cosine": measures.mean_cosine(x), "uniformity": measures.uniformity(x)}
    if clusters is not None:
        found = measures.agreement(clusters, targets)
        figures |= {"nmi": found["nmi"], "ari": found["ari"]}
    return {"rows": len(x), **{k: round(v, 6) for k, v in figures.items()}}


def views(encoder: Encoder, data, *, seed: int = 0, device: str = "cpu") -> dict[str, float]:
    """alignment of two augmented views of the same rows, and the share of rows that find their own other view (view_recall).

    Empty where the modality has no augmentation.  Says what the encoder ignores, which may be what a task needs.
    """
    modality = data.modality
    if "augment" not in modality.offers or len(data) < 2:
        return {}
    rows = np.arange(min(len(data), VIEW_ROWS))
    change = modality.augment(None)  # whole-size views: an encoder may take no other
    ids = torch.from_numpy(data.ids[rows]).to(device)
    first, second = (
        clean(encoder.to(device), change(data.fetch(rows).to(device), Draw(ids, seed, 0, view, 1.0))).cpu()
        for view in (0, 1)
    )
    return {
        "alignment": round(measures.alignment(first, second), 6),
        "view_recall": round(measures.view_recall(first, second), 6),
    }
