"""Retrieval figures of an evaluation: description beside the verdict, of each arm's first seed, on the same queries and gallery."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import random
from ..tasks.retrieve import Retrieve
from .arms import Work
from .statistics import Scores, interval

QUERIES, GALLERY = 2_000, 10_000
"""Test rows that are asked with, and labelled rows that are searched, at most: mAP@R depends on how many there are."""


def retrieval(work: Work) -> list[dict[str, Any]]:
    """One row an arm and figure: "features", "metric", "mean", "low", "high", "queries", "gallery"; none where there are no classes."""
    problem = work.problem
    if problem.classes is None:
        return []
    task, rows = Retrieve(), []
    asked = _some(np.arange(len(problem.targets)), QUERIES, "queries", work.seed)
    held = _some(problem.everything, GALLERY, "gallery", work.seed)
    for name, features in work.kept.items():
        figures, counted = task.rank(features.test[asked], problem.targets[asked], features.pool[held], problem.labels.values[held])  # fmt: skip
        if not counted.any():
            return []
        groups = None if problem.test_groups is None else problem.test_groups[asked][counted]
        for metric, values in figures.items():
            some = values[counted]
            got = interval(Scores(some[None, None], np.ones(len(some))), groups, seed=work.seed)
            rows.append(
                {
                    "features": name, "metric": metric, "mean": round(got.mean, 6), "low": round(got.low, 6),
                    "high": round(got.high, 6), "queries": len(some), "gallery": len(held),
                }
            )  # fmt: skip
    return rows


def _some(rows: np.ndarray, most: int, purpose: str, seed: int) -> np.ndarray:
    if len(rows) <= most:
        return rows
    return np.sort(rows[random.permutation(random.key(seed, purpose), len(rows)).numpy()[:most]])
