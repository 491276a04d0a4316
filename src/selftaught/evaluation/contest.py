"""A comparison under way: every arm pretrained for the same time, scored by few labels, the field halved."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import methods as kinds
from .. import train
from ..core import Encoder, RequestError, config, module, random
from ..core.errors import SelftaughtError
from ..core.listener import Listener
from . import controls, sounds
from .choice import Choice
from .embed import Layer, embed, embed_layers, raw
from .ledger import Ledger, file_name
from .opening import read_again
from .protocol import Problem
from .statistics import Scores
from .texts import TfIdf, is_text

HALVED = 4
"""From so many arms on, the field is halved at a quarter and at a half of the budget."""
GRADIENT = ("encoder", "encoder_options", "recipe")
"""Settings that a closed form has no use for, and refuses."""


@dataclass(frozen=True)
class Arm:
    """A method with its options; `name` is how it was written."""

    name: str
    method: str
    options: dict[str, Any]

    @classmethod
    def of(cls, text: str) -> Arm:
        """`simclr` or `simclr:temperature=0.2,hidden=128`; RequestError for a method or an option that there is not."""
        name, _, rest = text.partition(":")
        options = config.assign({}, rest.split(",")) if rest else {}
        kind = kinds.find(name)
        known = kinds.name_of(kind)
        module.build(kind, options, known)
        return cls(text, known, options)


def rungs(count: int, total: float, whole: bool) -> list[float]:
    """The budgets of the rounds, rising to `total`."""
    return [total] if whole or count < HALVED else [total / 4, total / 2, total]


Fixed = Encoder | tuple[Encoder, Any] | TfIdf | sounds.Heard | None
"""What needs no pretraining."""


@dataclass(frozen=True)
class Standing:
    """An arm that needs no pretraining; `stem` names its cells in the ledger, `encoders` holds one a seed: an encoder, one with the modality as which it
    reads the rows, TF-IDF, a control of sounds, or None for the raw input."""

    name: str
    stem: str
    encoders: Sequence[Fixed]

    def cells(self, seeds: Sequence[int]) -> list[str]:
        return [f"{self.stem} | seed {s}" for s, _ in zip(seeds, self.encoders, strict=False)]


@dataclass
class Contest:
    """A comparison under way."""

    data: Any
    problem: Problem
    choice: Choice
    ledger: Ledger
    unit: str
    settings: dict[str, Any]
    batch: int
    device: str
    listener: Listener

    def rounds(self, arms: list[Arm], total: float, seed: int, whole: bool) -> list[Arm]:
        """Successive halving: the arms that come to the end, the best first."""
        alive, budgets = arms, rungs(len(arms), total, whole)
        for number, budget in enumerate(budgets):
            found = {arm.name: self.trial(arm, budget, seed) for arm in alive}
            alive = sorted((a for a in alive if "mean" in found[a.name]), key=lambda a: -found[a.name]["mean"])
            if not alive:
                reasons = "; ".join(f"{name}: {c['failed']}" for name, c in found.items())
                raise RequestError(
                    f"No method could be trained on these data ({reasons}).", "Look at the data, or name others."
                )
            if number < len(budgets) - 1:
                alive = alive[: math.ceil(len(alive) / 2)]
                self.listener.say(f"after {budget:g} {self.unit}: {', '.join(a.name for a in alive)} go on.")
        return alive

    def cell_of(self, arm: Arm, budget: float, seed: int) -> str:
        return f"{arm.name} | {budget:g} {self.unit} | seed {seed}"

    def trial(self, arm: Arm, budget: float, seed: int) -> dict[str, Any]:
        """One pretraining and its score by few labels; taken from the ledger where it is there."""
        name = self.cell_of(arm, budget, seed)
        if name in self.ledger.cells:
            return self.ledger.cells[name]
        place = self.ledger.folder / "runs" / f"{file_name(arm.name)}-{budget:g}{self.unit}-seed{seed}"
        try:
            done = self._pretrained(arm, budget, seed, place)
            encoder = done.encoder()
            cell = {
                **self._few(encoder), "encoder": encoder.config()["kind"], **{k: done.result[k] for k in ("seconds", "steps", "examples", "alarms")},
            }  # fmt: skip
        except SelftaughtError as error:  # the others go on; the table says why this one does not
            cell = {"failed": error.message}
        where = os.path.relpath(place, self.ledger.folder)
        self.ledger.put(name, {"arm": arm.name, "budget": budget, "seed": seed, "run": where, **cell})
        score = "{mean:.3f} [{low:.3f}, {high:.3f}]" if "mean" in cell else "failed: {failed}"
        self.listener.say(f"{name}: {score.format(**cell)}")
        return self.ledger.cells[name]

    def _pretrained(self, arm: Arm, budget: float, seed: int, place: Path) -> train.Pretrained:
        if (place / "config.toml").exists():
            return train.resume(place, data=self.data, listener=self.listener)
        apart = GRADIENT if kinds.find(arm.method).closed_form else ()
        words = {"steps": int(budget)} if self.unit == "steps" else {"minutes": budget}
        return train.pretrain(
            self.data, method=arm.method, options=arm.options, seed=seed, out=place, overwrite=place.exists(),
            listener=self.listener, **words, **{k: v for k, v in self.settings.items() if k not in apart},
        )  # fmt: skip

    def trials(self, standing: Sequence[Standing], seeds: Sequence[int]) -> list[dict[str, Any]]:
        """What was tried and how it scored by few labels: every trial of the ledger, and the standing arms of this request."""
        asked = {cell for one in standing for cell in one.cells(seeds)}
        cells = self.ledger.cells.items()
        return [{k: v for k, v in c.items() if k != "items"} for n, c in cells if c["budget"] or n in asked]

    def _few(self, encoder: Fixed) -> dict[str, Any]:
        """The score by few labels, its items, and the stage that was read out: the best of the encoder's by that score.

        Every network may choose, trained or not: those that predict or rebuild their input peak before the end (see stages).
        None is the raw input.
        """
        pool, rows = self.problem.pool, self.choice.rows
        if isinstance(encoder, tuple):
            pool, encoder = read_again(pool, encoder[1]), encoder[0]
        if isinstance(encoder, TfIdf):
            return self._cell(encoder.chosen(rows, self.choice.fold, self.choice.seed), "last")
        if isinstance(encoder, sounds.Heard):
            several: dict[Layer, np.ndarray] = {"last": encoder.features(pool, rows)}
        elif encoder is None:
            several = {"last": raw(pool, rows=rows)}
        else:
            several = {"last": embed(encoder, pool, rows=rows, batch=self.batch, device=self.device)}
            if "stages" in encoder.can:
                stages = embed_layers(encoder, pool, rows=rows, batch=self.batch, device=self.device)
                several |= dict(enumerate(stages[:-1]))  # the representation is made of the last one
        scored = {layer: self.choice.score(features) for layer, features in several.items()}
        layer = max(scored, key=lambda one: scored[one].mean)
        return self._cell(scored[layer], layer)

    def _cell(self, found: Scores, layer: Layer) -> dict[str, Any]:
        """A score by few labels as the ledger keeps it."""
        got = self.choice.interval(found)
        return {
            "mean": got.mean, "low": got.low, "high": got.high, "layer": layer,
            "items": [found.numerator[0, 0].round(6).tolist(), found.denominator.round(6).tolist()],
        }  # fmt: skip

    def encoder(self, arm: Arm, budget: float, seed: int) -> Encoder:
        """The encoder of a trial that was made."""
        cell = self.ledger.cells[self.cell_of(arm, budget, seed)]
        return train.Pretrained(train.Run.open(self.ledger.folder / cell["run"]), {}).encoder()

    def standing(
        self, alive: list[Arm], shelf: Mapping[str, Encoder | tuple[Encoder, Any]], budget: float, seeds: Sequence[int]
    ) -> list[Standing]:
        """Arms that need no pretraining, scored by few labels too.

        Methods may train encoders of several kinds: each kind has an untrained one.
        """
        like: dict[str, Arm] = {}
        for arm in alive:
            like.setdefault(self.ledger.cells[self.cell_of(arm, budget, seeds[0])]["encoder"], arm)
        fresh = {}
        for arm in like.values():
            pattern = self.encoder(arm, budget, seeds[0])
            keys = [controls.untrained_keys(seeds[0], 1, s)[0] for s in seeds]
            several = [controls.untrained(pattern, self.problem.pool, key) for key in keys]
            fresh[several[0].config()["kind"]] = several
        found = [Standing("raw", "raw", [None])]
        for kind, several in fresh.items():
            found.append(
                Standing("untrained" if len(fresh) == 1 else f"untrained {kind}", f"untrained {kind}", several)
            )
        if is_text(self.problem.pool):
            found.append(Standing("tf-idf", "tf-idf", [TfIdf(self.problem)]))
        if sounds.is_sound(self.problem.pool):
            for name in sounds.NAMES:
                own = seeds if name == "random-filters" else seeds[:1]
                heard = [sounds.Heard(name, random.key(s, name, 0), self.problem.pool) for s in own]
                found.append(Standing(name, name, heard))
        found += [Standing(f"shelf:{k}", f"shelf:{k}", [v]) for k, v in shelf.items()]
        for one in found:
            for cell, seed, encoder in zip(one.cells(seeds), seeds, one.encoders, strict=False):
                if cell not in self.ledger.cells:
                    self.ledger.put(cell, {"arm": one.name, "budget": 0.0, "seed": seed, "seconds": 0.0, **self._few(encoder)})  # fmt: skip
        return found
