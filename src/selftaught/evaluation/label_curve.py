"""The label curve of finetuning: the pretrained network and the same one from scratch, with the same few labels, on the same test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import measures, tasks
from ..core import Encoder, RequestError, random
from ..core.listener import Listener
from ..train.finetune import Plan, outputs, tune
from ..train.precision import device_of
from . import leakage
from .controls import untrained
from .curve import labels_saved
from .embed import raw
from .fitting import MODES, Mode, Pool, pooled
from .opening import held_out, open_dataset, open_encoders
from .probe import Features, Probed, blind, few_label_draws, fit_few, predictions, scores
from .protocol import Problem, budgets_of, prepare
from .statistics import Scores, interval

PLAN = Plan(epochs=15, steps=60)
"""As the scratch control of `evaluate` is trained; what the user sets holds for both networks."""
DRAWS = 3


def label_curve(
    run, data, *, budgets: Sequence[int], labels: str | np.ndarray | None = None, test=None, task: str | None = None, mode: Mode = "full",
    plan: Plan | None = None, pool: Pool = "encoder", draws: int = DRAWS, group: str | None = None, seed: int = 0, column: str | None = None,
    max_bad: float = 0.01, names: str | None = None, device: str | None = "cpu", listener: Listener | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Finetunes a pretrained encoder, and the same network from fresh weights, at each of `budgets` labels a class (numbers: in all).

    run, data, labels, test, task, group, column, max_bad, names, plan, mode, pool as for `finetune`; a network from scratch has nothing to unfreeze or to spare,
    so that it is trained whole and with one rate for all layers.  draws: class-balanced draws a point, the same for every arm; no rows are taken
    off to validate, the last epoch is scored.  Bags of tokens (the raw input) under a linear probe, and a blind guess, stand beside.
    Returns "rows" (features, probe, labels_per_class, mean, low, high, draws), paired "differences" (pretrained - scratch, - raw), and
    "labels_saved": how many labels from scratch reach what pretraining does at each budget.
    Raises RequestError, DataError or ModelError.  Cost: 2 x draws x budgets finetunings.
    """
    if mode not in MODES or mode == "head":
        raise RequestError(
            f"The curve finetunes networks, not --mode {mode}.", "evaluate draws the curve of the linear probe."
        )
    if draws < 1 or not budgets:
        raise RequestError(
            f"{draws} draws of {len(budgets)} budgets are no curve.", "Give --curve 5 20 100, and --draws 1 or more."
        )
    listener, where = listener or Listener(), str(device_of(device))
    encoders, modality = open_encoders(run)
    data, test = (open_dataset(d, modality, listener, column=column, max_bad=max_bad, names=names) for d in (data, test))
    problem = prepare(
        data, labels=labels, test=test, group=group, task=task, seed=seed, duplicates=leakage.clusters(data, near=test is None),
        held=held_out(run, data, listener) if test is None else None,
    )  # fmt: skip
    for note in problem.notes:
        listener.say(note)
    drawn = few_label_draws(problem, budgets_of(problem, budgets), draws, seed)
    plan = replace(plan or PLAN, mode=mode)
    curve = _Curve(problem, pooled(encoders[0], pool), plan, seed, where, listener)
    return _result(problem, curve.arms(drawn), mode, plan, seed)


class _Curve:
    """The finetunings of a curve, one after another."""

    def __init__(self, problem: Problem, encoder: Encoder, plan: Plan, seed: int, device: str, listener: Listener):
        self.problem, self.encoder, self.plan = problem, encoder, plan
        self.seed, self.device, self.listener = seed, device, listener

    def arms(self, drawn: dict) -> dict[str, Probed]:
        found = {"pretrained": Probed(), "scratch": Probed(), "raw": Probed(), "blind": blind(self.problem, drawn)}
        total, done = sum(map(len, drawn.values())), 0
        features = Features(raw(self.problem.pool), raw(self.problem.test))
        scale = measures.Scale.of(features.pool[self.problem.scaling])
        for budget, some in drawn.items():
            ours, fresh = [], []
            for number, rows in enumerate(some):
                self.listener.progress("label curve", done, total, f"{budget} labels")
                key = random.key(self.seed, "label curve", budget, number)
                ours.append(self._guesses(self.encoder, rows, replace(self.plan, seed=key)))
                plain = replace(self.plan, mode="full", layer_decay=1.0, seed=key)
                fresh.append(self._guesses(untrained(self.encoder, self.problem.pool, key), rows, plain))
                done += 1
            models = fit_few(self.problem, features.pool, some, scale, random.key(self.seed, "folds", budget))
            guessed = {
                ("pretrained", "finetune"): np.stack(ours), ("scratch", "finetune"): np.stack(fresh),
                ("raw", "linear"): predictions(self.problem.task, models, features.test),
            }  # fmt: skip
            for (name, probe), guesses in guessed.items():
                found[name].scores[probe, budget] = scores(self.problem.task, guesses, self.problem.targets)
        return found

    def _guesses(self, encoder: Encoder, rows: np.ndarray, plan: Plan) -> np.ndarray:
        problem = self.problem
        model, _ = tune(encoder, problem.task, problem.pool, problem.labels.values, rows, plan=plan, device=self.device)
        return problem.task.predict(outputs(model, problem.test, np.arange(len(problem.targets)), device=self.device))


def _result(problem: Problem, found: dict[str, Probed], mode: str, plan: Plan, seed: int) -> dict[str, Any]:
    groups = problem.test_groups
    by_arm = {
        name: {(probe, b): s for (probe, b), s in arm.scores.items() if b != "all"} for name, arm in found.items()
    }
    said = lambda s: dict(zip(("mean", "low", "high"), _rounded(s, groups, seed), strict=True))  # noqa: E731
    rows = [
        {"features": name, "probe": probe, "labels_per_class": budget, **said(s), "draws": s.numerator.shape[1], "seeds": 1}
        for name, held in by_arm.items() for (probe, budget), s in held.items()
    ]  # fmt: skip
    ours = {budget: s for (_, budget), s in by_arm["pretrained"].items()}
    differences = [
        {"a": "pretrained", "b": name, "probe": probe, "labels_per_class": budget, **said(ours[budget].minus(s))}
        for name in ("scratch", "raw") for (probe, budget), s in by_arm[name].items()
    ]  # fmt: skip
    scratch = {budget: s for (_, budget), s in by_arm["scratch"].items()}
    saved = [
        labels_saved(s, scratch, control="scratch", budget=budget, groups=groups, seed=seed).plain()  # type: ignore[arg-type]
        for budget, s in ours.items() if len(scratch) > 1
    ]  # fmt: skip
    return {
        "task": tasks.name_of(problem.task), "metric": problem.task.metric, "mode": mode, "schedule": plan.schedule,
        "rows": rows, "differences": differences, "labels_saved": saved, "test_rows": len(problem.targets),
    }  # fmt: skip


def _rounded(held: Scores, groups, seed: int) -> tuple[float, float, float]:
    got = interval(held, groups, seed=seed)
    return round(got.mean, 6), round(got.low, 6), round(got.high, 6)
