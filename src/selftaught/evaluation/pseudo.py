"""Pseudo-labels in rounds: what a model of few labels is sure of becomes labels of the next round; validation rows choose the round.

Source: Lee 2013 (Pseudo-Label); confidences calibrated first (Guo et al. 2017), classes in proportion to the labels (as CReST, Wei et
al. 2021, has it).  Every round begins again from the pretrained encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import measures, tasks
from ..core import Encoder, RequestError, random
from ..core.listener import Listener
from ..data.duplicates import exact_between
from ..data.joined import Joined
from ..data.labels import MISSING
from ..train.finetune import Plan, outputs, tune
from .embed import embed
from .fitting import Fitted, Mode, calibrate, with_head
from .probe import read_out
from .protocol import LIMIT, Problem

CROWD = 2.0
"""A class gives at most so many times the pseudo-labels that the median class gives, each counted by its labels."""


@dataclass(frozen=True)
class Unlabelled:
    """Rows without labels that may be used, and what is known of them: `truth` only ever reaches the report."""

    data: Any
    truth: np.ndarray
    copies: int = 0
    """Rows left out as copies of test or validation rows."""


@dataclass(frozen=True)
class Settings:
    """How pseudo-labels are taken."""

    rounds: int = 3
    confidence: float = 0.9

    def __post_init__(self):
        if self.rounds < 1:
            raise RequestError(f"--rounds {self.rounds} takes no pseudo-labels.", "Give 1 or more.")
        if not 0 < self.confidence < 1:
            raise RequestError(f"--confidence {self.confidence:g} is no probability.", "Give a number between 0 and 1.")


def gather(given: Problem, problem: Problem, data, unlabelled) -> Unlabelled:
    """The rows that may be learned from without a label: of another dataset, or, where `unlabelled` is `data` itself, what is left of it.

    What is left: rows without a label, and those whose labels a few-label draw withheld (`given` is the problem before it), but
    none of the test or validation rows, of their groups, nor of their copies.
    """
    held = problem.pool.subset(problem.probe_validation)  # type: ignore[attr-defined]
    if unlabelled.fingerprint == data.fingerprint:
        rest = np.setdiff1d(given.everything, problem.everything)
        if problem.pool_groups is not None:
            rest = rest[~np.isin(problem.pool_groups[rest], problem.pool_groups[problem.probe_validation])]
        places = np.concatenate([problem.places[rest], problem.free])
        known = problem.labels.values[rest] if problem.classes is not None else np.full(len(rest), MISSING)
        truth = np.concatenate([known, np.full(len(problem.free), MISSING)])
        rows = data
    else:
        places, rows = np.arange(len(unlabelled)), unlabelled
        truth = np.full(len(places), MISSING)
    if len(places) > LIMIT:
        kept = np.sort(random.permutation(random.key("unlabelled"), len(places)).numpy()[:LIMIT])
        places, truth = places[kept], truth[kept]
    copies = np.zeros(len(places), dtype=bool)
    if len(places):
        for other in (problem.test, held):
            copies[exact_between(rows.subset(places), other).first] = True  # type: ignore[arg-type]
    if copies.all():
        raise RequestError(
            "There are no rows without labels to learn from.",
            "Give other data with --unlabelled; the labelled data themselves serve where labels are missing or --labels-per-class withholds some.",
        )
    return Unlabelled(rows.subset(places[~copies]), truth[~copies], int(copies.sum()))


def check(problem: Problem) -> None:
    """Raises RequestError where pseudo-labels cannot be taken or no round could be chosen."""
    if problem.task.wants != "class":
        name = tasks.name_of(problem.task)
        raise RequestError(
            f"Pseudo-labels are for one class a row; this task is {name}.",
            "Leave out --unlabelled, or use --task classify.",
        )
    if not len(problem.probe_validation):
        raise RequestError(
            "Pseudo-labels need validation rows to choose the round by, and so few labels leave none.",
            "Give --labels-per-class 5 or more.",
        )


def take(outputs_: np.ndarray, temperature: float, labelled: np.ndarray, confidence: float) -> np.ndarray:
    """(M,) int64 pseudo-labels, MISSING where not sure enough, of outputs (M, K); `labelled` are the classes of the labelled rows.

    A class gives its surest rows alone where it gives more than `CROWD` times what the median class does, in proportion to its
    labels; as many as it has labels it may always give.
    """
    p = measures.probabilities(outputs_, temperature)
    sure, guess = p.max(1), p.argmax(1)
    have = np.bincount(labelled, minlength=p.shape[1])
    found = np.bincount(guess[sure >= confidence], minlength=p.shape[1])
    present = have > 0
    crowd = max(1.0, CROWD * float(np.median(found[present] / have[present])))
    labels = np.full(len(p), MISSING, np.int64)
    for k in np.flatnonzero(present):
        mine = np.flatnonzero((guess == k) & (sure >= confidence))
        labels[mine[np.argsort(-sure[mine], kind="stable")][: int(crowd * have[k])]] = k
    return labels


@dataclass
class _Round:
    held: np.ndarray
    guesses: np.ndarray  # (M, K) outputs on the unlabelled rows
    finish: Callable[[], Fitted]


Learn = Callable[[np.ndarray], _Round]


def self_train(
    problem: Problem, rows: Unlabelled, encoder: Encoder, mode: Mode, plan: Plan | None, settings: Settings, *, seed: int = 0,
    batch: int = 256, device: str = "cpu", listener: Listener | None = None,
) -> tuple[Fitted, dict[str, Any]]:  # fmt: skip
    """(the model of the round that is best on validation, what each round did); ties go to the earlier round, round 0 is none at all.

    Cost: (rounds + 1) trainings.  With mode "head" the features are made once.
    """
    listener, task = listener or Listener(), problem.task
    learn = (
        _head(problem, rows, encoder, batch, device, listener) if mode == "head"
        else _tuned(problem, rows, encoder, replace(plan or Plan(), mode=mode, seed=seed), device, listener)
    )  # fmt: skip
    known, labelled = problem.labels.values[problem.probe_validation], problem.labels.values[problem.probe_train]
    labels, history = np.full(len(rows.truth), MISSING, np.int64), []
    best, before, top = None, None, -np.inf
    for number in range(settings.rounds + 1):
        if number:
            assert before is not None
            fresh = take(before.guesses, calibrate(task, before.held, known).temperature, labelled, settings.confidence)
            if np.array_equal(fresh, labels) or (fresh == MISSING).all():
                why = (
                    "no prediction is sure enough"
                    if (fresh == MISSING).all()
                    else "the pseudo-labels are those of the round before"
                )
                listener.say(f"round {number}: {why}; no more rounds.")
                break
            labels = fresh
        now = learn(labels)
        figures = task.metrics(task.predict(now.held), known)
        history.append(_said(number, labels, rows.truth, figures, before, now))
        listener.say(
            f"round {number}: {history[-1]['taken']} pseudo-labels, validation {task.metric} {figures[task.metric]:.3f}"
        )
        if figures[task.metric] > top:
            best, top, kept = now, figures[task.metric], number
        before = now
    assert best is not None
    report = {"unlabelled": len(rows.truth), "copies_left_out": rows.copies, "confidence": settings.confidence, "kept_round": kept, "rounds": history}  # fmt: skip
    return best.finish(), report


def _said(
    number: int, labels: np.ndarray, truth: np.ndarray, figures: dict, before: _Round | None, now: _Round
) -> dict[str, Any]:
    taken = labels != MISSING
    sure = taken & (truth != MISSING)
    same = None if before is None else float((before.guesses.argmax(1) == now.guesses.argmax(1)).mean())
    return {
        "round": number,
        "taken": int(taken.sum()),
        "classes": len(np.unique(labels[taken])),
        "validation": figures,
        "agreement": same,
        "right": float((labels == truth)[sure].mean()) if sure.any() else None,
    }


def _head(problem: Problem, rows: Unlabelled, encoder: Encoder, batch: int, device: str, listener: Listener) -> Learn:
    """Rounds of a linear read-out: no round sees a validation row before the last is chosen, or its labels would come back as pseudo-labels."""
    pool, more = (embed(encoder, d, batch=batch, device=device, listener=listener) for d in (problem.pool, rows.data))
    train, held, truth = problem.probe_train, problem.probe_validation, problem.labels.values
    scale = measures.Scale.of(pool[problem.everything])

    def learn(labels: np.ndarray) -> _Round:
        taken = labels != MISSING
        x, y = np.concatenate([pool[train], more[taken]]), np.concatenate([truth[train], labels[taken]])

        def fit(refit: bool) -> measures.Linear:
            return read_out(problem.task, x, y, pool[held], truth[held], scale=scale, refit=refit)

        linear = fit(False)
        assert linear.held is not None
        return _Round(linear.held, linear.outputs(more), lambda: Fitted(with_head(encoder, fit(True)), linear.held))

    return learn


def _tuned(problem: Problem, rows: Unlabelled, encoder: Encoder, plan: Plan, device: str, listener: Listener) -> Learn:
    """Rounds of training by gradient, each from the pretrained encoder."""
    both, pool = Joined(problem.pool, rows.data), len(problem.labels)
    held = problem.probe_validation

    def learn(labels: np.ndarray) -> _Round:
        targets = np.concatenate([problem.labels.values, labels])
        train = np.concatenate([problem.probe_train, pool + np.flatnonzero(labels != MISSING)])
        model, history = tune(
            encoder, problem.task, both, targets, train, held, plan=plan, device=device, listener=listener
        )
        out = outputs(model, problem.pool, held, device=device)
        more = outputs(model, rows.data, np.arange(len(labels)), device=device)
        return _Round(out, more, lambda: Fitted(model, out, history.kept))

    return learn
