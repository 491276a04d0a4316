"""Scores of one set of features under the protocol: linear probe, nearest neighbours, clusters; item by item, for pairing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .. import measures
from ..core import random
from ..core.task import Task
from ..tasks.cluster import Cluster
from .protocol import Budget, Problem
from .statistics import Scores

_BLOCK = 4096


@dataclass
class Features:
    """One encoder's (one seed's) representations of the pool and of the test rows."""

    pool: np.ndarray
    test: np.ndarray


@dataclass
class Probed:
    """What an arm scored: test scores by (probe, budget), and the validation score of its linear probe by budget."""

    scores: dict[tuple[str, Budget], Scores] = field(default_factory=dict)
    validation: dict[Budget, float] = field(default_factory=dict)
    clusters: np.ndarray | None = None
    """k-means cluster of each test row, by the first seed's features."""
    shifted: dict[tuple, Scores] = field(default_factory=dict)
    """Scores on other test rows (spoiled ones), where only the arm itself could tell them."""

    def join(self, other: Probed) -> None:
        """Adds another seed: its scores stand beside these wherever both have them."""
        for key, more in other.scores.items():
            held = self.scores[key]
            self.scores[key] = Scores(np.concatenate([held.numerator, more.numerator]), held.denominator, held.range)
        for budget, value in other.validation.items():
            seeds = self.scores["linear", budget].numerator.shape[0]
            self.validation[budget] += (value - self.validation[budget]) / seeds


def few_label_draws(problem: Problem, budgets: Sequence[int], count: int, seed: int) -> dict[Budget, list[np.ndarray]]:
    """{budget: draws of places in the pool}: the same for every arm."""
    return {b: problem.task.draws(problem.labels, problem.probe_train, b, count, seed) for b in budgets}


def probe(
    problem: Problem, features: Features, draws: dict[Budget, list[np.ndarray]], *, full: bool = True, extra: bool = True,
    clusters: bool = True, seed: int = 0,
) -> Probed:  # fmt: skip
    """The linear probe at every budget of `draws`, and with all labels where `full`; kNN where `extra`, and `clusters` too.

    Standardisation is that of the probe's training rows (no label needed), the same at every budget.
    """
    found = Probed()
    scale = measures.Scale.of(features.pool[problem.scaling])
    for budget, some in draws.items():
        models = fit_few(problem, features.pool, some, scale, random.key(seed, "folds", budget))
        _enter(found, problem, features, models, budget)
    if full:
        model, validation = fit_all(problem, features.pool, scale)
        found.scores["linear", "all"] = scores(
            problem.task, predictions(problem.task, [model], features.test), problem.targets
        )
        found.validation["all"] = validation
    if extra:
        found.scores["knn", "all"] = scores(problem.task, neighbours(problem, features)[None], problem.targets)
        if clusters and problem.classes is not None:
            grouping = Cluster(k=min(problem.classes, len(features.test)))  # type: ignore[call-arg]
            found.clusters = grouping.assign(features.test, seed=seed)
            guesses = measures.matching(found.clusters, problem.targets)
            found.scores["kmeans", 0] = scores(problem.task, guesses[None], problem.targets)
    return found


def _enter(found: Probed, problem: Problem, features: Features, models: list[measures.Linear], budget: Budget) -> None:
    found.scores["linear", budget] = scores(
        problem.task, predictions(problem.task, models, features.test), problem.targets
    )
    held = problem.probe_validation
    guesses = predictions(problem.task, models, features.pool[held])
    found.validation[budget] = scores(problem.task, guesses, problem.labels.values[held]).mean if len(held) else 0.0


def fit_few(
    problem: Problem, pool: np.ndarray, draws: list[np.ndarray], scale: measures.Scale, key: int
) -> list[measures.Linear]:
    """One read-out a draw, its strength chosen by cross-validation inside the draw."""
    targets = problem.task.encode(problem.labels.values)
    return measures.fit_draws(
        pool, targets, draws, classes=problem.classes, scale=scale, key=key, groups=problem.pool_groups
    )


def fit_all(problem: Problem, pool: np.ndarray, scale: measures.Scale) -> tuple[measures.Linear, float]:
    """The read-out of all labels: strength chosen on validation, fitted again on both; and its validation score before that."""
    targets = problem.task.encode(problem.labels.values)
    train, held = problem.probe_train, problem.probe_validation
    model = measures.fit(pool[train], targets[train], pool[held], targets[held], classes=problem.classes, scale=scale)
    assert model.held is not None
    return model, scores(problem.task, problem.task.predict(model.held)[None], problem.labels.values[held]).mean


def verdict_read_outs(problem: Problem, pool: np.ndarray, draws: dict[Budget, list[np.ndarray]], at: Budget, seed: int) -> list[measures.Linear]:  # fmt: skip
    """The linear probes of one budget, as `probe` fits them: the same numbers."""
    scale = measures.Scale.of(pool[problem.scaling])
    if at == "all":
        return [fit_all(problem, pool, scale)[0]]
    return fit_few(problem, pool, draws[at], scale, random.key(seed, "folds", at))


def predictions(task: Task, models: list[measures.Linear], features: np.ndarray) -> np.ndarray:
    """(R, N) predicted targets of several read-outs, a block of rows at a time."""
    return np.concatenate(
        [
            np.stack([task.predict(m.outputs(features[start : start + _BLOCK])) for m in models])
            for start in range(0, len(features), _BLOCK)
        ],
        axis=1,
    )


def scores(task: Task, guesses: np.ndarray, targets: np.ndarray) -> Scores:
    """`guesses` (R, N) of R draws -> Scores of one seed."""
    pairs = [task.items(g, targets) for g in guesses]
    bounded = (0.0, 1.0) if task.wants != "number" else None
    return Scores(np.stack([top for top, _ in pairs])[None], pairs[0][1], bounded)


def neighbours(problem: Problem, features: Features, *, k: int = 20, temperature: float = 0.07) -> np.ndarray:
    """(N,) the kNN prediction of each test row among all labelled pool rows: cosine, weighted vote (or mean)."""
    bank, queries = torch.from_numpy(features.pool[problem.everything]), torch.from_numpy(features.test)
    targets = torch.from_numpy(problem.labels.values[problem.everything])
    if problem.classes is None:
        return measures.knn_regress(queries, bank, targets, k=k, temperature=temperature).double().numpy()
    votes = measures.knn_classify(queries, bank, targets, problem.classes, k=k, temperature=temperature)
    return votes.argmax(1).numpy()


def blind(problem: Problem, draws: dict[Budget, list[np.ndarray]]) -> Probed:
    """The guess that sees labels but no input (a probe with an intercept alone): the commonest class, or the mean.

    Where classes are equally common, as in balanced draws, the expectation over which of them is guessed.
    """
    found = Probed()
    for budget, some in {**draws, "all": [problem.everything]}.items():
        rows = [_guess(problem, problem.labels.values[r]) for r in some]
        base = scores(problem.task, np.stack([np.zeros_like(problem.targets)]), problem.targets)
        found.scores["linear", budget] = Scores(np.stack(rows)[None], base.denominator, base.range)
        found.validation[budget] = -np.inf  # never the better control: it is shown, not chosen
    return found


def _guess(problem: Problem, seen: np.ndarray) -> np.ndarray:
    if problem.classes is None:
        return problem.task.items(np.full(len(problem.targets), seen.mean()), problem.targets)[0]
    count = np.bincount(seen, minlength=problem.classes)
    common = np.flatnonzero(count == count.max())
    rights = [problem.task.items(np.full(len(problem.targets), c), problem.targets)[0] for c in common]
    return np.mean(rights, axis=0)
