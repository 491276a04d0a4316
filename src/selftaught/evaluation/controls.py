"""What pretraining is set against: the same network untrained, and the same network trained on the labels alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from .. import measures
from ..core import Draw, Encoder, Facts, clean, random
from ..core.listener import Listener
from ..nets import norm
from ..train.finetune import Plan, outputs, tune
from .probe import Probed, scores
from .protocol import Budget, Problem
from .statistics import Scores

NAMES = ("blind", "raw", "untrained", "scratch", "tf-idf", "fasttext", "log-mel", "random-filters")
"""tf-idf and fasttext are for texts, the last two for sounds, and left out elsewhere (see texts.py and sounds.py)."""
SCRATCH = Plan(mode="full", epochs=15, steps=60, batch=64, layer_decay=1.0)
"""How the scratch control is trained: one rate for all layers, as nothing below has been learned."""
SAMPLE = 2_000
"""Rows, without labels, that an untrained network starts from."""
SCRATCH_DRAWS = 3
VIEWS: tuple[Literal["mild", "plain"], ...] = ("mild", "plain")
SCRATCH_ROWS = 2_000
"""Training rows of the scratch control in an epoch budget: beyond, fewer epochs, so that it costs about as much everywhere."""


def untrained(encoder: Encoder, data, key: int) -> Encoder:
    """A network like `encoder` with fresh parameters drawn from `key`, treated as a pretraining treats it before and after its steps.

    As a pretraining does, it may look at rows of `data` without labels: for filters that start from the data and for running
    statistics.  Where a network has nothing to draw (a closed-form map gives the same output for every row before its fit), the
    modality's default encoder stands in.
    """
    modality, facts = data.modality, Facts(rows=len(data), modality=data.modality)
    rows = np.sort(random.permutation(random.key(key, "sample"), len(data)).numpy()[:SAMPLE])
    view = data.fetch(rows)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(key)
        fresh = encoder.sibling()
        fresh.start_from(view)
        if not _tells_apart(fresh, modality.plain(facts)(view, Draw(torch.from_numpy(data.ids[rows])))):
            fresh = modality.encoder(facts, frozenset())
            fresh.start_from(view)
        clean_view = modality.plain(facts)(view, Draw(torch.from_numpy(data.ids[rows])))
        norm.recalibrate(fresh, [clean_view.take(some) for some in torch.arange(len(rows)).split(500) if len(some) > 1])
    return fresh.eval()


def _tells_apart(encoder: Encoder, view) -> bool:
    """Whether an encoder gives different rows different, finite outputs."""
    if not any(p.numel() for p in encoder.parameters()):
        return False
    features = clean(encoder, view.take(torch.arange(min(64, len(view)))))
    return bool(torch.isfinite(features).all()) and measures.dead_dimensions(features) < 1.0


def untrained_keys(seed: int, count: int, first: int | None) -> list[int]:
    """The keys of `count` untrained networks; the first is that of a run's own initial weights, where its seed is known."""
    keys = [random.key(seed, "untrained", k) for k in range(count)]
    return keys if first is None else [random.key(first, "initialisation"), *keys[: count - 1]]


def scratch(
    problem: Problem, encoder: Encoder, draws: dict[Budget, list[np.ndarray]], *, seed: int = 0, plan: Plan = SCRATCH,
    device: str = "cpu", listener: Listener | None = None, shifted: Mapping[tuple, Any] | None = None,
) -> Probed:  # fmt: skip
    """("finetune", budget) scores of the whole network trained from fresh parameters on the labels alone.

    `draws` as for the probe; at "all" (one array, ignored) it trains on the probe's training rows and the epoch is chosen on
    validation; below, the last epoch is taken, as all the labels there are are in the draw.  Whether crops and mirrors are used
    is chosen on validation at the first draw: a control is given its best.  `shifted`: {key: other rows of the test set}, scored too.
    """
    found, shifted = Probed(), shifted or {}
    train = partial(
        _from_scratch, problem, encoder, tests=[problem.test, *shifted.values()], device=device, listener=listener
    )
    for budget, some in draws.items():
        rows = [problem.probe_train] if budget == "all" else some
        made = {v: train(rows[0], budget == "all", _plan(plan, v, len(rows[0]), seed, 0)) for v in VIEWS}
        views = max(VIEWS, key=lambda v: made[v][1])
        several = [made[views][0]]
        for k, row in enumerate(rows[1:], 1):
            several.append(train(row, False, _plan(plan, views, len(row), seed, k))[0])
        clean, *others = (np.stack(guesses) for guesses in zip(*several, strict=True))
        found.scores["finetune", budget] = scores(problem.task, clean, problem.targets)
        for (key, test), guesses in zip(shifted.items(), others, strict=True):
            found.shifted[key] = scores(problem.task, guesses, problem.targets[test.places])
    return found


def _plan(plan: Plan, views: Literal["mild", "plain"], rows: int, seed: int, k: int) -> Plan:
    epochs = max(3, min(plan.epochs, plan.epochs * SCRATCH_ROWS // rows))
    return replace(plan, views=views, epochs=epochs, seed=random.key(seed, "scratch", k))


def _from_scratch(
    problem: Problem,
    encoder: Encoder,
    rows: np.ndarray,
    choose: bool,
    plan: Plan,
    *,
    tests: list,
    device: str,
    listener: Listener | None,
) -> tuple[list[np.ndarray], float]:
    """Guesses for every set of test rows, and the validation score, of one network trained on `rows`."""
    fresh, held = untrained(encoder, problem.pool, plan.seed), problem.probe_validation
    truth = problem.labels.values
    model, _ = tune(fresh, problem.task, problem.pool, truth, rows, held if choose else None, plan=plan, device=device, listener=listener)  # fmt: skip
    guesses = [problem.task.predict(outputs(model, test, np.arange(len(test)), device=device)) for test in tests]
    checked = problem.task.predict(outputs(model, problem.pool, held, device=device))
    return guesses, problem.task.metrics(checked, truth[held])[problem.task.metric]


def against(pretrained: Scores, other: Scores) -> Scores:
    """Paired differences on the draws that both have."""
    count = min(pretrained.numerator.shape[1], other.numerator.shape[1])
    return pretrained.draws(count).minus(other.draws(count))
