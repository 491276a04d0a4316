"""Fitting a model to the labels of a problem, and scoring it once on the test rows."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn as nn

from .. import measures
from ..core import Draw, Encoder, Facts, RequestError, View, random
from ..core.errors import nearest
from ..core.listener import Listener
from ..core.task import Task
from ..measures.linear import folds
from ..nets.concat import ConcatPooled
from ..nets.weighted import WeightedStages
from ..train.finetune import Plan, Tuned, outputs, tune
from ..train.semi import Companion
from .embed import embed
from .probe import read_out, read_outs, scores
from .protocol import Problem
from .statistics import interval
from .weighted import learn_shares

Mode = Literal["head", "full", "gradual", "lora"]
Pool = Literal["encoder", "concat", "weighted"]
POOLS = ("encoder", "concat", "weighted")
MODES = ("head", "full", "gradual", "lora")


@dataclass(frozen=True)
class Fitted:
    """A model, its outputs on the validation rows while it had not been fitted to them (None: there are none), and the epoch kept."""

    model: Tuned
    held: np.ndarray | None
    epochs: int = 0


@dataclass(frozen=True)
class Confidence:
    """What makes confidences of outputs: a temperature, and the task with its threshold, both from validation rows."""

    task: Task
    temperature: float = 1.0


def pooled(encoder: Encoder, pool: Pool, view: View | None = None) -> Encoder:
    """The encoder; with "concat" one around it that gives mean, maximum and last token; with "weighted" a mixture of the stages that it gives for `view`."""
    if pool not in POOLS:
        raise nearest(pool, POOLS, "way to pool")
    if pool == "weighted":
        if view is None:
            raise ValueError("the widths of stages are seen on a view")
        return WeightedStages.around(encoder, view)
    return encoder if pool == "encoder" else ConcatPooled().join(encoder)


def example(data) -> View:
    """A clean view of the first row of a dataset."""
    plain = data.modality.plain(Facts(rows=len(data), modality=data.modality))
    return plain(data.fetch([0]), Draw(torch.from_numpy(data.ids[:1])))


def with_few(problem: Problem, budget: int | None, seed: int) -> Problem:
    """The same problem with a few-label draw in the place of all labels; a fifth of it validates, where classes have five."""
    if budget is None:
        return problem
    most = problem.usual_class() if problem.classes is not None else len(problem.probe_train)
    if not 1 <= budget <= most:
        raise RequestError(f"{budget} labels a class are asked for, of {most}.", f"Give 1 to {most}.")
    (draw,) = problem.task.draws(problem.labels, problem.probe_train, budget, 1, seed)
    if budget < 5:
        return replace(problem, probe_train=draw, probe_validation=draw[:0])
    groups = None if problem.pool_groups is None else problem.pool_groups[draw]
    fold = folds(problem.labels.strata[draw], random.key(seed, "few-label validation"), groups)
    return replace(problem, probe_train=draw[fold != 0], probe_validation=draw[fold == 0])


def fit(
    problem: Problem, encoder: Encoder, mode: Mode, plan: Plan | None, *, companion: Companion | None = None, seed: int = 0,
    batch: int = 256, device: str = "cpu", listener: Listener | None = None,
) -> Fitted:  # fmt: skip
    """The model of a problem's training rows: the strength, or the epoch, is chosen on its validation rows.

    companion: a method whose loss on rows without labels is added (mode full)."""
    listener = listener or Listener()
    if mode == "head" and companion is not None:
        raise RequestError("--method trains the whole encoder, not --mode head.", "Use --mode full.")
    if mode == "head":
        if isinstance(encoder, WeightedStages):
            learn_shares(problem, encoder, seed=seed, batch=batch, device=device, listener=listener)
        return _head(problem, encoder, batch, device, listener)
    chosen, held = replace(plan or Plan(), mode=mode, seed=seed), problem.probe_validation
    model, history = tune(
        encoder, problem.task, problem.pool, problem.labels.values, problem.probe_train, held if len(held) else None,
        plan=chosen, companion=companion, device=device, listener=listener,
    )  # fmt: skip
    return Fitted(model, outputs(model, problem.pool, held, device=device) if len(held) else None, history.kept)


def _head(problem: Problem, encoder: Encoder, batch: int, device: str, listener: Listener) -> Fitted:
    """The linear read-out as a module; once its strength is chosen it is fitted to the validation rows too."""
    features = embed(encoder, problem.pool, batch=batch, device=device, listener=listener)
    scale, truth = measures.Scale.of(features[problem.everything]), problem.labels.values
    train, held = problem.probe_train, problem.probe_validation
    if len(held):
        linear = read_out(problem.task, features[train], truth[train], features[held], truth[held], scale=scale)
    else:
        (linear,) = read_outs(problem.task, features, truth, [train], scale=scale, key=0)
    return Fitted(with_head(encoder, linear), linear.held)


def with_head(encoder: Encoder, linear: measures.Linear) -> Tuned:
    """An encoder with a read-out of its features as its head."""
    head = nn.Linear(*linear.weight.shape)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(linear.weight.T))
        head.bias.copy_(torch.from_numpy(linear.intercept))
    return Tuned(encoder, head).eval()


def calibrate(task: Task, held: np.ndarray | None, truth: np.ndarray) -> Confidence:
    """The temperature, and for sets the threshold, of outputs `held` on validation rows whose targets are `truth`."""
    if held is None or task.wants == "number":
        return Confidence(task)
    if task.wants == "class":
        return Confidence(task, measures.fit_temperature(held, truth))
    chosen = {f.name: getattr(task, f.name) for f in fields(task)}  # type: ignore[arg-type]
    chosen["threshold"] = task.best_threshold(task.predict(held), truth)  # type: ignore[attr-defined]
    return Confidence(type(task)(**chosen), measures.fit_temperature(measures.as_pairs(held), (truth == 1).ravel().astype(int)))  # fmt: skip


def score(problem: Problem, fitted: Fitted, device: str = "cpu") -> tuple[Confidence, dict[str, Any]]:
    """The test rows, once: metrics with an interval; confidences calibrated on validation, their error before and after."""
    truth, known = problem.targets, problem.labels.values[problem.probe_validation]
    confidence = calibrate(problem.task, fitted.held, known)
    task = confidence.task
    out = outputs(fitted.model, problem.test, np.arange(len(truth)), device=device)
    guesses = task.predict(out)
    got = interval(scores(task, guesses[None], truth), problem.test_groups)
    result: dict[str, Any] = {
        "test": {**task.metrics(guesses, truth), "low": got.low, "high": got.high},
        "rows": {"train": len(problem.probe_train), "validation": len(problem.probe_validation), "test": len(truth)},
    }
    if fitted.held is not None:
        result["validation"] = task.metrics(task.predict(fitted.held), known)
    if task.wants != "number":
        pairs, right = (measures.as_pairs(out), (truth == 1).ravel()) if task.wants == "set" else (out, truth)
        before, after = (
            measures.calibration_error(measures.probabilities(pairs, t), right) for t in (1.0, confidence.temperature)
        )
        result["calibration"] = {"before": before, "after": after, "temperature": confidence.temperature}
    if task.wants == "set":
        result["threshold"] = task.threshold  # type: ignore[attr-defined]
    if isinstance(fitted.model.encoder, WeightedStages):
        result["stages"] = fitted.model.encoder.shares()
    return confidence, result
