"""The arms of an evaluation: pretrained features and every control, probed on the same rows with the same draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core import Encoder
from ..core.listener import Listener
from . import controls as control
from . import diagnose
from .embed import Layer, embed, embed_layers, raw
from .probe import Features, Probed, blind, probe
from .protocol import Budget, Problem

Arms = dict[tuple[str, Layer | str], Probed]
"""{(features, layer): scores}; the pretrained features' main layer comes first."""


@dataclass
class Work:
    """What every arm shares."""

    problem: Problem
    draws: dict[Budget, list[np.ndarray]]
    at: Budget
    seed: int
    batch: int
    device: str
    listener: Listener
    kept: dict[str, Features] = field(default_factory=dict)
    """Features of each arm's first seed, which leakage and diagnosis look at again."""
    views: dict[str, dict[str, float]] = field(default_factory=dict)
    """alignment and view_recall of networks."""

    def embed(self, encoder: Encoder, layer, *, whole: bool = True) -> Features:
        """Features of all pool rows, or where not `whole` of those alone that the verdict's draws look at (the rest is zero)."""
        settings = {"batch": self.batch, "device": self.device, "layer": layer, "listener": self.listener}
        problem, test = self.problem, embed(encoder, self.problem.test, **settings)
        if whole or self.at == "all":
            return Features(embed(encoder, problem.pool, **settings), test)
        rows = np.unique(np.concatenate([problem.scaling, problem.probe_validation, *self.draws[self.at]]))
        pool = np.zeros((len(problem.labels), test.shape[1]), dtype=test.dtype)
        pool[rows] = embed(encoder, problem.pool, rows=rows, **settings)
        return Features(pool, test)

    def verdict_draws(self) -> dict[Budget, list[np.ndarray]]:
        return {self.at: self.draws[self.at]} if self.at != "all" else {}


def probe_arms(work: Work, encoders, layer, seeds: int, controls, shelf, first_seed: int | None, starts=()) -> Arms:
    """{(features, layer): scores} of every arm; `starts`: the encoders that were continued, as they were."""
    main: Layer = "last" if layer == "all" else layer
    problem, seed = work.problem, work.seed
    arms: Arms = {}
    arms["pretrained", main] = _seeded(
        work, "pretrained", (work.embed(e, main, whole=k == 0) for k, e in enumerate(encoders)), len(encoders)
    )
    work.views["pretrained"] = diagnose.views(encoders[0], problem.test, seed=seed, device=work.device)
    if layer == "all":
        for k, features in enumerate(_stages(work, encoders[0])):
            arms["pretrained", k] = probe(
                problem, features, work.verdict_draws(), full=work.at == "all", extra=False, seed=seed
            )
    if starts:
        arms["start", main] = _seeded(
            work, "start", (work.embed(e, main, whole=k == 0) for k, e in enumerate(starts)), len(starts)
        )
    if "untrained" in controls:
        fresh = [
            control.untrained(encoders[0], problem.pool, key) for key in control.untrained_keys(seed, seeds, first_seed)
        ]
        work.views["untrained"] = diagnose.views(fresh[0], problem.test, seed=seed, device=work.device)
        arms["untrained", main] = _seeded(
            work, "untrained", (work.embed(e, main, whole=k == 0) for k, e in enumerate(fresh)), seeds
        )
    if "raw" in controls:
        arms["raw", "last"] = _seeded(work, "raw", iter([Features(raw(problem.pool), raw(problem.test))]), 1)
    if "blind" in controls:
        arms["blind", "last"] = blind(problem, work.draws)
    for name, encoder in shelf.items():
        arms[f"shelf:{name}", "last"] = _seeded(work, f"shelf:{name}", iter([work.embed(encoder, "last")]), 1)
    if "scratch" in controls:
        some = work.verdict_draws() or {"all": [problem.probe_train]}
        first = {b: d[: control.SCRATCH_DRAWS] for b, d in some.items()}
        arms["scratch", "last"] = control.scratch(problem, encoders[0], first, seed=seed, device=work.device, listener=work.listener)  # fmt: skip
    return arms


def _stages(work: Work, encoder: Encoder) -> Iterator[Features]:
    settings: dict[str, Any] = {"batch": work.batch, "device": work.device, "listener": work.listener}
    pairs = zip(embed_layers(encoder, work.problem.pool, **settings), embed_layers(encoder, work.problem.test, **settings), strict=True)  # fmt: skip
    return (Features(pool, test) for pool, test in pairs)


def _seeded(work: Work, name: str, several: Iterator[Features], seeds: int) -> Probed:
    """The first seed is probed at every budget, the others where the verdict is given: one seed's features at a time."""
    total = Probed()
    for k, features in enumerate(several):
        work.listener.progress("probing", k, seeds, name)
        if k == 0:
            total = probe(work.problem, features, work.draws, seed=work.seed)
            work.kept[name] = features
        else:
            total.join(
                probe(work.problem, features, work.verdict_draws(), full=work.at == "all", extra=False, seed=work.seed)
            )
    work.listener.progress("probing", seeds, seeds, name)
    return total
