"""`finetune`: a pretrained encoder and the labels there are -> a model that predicts, with its score on rows it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn as nn

from .. import measures, nets, tasks
from ..core import Encoder, Kept, RequestError, random
from ..core.listener import Listener
from ..core.task import Task
from ..measures.linear import folds
from ..train.finetune import Plan, Tuned, outputs, tune
from ..train.precision import device_of
from . import leakage
from .embed import embed
from .opening import held_out, open_dataset, open_encoders
from .probe import fit_all, scores
from .protocol import Problem, prepare
from .statistics import interval

LABELS = "labels.json"
Mode = Literal["head", "full", "lora"]


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
        about = {
            "task": tasks.name_of(self.task),
            "version": self.task.version,
            "options": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.task).items()},
            "temperature": self.temperature,
            "result": self.result,
        }
        kept = Kept(self.model.encoder, {"head": self.model.head})
        return nets.store.save(folder, kept, sides={LABELS: about}, fill=self.modality.save)


def finetune(
    run, data, *, labels: str | np.ndarray | Sequence | None = None, test=None, task: str | None = None, mode: Mode = "full",
    group: str | None = None, labels_per_class: int | None = None, plan: Plan | None = None, out: str | Path | None = None,
    seed: int = 0, column: str | None = None, max_bad: float = 0.01, batch: int = 256, device: str | None = "cpu",
    listener: Listener | None = None,
) -> Finetuned:  # fmt: skip
    """Adapts a pretrained encoder to a task with the labels of `data`, and scores it once on the test rows.

    run, data, test, labels, group, column, max_bad as for `evaluate`.  mode: "head" fits a linear read-out of the frozen encoder (its strength
    chosen on validation), "full" trains every parameter with layer-wise rates, "lora" low-rank adapters.
    labels_per_class: a class-balanced draw of so many (numbers: so many rows); plan: epochs, rates and the rest of training.
    The epoch is chosen on validation rows; the temperature of confidences is fitted there too.  out: writes the model folder.
    Tasks detect and segment are served by `dense.finetune_dense`, which takes further arguments.  Raises RequestError, DataError or ModelError.
    """
    if task is not None and tasks.find(task).wants in ("boxes", "mask"):
        from .dense import finetune_dense

        return finetune_dense(
            run, data, task=task, labels=labels, test=test, mode=mode, group=group, labels_per_class=labels_per_class, plan=plan, out=out,
            seed=seed, column=column, max_bad=max_bad, device=device, listener=listener,
        )  # fmt: skip
    if mode not in ("head", "full", "lora"):
        raise RequestError(f"{mode!r} is no way to finetune.", "Accepted: head, full, lora.")
    if task is not None and tasks.find(task).wants == "nothing":
        tasks.find(task)().head(1)  # says why it cannot be
    listener, where = listener or Listener(), str(device_of(device))
    encoders, modality = open_encoders(run)
    data, test = (open_dataset(d, modality, listener, column=column, max_bad=max_bad) for d in (data, test))
    problem = prepare(
        data,
        labels=labels,
        test=test,
        group=group,
        task=task,
        seed=seed,
        duplicates=leakage.clusters(data, near=test is None),
        held=held_out(run, data, listener) if test is None else None,
    )
    for note in problem.notes:
        listener.say(note)
    problem = _with_few(problem, labels_per_class, seed)
    if mode == "head":
        tuned = _fit_head(problem, encoders[0], batch, where, listener)
        epochs = 0
    else:
        tuned, epochs = _train(problem, encoders[0], replace(plan or Plan(), mode=mode, seed=seed), where, listener)
    found = _score(problem, *tuned, modality or data.modality, where)
    found.result = {"task": tasks.name_of(problem.task), "metric": problem.task.metric, "mode": mode, "epochs": epochs, **found.result}  # fmt: skip
    if out is not None:
        found.result["model"] = str(out)
        found.save(out)
    return found


def _with_few(problem: Problem, budget: int | None, seed: int) -> Problem:
    """The same problem with a few-label draw in the place of all labels; a fifth of it validates, where classes have five."""
    if budget is None:
        return problem
    most = problem.usual_class() if problem.classes is not None else len(problem.probe_train)
    if not 1 <= budget <= most:
        raise RequestError(f"{budget} labels a class are asked for, of {most}.", f"Give 1 to {most}.")
    (draw,) = problem.task.draws(problem.labels, problem.probe_train, budget, 1, seed)
    if budget < 5:
        return replace(problem, probe_train=draw, probe_validation=draw[:0])
    strata = problem.labels.values[draw] if problem.classes is not None else np.zeros(len(draw), dtype=np.int64)
    groups = None if problem.pool_groups is None else problem.pool_groups[draw]
    fold = folds(strata, random.key(seed, "few-label validation"), groups)
    return replace(problem, probe_train=draw[fold != 0], probe_validation=draw[fold == 0])


def _fit_head(
    problem: Problem, encoder: Encoder, batch: int, device: str, listener: Listener
) -> tuple[Tuned, np.ndarray | None]:
    """The linear read-out as a module, and its outputs on the validation rows before they were fitted too."""
    features = embed(encoder, problem.pool, batch=batch, device=device, listener=listener)
    scale = measures.Scale.of(features[problem.everything])
    if len(problem.probe_validation):
        linear, _ = fit_all(problem, features, scale)
    else:
        targets = problem.task.encode(problem.labels.values)
        (linear,) = measures.fit_draws(
            features, targets, [problem.probe_train], classes=problem.classes, scale=scale, key=0
        )
    head = nn.Linear(encoder.dim, problem.task.outputs)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(linear.weight.T))
        head.bias.copy_(torch.from_numpy(linear.intercept))
    return Tuned(encoder, head).eval(), linear.held


def _train(
    problem: Problem, encoder: Encoder, plan: Plan, device: str, listener: Listener
) -> tuple[tuple[Tuned, np.ndarray | None], int]:
    held = problem.probe_validation
    model, history = tune(
        encoder, problem.task, problem.pool, problem.labels.values, problem.probe_train, held if len(held) else None,
        plan=plan, device=device, listener=listener,
    )  # fmt: skip
    return (model, outputs(model, problem.pool, held, device=device) if len(held) else None), history.kept


def _score(problem: Problem, model: Tuned, held: np.ndarray | None, modality, device: str) -> Finetuned:
    """The test rows, once: metrics with an interval; confidences calibrated on validation, their error before and after."""
    task, truth = problem.task, problem.targets
    out = outputs(model, problem.test, np.arange(len(truth)), device=device)
    guesses = task.predict(out)
    got = interval(scores(task, guesses[None], truth), problem.test_groups)
    result: dict[str, Any] = {
        "test": {**task.metrics(guesses, truth), "low": got.low, "high": got.high},
        "rows": {"train": len(problem.probe_train), "validation": len(problem.probe_validation), "test": len(truth)},
    }
    temperature = 1.0
    if held is not None:
        known = problem.labels.values[problem.probe_validation]
        result["validation"] = task.metrics(task.predict(held), known)
        if problem.classes is not None:
            temperature = measures.fit_temperature(held, known)
    if problem.classes is not None:
        before, after = (measures.calibration_error(measures.probabilities(out, t), truth) for t in (1.0, temperature))
        result["calibration"] = {"before": before, "after": after, "temperature": temperature}
    return Finetuned(model.cpu(), task, modality, temperature, result)
