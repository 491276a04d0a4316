"""`compare`: which pretext task for these data?  Equal time for each, the choice by few labels, the table on rows that chose nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import methods as kinds
from .. import modalities
from ..core import Encoder, RequestError, module
from ..core.listener import Listener
from ..data import splits
from ..train.precision import device_of
from . import leakage
from .choice import LABELS, Choice
from .conclusion import Conclusion
from .contest import Arm, Contest, rungs
from .ledger import Ledger
from .opening import open_dataset
from .probe import few_label_draws
from .protocol import Problem, budgets_of, prepare, verdict_budget

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


def compare(
    data, *, labels: str | np.ndarray | None = None, methods: Sequence[str] | None = None, minutes: float = 4.0,
    steps: int | None = None, seeds: int = 1, seed: int = 0, out: str | Path = "comparison", whole: bool = False,
    holdout: float = 0.2, choose_with: int = LABELS, draws: int = 10, shelf: Mapping[str, Encoder | tuple[Encoder, Any]] | None = None,
    group: str | None = None, task: str | None = None, column: str | None = None, max_bad: float = 0.01, size: int | None = None,
    encoder: str | None = None, encoder_options: dict | None = None, recipe: dict | None = None, device: str | None = "cpu",
    batch: int = 256, test=None, budgets: Sequence[int] | None = None, all_labels: bool = False, names: str | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Pretrains every method on `data` for the same time, and tells which to take; returns what `selftaught compare --json` prints.

    methods: names, with options as `simclr:temperature=0.2`; default: `FIELD`.  minutes (or steps): of each; from four arms on the field is
    halved at a quarter and at a half of them (successive halving; Karnin et al. 2013), unless `whole`.  seeds: of the arms that come to the end.
    choose_with: labelled rows that the choice uses, none of them a test row; holdout: the share that is tested and never pretrained on;
    test: a test set of one's own in its place.  budgets: labels a class of the table's linear probes (default: the one of a verdict); all_labels: that of
    all labels too.  shelf: {name: encoder, or (encoder, modality)} off the shelf.  out: a folder for the runs and compare.json: the same request goes on where it stopped, and
    other methods or more seeds join those that are there.
    Raises RequestError, DataError.  Cost: the sum of all budgets, and for each arm one pass over the labelled rows.
    """
    listener = listener or Listener()
    dataset = modalities.open_data(
        data, column=column, group=group, names=names, size=size, max_bad=max_bad, say=listener.say,
        progress=lambda done, total, bad: listener.progress("packing", done, total, f"{bad} set apart" if bad else ""),
    )  # fmt: skip
    arms = arms_of(methods, dataset.modality)
    _check(arms, minutes, steps, seeds, choose_with)
    test = open_dataset(test, dataset.modality, listener, column=column, max_bad=max_bad, names=names)
    problem = _problem(dataset, listener, holdout, labels=labels, test=test, group=group, task=task, seed=seed)
    tried = budgets_of(problem, budgets)
    at = verdict_budget(problem, tried, budgets)
    total = float(steps if steps is not None else minutes)
    request = {
        "data": dataset.fingerprint, "labels": problem.labels.column, "test": None if test is None else test.fingerprint,
        "minutes": minutes, "steps": steps, "seed": seed, "holdout": holdout, "choose_with": choose_with, "draws": draws,
        "encoder": encoder, "encoder_options": encoder_options, "recipe": recipe,
    }  # fmt: skip
    settings = {
        "holdout": holdout if test is None else None, "group": group, "names": names, "column": column, "max_bad": max_bad, "size": size, "encoder": encoder,
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
    order = range(seed, seed + seeds)
    standing = contest.standing(alive, shelf or {}, total, order)
    some = few_label_draws(problem, _table(tried, budgets, at), draws, seed)
    return Conclusion(contest, alive, standing, total, order, at, some, all_labels or not some).result()


def _problem(dataset, listener: Listener, holdout: float, *, test, group: str | None, **asked) -> Problem:
    """The task with its split, said aloud: tested are the rows of `test`, or the share that is held out."""
    held = splits.hold_out(dataset, holdout, group=group)[1] if test is None else None
    copies = leakage.clusters(dataset, near=test is None)
    problem = prepare(dataset, test=test, group=group, held=held, duplicates=copies, **asked)
    for note in problem.notes:
        listener.say(note)
    return problem


def _table(tried: list[int], asked: Sequence[int] | None, at) -> list[int]:
    """The label budgets of the table."""
    return tried if asked is not None else [at] if isinstance(at, int) else []


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
