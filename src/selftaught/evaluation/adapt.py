"""`finetune`: a pretrained encoder and the labels there are -> a model that predicts, with its score on rows it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import tasks
from ..core import Encoder, Kept, RequestError
from ..core.listener import Listener
from ..core.task import Task
from ..train.finetune import Plan, Tuned
from ..train.precision import device_of
from ..train.semi import Companion
from . import label_file, leakage, pseudo
from .fitting import MODES, Fitted, Mode, Pool, example, fit, pooled, score, with_few
from .opening import held_out, open_dataset, open_encoders
from .protocol import Problem, prepare
from .served import service


@dataclass
class Finetuned:
    """A model for a task: encoder, head, what the outputs mean, and what was measured of it."""

    model: Tuned
    task: Task
    modality: Any
    temperature: float = 1.0
    """What logits are divided by before they become confidences; 1 for numbers."""
    result: dict[str, Any] = field(default_factory=dict)
    """What `finetune --json` prints."""

    def save(self, folder: str | Path) -> Path:
        """Writes the model folder: encoder, head, labels.json and the modality's own files."""
        kept = Kept(self.model.encoder, {"head": self.model.head})
        return label_file.write(folder, kept, self.task, self.result, self.modality, temperature=self.temperature)


def finetune(
    run, data, *, labels: str | np.ndarray | Sequence | None = None, test=None, task: str | None = None, mode: Mode = "full",
    group: str | None = None, labels_per_class: int | None = None, plan: Plan | None = None, out: str | Path | None = None,
    unlabelled=None, rounds: int = 3, confidence: float = 0.9, method: str | None = None, weight: float = 1.0, balance: bool = False,
    pool: Pool = "encoder", seed: int = 0, column: str | None = None, max_bad: float = 0.01, names: str | None = None, batch: int = 256, device: str | None = "cpu", listener: Listener | None = None,
) -> Finetuned:  # fmt: skip
    """Adapts a pretrained encoder to a task with the labels of `data`, and scores it once on the test rows.

    run, data, test, labels, group, column, max_bad, names as for `evaluate`.  mode: "head" fits a linear read-out of the frozen encoder (its strength
    chosen on validation), "full" trains every parameter with layer-wise rates, "gradual" the head first and then one layer after
    another, "lora" low-rank adapters.
    pool: what the head reads: the encoder's own representation, or "concat": mean, maximum and last token side by side (ULMFiT), or "weighted": a learned mixture of all stages
    (SUPERB), whose shares stand in the result ("stages").
    labels_per_class: a class-balanced draw of so many (numbers, several labels a row: so many rows); balance: of several labels a row,
    positives of rare classes weigh more; plan: epochs, rates and the rest of training.
    unlabelled: data whose confident predictions (at least `confidence`) become labels, in `rounds` (evaluation/pseudo.py); the labelled
    data themselves where labels are missing or withheld.  method: instead, this pretext task's loss on those rows, times `weight`, is added
    to the task's at every step (mode full).
    The epoch is chosen on validation rows; the temperature of confidences is fitted there too.  out: writes the model folder.
    Other tasks are served by modules of their own (see served.py), whose functions take further arguments.
    Raises RequestError, DataError or ModelError.
    """
    own = service(task)
    if own is not None:
        return own.finetune(
            run, data, task=task, labels=labels, test=test, mode=mode, group=group, labels_per_class=labels_per_class, plan=plan, out=out,
            seed=seed, column=column, max_bad=max_bad, device=device, listener=listener,
        )  # fmt: skip
    _check(mode, task)
    listener, where = listener or Listener(), str(device_of(device))
    encoders, modality = open_encoders(run)
    data, test = (open_dataset(d, modality, listener, column=column, max_bad=max_bad, names=names) for d in (data, test))  # fmt: skip
    held = held_out(run, data, listener) if test is None else None
    problem = prepare(
        data, labels=labels, test=test, group=group, task=task, seed=seed, held=held, balance=balance,
        duplicates=leakage.clusters(data, near=test is None),
    )  # fmt: skip
    for note in problem.notes:
        listener.say(note)
    encoder = pooled(encoders[0], pool, example(problem.pool))
    given, problem = problem, with_few(problem, labels_per_class, seed)
    settings: dict[str, Any] = {"seed": seed, "batch": batch, "device": where, "listener": listener}
    more: dict[str, Any] = {}
    if unlabelled is not None:
        extra = open_dataset(unlabelled, data.modality, listener, column=column, max_bad=max_bad)
        way = _Unlabelled(extra, rounds, confidence, method, weight)
        fitted, more = way.fit(given, problem, data, encoder, mode, plan, settings)
    elif method is not None:
        raise RequestError("--method needs rows without labels to learn from.", "Name them with --unlabelled.")
    else:
        fitted = fit(problem, encoder, mode, plan, **settings)
    sure, result = score(problem, fitted, where)
    about = {"task": tasks.name_of(sure.task), "metric": sure.task.metric, "mode": mode, "epochs": fitted.epochs}
    found = Finetuned(
        fitted.model.cpu(), sure.task, modality or data.modality, sure.temperature, {**about, **result, **more}
    )
    if out is not None:
        found.result["model"] = str(out)
        found.save(out)
    return found


def _check(mode: str, task: str | None) -> None:
    """RequestError before anything is opened."""
    if mode not in MODES:
        raise RequestError(f"{mode!r} is no way to finetune.", f"Accepted: {', '.join(MODES)}.")
    if task is not None and tasks.find(task).wants in ("nothing", "pair", "speakers"):
        tasks.find(task)().head(1)  # says why it cannot be


@dataclass(frozen=True)
class _Unlabelled:
    """Rows without labels, and what they are for: pseudo-labels in rounds, or the loss of a method."""

    data: Any
    rounds: int
    confidence: float
    method: str | None
    weight: float

    def fit(self, given: Problem, problem: Problem, data, encoder: Encoder, mode: Mode, plan: Plan | None, settings: dict) -> tuple[Fitted, dict[str, Any]]:  # fmt: skip
        """The model, and what the result says of these rows; `given` is the problem before labels were withheld."""
        if self.method is None:
            pseudo.check(problem)
        rows = pseudo.gather(given, problem, data, self.data)
        if self.method is None:
            how = pseudo.Settings(self.rounds, self.confidence)
            fitted, said = pseudo.self_train(problem, rows, encoder, mode, plan, how, **settings)
            return fitted, {"pseudo": said}
        batch, seed = (plan or Plan()).batch, settings["seed"]
        beside = Companion(rows.data, self.method, weight=self.weight, batch=batch, seed=seed)
        said = {
            "method": beside.name,
            "weight": self.weight,
            "unlabelled": len(rows.truth),
            "copies_left_out": rows.copies,
        }
        return fit(problem, encoder, mode, plan, companion=beside, **settings), {"semi": said}
