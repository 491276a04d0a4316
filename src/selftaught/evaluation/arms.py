"""The arms of an evaluation: pretrained features and every control, probed on the same rows with the same draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..core import Encoder, random
from ..core.listener import Listener
from . import controls as control
from . import diagnose, sounds, texts
from .embed import Layer, embed, raw
from .opening import read_again
from .probe import Features, Probed, blind, probe
from .protocol import Budget, Problem
from .stages import Stages, probe_stages

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
    """Features of each arm's first seed, which leakage, diagnosis and robustness look at again."""
    views: dict[str, dict[str, float]] = field(default_factory=dict)
    """alignment and view_recall of networks."""
    stages: dict[str, Stages] = field(default_factory=dict)
    """Of networks whose stage was chosen."""
    networks: dict[str, Encoder] = field(default_factory=dict)
    """Each network arm's first seed."""
    main: Layer = "last"
    """Where networks are read out whose stage is not chosen."""

    def layer(self, name: str) -> Layer:
        """Where the arm `name` is read out."""
        return self.stages[name].chosen if name in self.stages else self.main

    def embed(self, encoder: Encoder, layer, *, whole: bool = True, modality=None) -> Features:
        """Features of all pool rows, or where not `whole` of those alone that the verdict's draws look at (the rest is zero).

        `modality`: as which the encoder reads the rows, where that is not how they are held (another tokenizer)."""
        settings = {"batch": self.batch, "device": self.device, "layer": layer, "listener": self.listener}
        pool, tested = (read_again(d, modality) for d in (self.problem.pool, self.problem.test))
        test = embed(encoder, tested, **settings)
        rows = None if whole else self.verdict_rows()
        return Features(self.whole(embed(encoder, pool, rows=rows, **settings), rows), test)

    def verdict_rows(self) -> np.ndarray | None:
        """Places of the pool that the verdict's draws look at; None for all."""
        if self.at == "all":
            return None
        return np.unique(np.concatenate([self.problem.scaling, self.problem.probe_validation, *self.draws[self.at]]))

    def whole(self, features: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        """Features of `rows` at their places among all pool rows; the rest is zero."""
        if rows is None:
            return features
        pool = np.zeros((len(self.problem.labels), features.shape[1]), dtype=features.dtype)
        pool[rows] = features
        return pool

    def verdict_draws(self) -> dict[Budget, list[np.ndarray]]:
        return {self.at: self.draws[self.at]} if self.at != "all" else {}


def probe_arms(
    work: Work, encoders, layer, seeds: int, controls, shelf, first_seed: int | None, *, starts=(), shifted=None
) -> Arms:
    """{(features, layer): scores} of every arm.

    shelf: {name: encoder, or (encoder, the modality as which it reads)}.  starts: the encoders that were continued, as they were.  shifted: {key: spoiled test rows} that the scratch control is tested on too.
    """
    work.main = "last" if layer == "all" else layer
    problem, seed = work.problem, work.seed
    arms: Arms = {}
    _network(work, arms, "pretrained", encoders, layer)
    if starts:
        _network(work, arms, "start", list(starts), layer)
    if "untrained" in controls:
        keys = control.untrained_keys(seed, seeds, first_seed)
        _network(work, arms, "untrained", [control.untrained(encoders[0], problem.pool, key) for key in keys], layer)
    if "raw" in controls:
        arms["raw", "last"] = _seeded(work, "raw", iter([Features(raw(problem.pool), raw(problem.test))]), 1)
    if "blind" in controls:
        arms["blind", "last"] = blind(problem, work.draws)
    for name, held in shelf.items():
        encoder, own = held if isinstance(held, tuple) else (held, None)
        work.networks[f"shelf:{name}"] = encoder
        found = work.embed(encoder, "last", modality=own)
        arms[f"shelf:{name}", "last"] = _seeded(work, f"shelf:{name}", iter([found]), 1)
    _texts(work, arms, controls)
    _sounds(work, arms, controls, min(seeds, sounds.SEEDS))
    if "scratch" in controls:
        some = work.verdict_draws() or {"all": [problem.probe_train]}
        first = {b: d[: control.SCRATCH_DRAWS] for b, d in some.items()}
        arms["scratch", "last"] = control.scratch(
            problem, encoders[0], first, seed=seed, device=work.device, listener=work.listener, shifted=shifted or {}
        )
    return arms


def _texts(work: Work, arms: Arms, controls) -> None:
    """Enters what texts are set against: TF-IDF, and a bag of n-grams trained on the labels."""
    asked = [name for name in texts.NAMES if name in controls]
    if not asked or not texts.is_text(work.problem.pool):
        return
    held = texts.Texts.of(work.problem)
    for number, name in enumerate(asked):
        work.listener.progress("probing", number, len(asked), name)
        if name == "tf-idf":
            arms[name, "last"] = texts.TfIdf(work.problem, held).probed(work.draws, seed=work.seed)
        else:
            some = {b: d[: texts.DRAWS] for b, d in work.verdict_draws().items()} or {"all": []}
            arms[name, "last"] = texts.fasttext(work.problem, held, some, seed=work.seed)  # type: ignore[arg-type]
    work.listener.progress("probing", len(asked), len(asked), asked[-1])


def _sounds(work: Work, arms: Arms, controls, seeds: int) -> None:
    """Enters what sounds are set against: statistics of log-mel energies, and random filters, several draws of them."""
    pool, test = work.problem.pool, work.problem.test
    for name in sounds.NAMES if sounds.is_sound(pool) else ():
        if name in controls:
            count = seeds if name == "random-filters" else 1
            heard = (sounds.Heard(name, random.key(work.seed, name, k), pool) for k in range(count))
            arms[name, "last"] = _seeded(work, name, (Features(h.features(pool), h.features(test)) for h in heard), count)  # fmt: skip


def _network(work: Work, arms: Arms, name: str, encoders: list[Encoder], layer) -> None:
    """Enters the scores of a network arm: where it is read out first, and with "all" the pretrained one's other stages behind."""
    work.networks[name] = encoders[0]
    work.views[name] = diagnose.views(encoders[0], work.problem.test, seed=work.seed, device=work.device)
    if layer != "all":
        several = (work.embed(e, layer, whole=k == 0) for k, e in enumerate(encoders))
        arms[name, layer] = _seeded(work, name, several, len(encoders))
        return
    found = []
    for k, encoder in enumerate(encoders):
        work.listener.progress("probing every stage", k, len(encoders), name)
        found.append(probe_stages(work, encoder))
    stages = work.stages[name] = Stages(found, work.at)
    main = stages.chosen
    arms[name, main] = _seeded(work, name, iter([work.embed(encoders[0], main)]), 1)
    for other in found[1:]:
        arms[name, main].join(other[main])
    if name == "pretrained":
        arms.update({(name, one): stages.joined(one) for one in stages.validation if one != main})


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
