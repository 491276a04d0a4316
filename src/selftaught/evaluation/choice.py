"""The measure by which pretext tasks are chosen: a probe of few labelled rows, each guessed once by a read-out that has not seen it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import measures
from ..core import random
from ..measures.linear import folds
from .probe import read_outs, scores
from .protocol import Problem
from .statistics import Interval, Scores, interval

LABELS = 500
"""Labelled rows that a choice uses, at most; none of them is a test row."""


@dataclass(frozen=True)
class Choice:
    """Rows (places in the pool) and their folds: the same for every arm, so that arms are compared row by row."""

    problem: Problem
    rows: np.ndarray
    fold: np.ndarray
    groups: np.ndarray | None
    seed: int

    @classmethod
    def of(cls, problem: Problem, *, labels: int = LABELS, seed: int = 0) -> Choice:
        """At most `labels` rows of the pool, as many of each class as there are or as fit; folds keep groups together."""
        everything, values = problem.everything, problem.labels.values
        order = everything[random.permutation(random.key(seed, "choice"), len(everything)).numpy()]
        if problem.classes is None:
            rows = order[:labels]
        else:
            rank = np.empty(len(order), dtype=np.int64)  # of each row among those of its class
            for c in range(problem.classes):
                mine = values[order] == c
                rank[mine] = np.arange(mine.sum())
            rows = order[np.argsort(rank, kind="stable")][:labels]
        rows = np.sort(rows)
        groups = None if problem.pool_groups is None else problem.pool_groups[rows]
        strata = problem.labels.strata[rows]
        return cls(problem, rows, folds(strata, random.key(seed, "choice folds"), groups), groups, seed)

    def score(self, features: np.ndarray) -> Scores:
        """One seed's scores from the features (n, D) of `rows`, in their order."""
        problem, task = self.problem, self.problem.task
        targets, scale = problem.labels.values[self.rows], measures.Scale.of(features)
        outputs = np.zeros((len(self.rows), task.outputs))
        for f in range(int(self.fold.max()) + 1):
            seen, held = np.flatnonzero(self.fold != f), np.flatnonzero(self.fold == f)
            key = random.key(self.seed, "choice", f)
            (model,) = read_outs(task, features, targets, [seen], scale=scale, key=key, groups=self.groups)
            outputs[held] = model.outputs(features[held])
        return scores(task, task.predict(outputs)[None], targets)

    def interval(self, found: Scores) -> Interval:
        return interval(found, self.groups, seed=self.seed)
