"""`compare`: which pretext task for these data?  Equal time for each, the choice by few labels, the table on rows that chose nothing."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import methods as kinds
from .. import modalities, tasks, train
from ..core import DataError, Encoder, RequestError, config, module
from ..core.errors import SelftaughtError
from ..core.listener import Listener
from ..data import splits
from ..train.precision import device_of
from ..train.run import write_text
from . import controls, leakage
from .choice import LABELS, Choice
from .embed import embed, raw
from .probe import Features, few_label_draws, probe
from .protocol import Budget, Problem, budgets_of, prepare, verdict_budget
from .statistics import Scores, interval

FIELD = (
    "sparse-manifold",
    "simclr",
    "byol",
    "swav",
    "vicreg",
    "lejepa",
    "mae",
    "masked-token",
    "next-token",
    "rotation",
)
"""Where no methods are named: of these, those that the data can carry."""
HALVED = 4
"""From so many arms on, the field is halved at a quarter and at a half of the budget."""
STANDING = ("raw", "untrained")
"""Arms that need no pretraining."""


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

    @property
    def folder(self) -> str:
        return re.sub(r"[^A-Za-z0-9.=-]+", "-", self.name)


def compare(
    data, *, labels: str | np.ndarray | None = None, methods: Sequence[str] | None = None, minutes: float = 4.0,
    steps: int | None = None, seeds: int = 1, seed: int = 0, out: str | Path = "comparison", whole: bool = False,
    holdout: float = 0.2, choose_with: int = LABELS, draws: int = 10, shelf: Mapping[str, Encoder] | None = None,
    group: str | None = None, task: str | None = None, column: str | None = None, max_bad: float = 0.01, size: int | None = None,
    encoder: str | None = None, encoder_options: dict | None = None, recipe: dict | None = None, device: str | None = "cpu",
    batch: int = 256, listener: Listener | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Pretrains every method on `data` for the same time, and tells which to take; returns what `selftaught compare --json` prints.

    methods: names, with options as `simclr:temperature=0.2`; default: `FIELD`.  minutes (or steps): of each; from four arms on the field is
    halved at a quarter and at a half of them (successive halving; Karnin et al. 2013), unless `whole`.  seeds: of the arms that come to the end.
    choose_with: labelled rows that the choice uses, none of them a test row; holdout: the share that is tested and never pretrained on.
    shelf: {name: encoder} off the shelf.  out: a folder for the runs and compare.json: the same request goes on where it stopped.
    Raises RequestError, DataError.  Cost: the sum of all budgets, and for each arm one pass over the labelled rows.
    """
    listener = listener or Listener()
    dataset = modalities.open_data(
        data, column=column, group=group, size=size, max_bad=max_bad, say=listener.say,
        progress=lambda done, total, bad: listener.progress("packing", done, total, f"{bad} set apart" if bad else ""),
    )  # fmt: skip
    arms = arms_of(methods, dataset.modality)
    _check(arms, minutes, steps, seeds, choose_with)
    held = splits.hold_out(dataset, holdout, group=group)[1]
    problem = prepare(
        dataset, labels=labels, group=group, task=task, seed=seed, held=held, duplicates=leakage.clusters(dataset)
    )
    for note in problem.notes:
        listener.say(note)
    total = float(steps if steps is not None else minutes)
    request = {
        "data": dataset.fingerprint, "labels": problem.labels.column, "arms": [a.name for a in arms], "minutes": minutes,
        "steps": steps, "seed": seed, "whole": whole, "holdout": holdout, "choose_with": choose_with, "encoder": encoder,
        "encoder_options": encoder_options, "recipe": recipe,
    }  # fmt: skip
    settings = {
        "holdout": holdout, "group": group, "column": column, "max_bad": max_bad, "size": size, "encoder": encoder,
        "encoder_options": encoder_options, "recipe": recipe, "device": device,
    }  # fmt: skip
    contest = Contest(
        data, problem, Choice.of(problem, labels=choose_with, seed=seed), Ledger(Path(out), request),
        "steps" if steps is not None else "minutes", {k: v for k, v in settings.items() if v}, batch, str(device_of(device)), listener,
    )  # fmt: skip
    listener.say(
        f"{len(arms)} methods, {total:g} {contest.unit} each{_said_rungs(arms, total, whole)}; the choice uses "
        f"{len(contest.choice.rows)} labelled rows, the table {len(problem.targets)} others."
    )
    alive = contest.rounds(arms, total, seed, whole)
    for k in range(1, seeds):
        for arm in alive:
            contest.trial(arm, total, seed + k)
    standing = contest.standing(alive, shelf or {}, seed)
    return contest.conclude(alive, standing, total, range(seed, seed + seeds), draws)


def arms_of(methods: Sequence[str] | None, modality) -> list[Arm]:
    """The arms, none twice; RequestError where one cannot learn from these data."""
    if methods is None:
        return [Arm.of(name) for name in FIELD if kinds.fits(kinds.find(name), modality) is None]
    arms = [Arm.of(text) for text in dict.fromkeys(methods)]
    for arm in arms:
        why = kinds.fits(module.build(kinds.find(arm.method), arm.options, arm.method), modality)
        if why:
            raise RequestError(*why.split("\n  ", 1))
    return arms


def rungs(count: int, total: float, whole: bool) -> list[float]:
    """The budgets of the rounds, rising to `total`."""
    return [total] if whole or count < HALVED else [total / 4, total / 2, total]


def _said_rungs(arms: list[Arm], total: float, whole: bool) -> str:
    found = rungs(len(arms), total, whole)
    return "" if len(found) == 1 else f" at the end (the better half goes on after {found[0]:g} and {found[1]:g})"


def _check(arms: list[Arm], minutes: float, steps: int | None, seeds: int, choose_with: int) -> None:
    if not arms:
        raise RequestError("There is no method to compare.", "Name some with --methods.")
    if minutes <= 0 or (steps is not None and steps < 1) or seeds < 1 or choose_with < 20:
        raise RequestError(
            f"minutes {minutes:g}, steps {steps}, seeds {seeds}, {choose_with} rows to choose with: that is too little.",
            "Give positive numbers, and at least 20 labelled rows to choose with.",
        )


class Ledger:
    """compare.json in the contest's folder: the request and a cell for every trial, written as each ends."""

    def __init__(self, folder: Path, request: dict[str, Any]):
        self.folder, self.file, plain = folder, folder / "compare.json", json.loads(json.dumps(request))
        self.cells: dict[str, dict[str, Any]] = {}
        if self.file.exists():
            try:
                held = json.loads(self.file.read_text("utf-8"))
                self.cells = held["cells"]
                other = [k for k in plain if held["request"].get(k) != plain[k]]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{self.file} is no comparison ({error}).", "Give another --out.") from None
            if other:
                raise RequestError(
                    f"{folder} holds a comparison with another {', '.join(other)}.", "Give another --out, or remove it."
                )
        elif folder.exists() and any(folder.iterdir()):
            raise RequestError(f"{folder} holds other files.", "Give another --out.")
        self.request = plain

    def put(self, name: str, cell: dict[str, Any], **more) -> None:
        self.cells[name] = cell
        self.write(**more)

    def write(self, **more) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.file, json.dumps({"request": self.request, "cells": self.cells, **more}, indent=1) + "\n")


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

    def trial(self, arm: Arm, budget: float, seed: int) -> dict[str, Any]:
        """One pretraining and its score by few labels; taken from the ledger where it is there."""
        name = f"{arm.name} | {budget:g} {self.unit} | seed {seed}"
        if name in self.ledger.cells:
            return self.ledger.cells[name]
        place = self.ledger.folder / "runs" / f"{arm.folder}-{budget:g}{self.unit}-seed{seed}"
        try:
            done = self._pretrained(arm, budget, seed, place)
            features = embed(
                done.encoder(), self.problem.pool, rows=self.choice.rows, batch=self.batch, device=self.device
            )
            cell = {**self._scored(features), "seconds": done.result["seconds"], "steps": done.result["steps"], "alarms": done.result["alarms"]}  # fmt: skip
        except SelftaughtError as error:  # the others go on; the table says why this one does not
            cell = {"failed": error.message}
        self.ledger.put(name, {"arm": arm.name, "budget": budget, "seed": seed, "run": os.path.relpath(place, self.ledger.folder), **cell})  # fmt: skip
        said = (
            f"{cell['mean']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"
            if "mean" in cell
            else f"failed: {cell['failed']}"
        )
        self.listener.say(f"{name}: {said}")
        return self.ledger.cells[name]

    def _pretrained(self, arm: Arm, budget: float, seed: int, place: Path) -> train.Pretrained:
        if (place / "config.toml").exists():
            return train.resume(place, data=self.data, listener=self.listener)
        words = {"steps": int(budget)} if self.unit == "steps" else {"minutes": budget}
        return train.pretrain(
            self.data, method=arm.method, options=arm.options, seed=seed, out=place, overwrite=place.exists(),
            listener=self.listener, **words, **self.settings,
        )  # fmt: skip

    def _scored(self, features: np.ndarray) -> dict[str, Any]:
        found = self.choice.score(features)
        got = self.choice.interval(found)
        return {
            "mean": got.mean, "low": got.low, "high": got.high,
            "items": [found.numerator[0, 0].round(6).tolist(), found.denominator.round(6).tolist()],
        }  # fmt: skip

    def standing(self, alive: list[Arm], shelf: Mapping[str, Encoder], seed: int) -> dict[str, Encoder | None]:
        """Arms that need no pretraining, scored by few labels too; None stands for the raw input."""
        encoder = self._encoder(alive[0], self._budget(alive[0]), seed)
        fresh = controls.untrained(encoder, self.problem.pool, controls.untrained_keys(seed, 1, seed)[0])
        found: dict[str, Encoder | None] = {
            "raw": None,
            "untrained": fresh,
            **{f"shelf:{k}": v for k, v in shelf.items()},
        }
        for name, one in found.items():
            if name not in self.ledger.cells:
                pool, rows = self.problem.pool, self.choice.rows
                features = raw(pool, rows=rows) if one is None else embed(one, pool, rows=rows, batch=self.batch, device=self.device)  # fmt: skip
                self.ledger.put(
                    name, {"arm": name, "budget": 0.0, "seed": seed, "seconds": 0.0, **self._scored(features)}
                )
        return found

    def _budget(self, arm: Arm) -> float:
        return max(c["budget"] for c in self.ledger.cells.values() if c["arm"] == arm.name)

    def _encoder(self, arm: Arm, budget: float, seed: int) -> Encoder:
        cell = self.ledger.cells[f"{arm.name} | {budget:g} {self.unit} | seed {seed}"]
        return train.Pretrained(train.Run.open(self.ledger.folder / cell["run"]), {}).encoder()

    def conclude(
        self, alive: list[Arm], standing: Mapping[str, Encoder | None], total: float, seeds: range, draws: int
    ) -> dict[str, Any]:
        """The table on test rows, and the recommendation by the few labels."""
        problem = self.problem
        at = verdict_budget(problem, budgets_of(problem, None), None)
        some = few_label_draws(problem, [at] if isinstance(at, int) else [], draws, self.choice.seed)
        tested: dict[str, list] = {}
        for arm in alive:
            good = [s for s in seeds if "mean" in self.ledger.cells[f"{arm.name} | {total:g} {self.unit} | seed {s}"]]
            tested[arm.name] = [self._tested(self._encoder(arm, total, s), some) for s in good]
        for name, one in standing.items():
            tested[name] = [self._tested(one, some)]
        rows = [row for name, found in tested.items() for row in self._rows(name, found)]
        result = {
            "task": tasks.name_of(problem.task),
            "metric": problem.task.metric, "rows": rows,
            "choice": [{k: v for k, v in c.items() if k != "items"} for c in self.ledger.cells.values()],
            "recommendation": self._recommend(alive, list(standing), total, seeds, rows, at),
            "chosen_with": len(self.choice.rows), "test_rows": len(problem.targets), "unit": self.unit,
        }  # fmt: skip
        self.ledger.write(result=result)
        return result

    def _tested(self, encoder: Encoder | None, some: dict[Budget, list[np.ndarray]]):
        pool, test = (
            raw(d)
            if encoder is None
            else embed(encoder, d, batch=self.batch, device=self.device, listener=self.listener)
            for d in (self.problem.pool, self.problem.test)
        )
        return probe(self.problem, Features(pool, test), some, seed=self.choice.seed)

    def _rows(self, name: str, found: list) -> list[dict[str, Any]]:
        """One row a probe and budget; several seeds are joined."""
        first, seconds = (
            found[0],
            [c["seconds"] for c in self.ledger.cells.values() if c["arm"] == name and "seconds" in c],
        )
        for other in found[1:]:
            first.join(other)
        out = []
        for (how, budget), held in first.scores.items():
            got = interval(held, self.problem.test_groups, seed=self.choice.seed)
            out.append({
                "features": name, "method": name, "seconds": round(max(seconds), 1), "probe": how, "layer": "last",
                "labels_per_class": budget, "mean": round(got.mean, 6), "low": round(got.low, 6), "high": round(got.high, 6),
                "draws": held.numerator.shape[1], "seeds": held.numerator.shape[0],
            })  # fmt: skip
        return out

    def _few(self, name: str, total: float, seeds: range) -> Scores:
        """The few-label scores of an arm, a seed each."""
        names = [name] if name in self.ledger.cells else [f"{name} | {total:g} {self.unit} | seed {s}" for s in seeds]
        cells = [self.ledger.cells[n] for n in names if "items" in self.ledger.cells[n]]
        bounded = (0.0, 1.0) if self.problem.task.wants != "number" else None
        return Scores(np.array([[c["items"][0]] for c in cells]), np.array(cells[0]["items"][1]), bounded)

    def _recommend(
        self, alive: list[Arm], standing: list[str], total: float, seeds: range, rows, at: Budget
    ) -> dict[str, Any]:
        """The arm with the best few-label score, what it is ahead of, and how surely."""
        few = {name: self._few(name, total, seeds) for name in [*(a.name for a in alive), *standing]}
        order = sorted(few, key=lambda name: -few[name].mean)
        best, second = order[0], order[1]
        gap = interval(few[best].minus(few[second]), self.choice.groups, seed=self.choice.seed)
        sure = gap.low > 0
        held = {r["features"]: r for r in rows if r["probe"] == "linear" and r["labels_per_class"] == at}
        sentence = recommend(best, second, few[best].mean, gap, sure, len(self.choice.rows), standing)
        test = f" On {len(self.problem.targets)} test rows: {held[best]['mean']:.3f} [{held[best]['low']:.3f}, {held[best]['high']:.3f}]"
        test += "".join(f", {n} {held[n]['mean']:.3f}" for n in order[1:3] if n in held)
        test += f" ({'all' if at == 'all' else at} labels{'' if at == 'all' or self.problem.classes is None else ' a class'})."
        return {
            "method": best, "sure": sure, "second": second, "ahead": round(gap.mean, 6), "low": round(gap.low, 6),
            "high": round(gap.high, 6), "sentence": sentence + test,
        }  # fmt: skip


def recommend(best: str, second: str, score: float, gap, sure: bool, rows: int, standing: Sequence[str]) -> str:
    """One sentence of advice with its reason."""
    span = f"{gap.mean:+.3f}, 95 % interval {gap.low:+.3f} to {gap.high:+.3f}"
    basis = f"a linear probe of {rows} labelled rows scores {score:.3f} on those it was not fitted on"
    if best in standing:
        return f"Take no pretext task: {best} features do best ({basis}; {span} over {second}). Longer runs or more data may change that."
    if sure:
        return f"Take {best}: {basis}, surely more than {second} ({span})."
    other = "which costs nothing" if second in standing else "which may be as good"
    return f"Take {best}: {basis}; it is not surely ahead of {second} ({span}), {other}."
