"""Minutes become steps: a few real steps on a copy of the method, timed at several points of the run, and thrown away."""

import copy
import statistics
import time
from collections.abc import Callable

import torch

from ..core import Method, Recipe, ViewSpec
from . import optimizers
from .step import STEPS, check_accumulation, make_batch


def step_seconds(
    method: Method,
    recipe: Recipe,
    specs: list[ViewSpec],
    fetch: Callable,
    *,
    seed: int,
    autocast: Callable,
    limit: float,
) -> float:
    """Mean seconds of a step over the whole run (views may grow with progress), within about `limit` seconds.

    Of four points of the run as many are timed as `limit` allows, at least one, and there two steps: short budgets are not eaten by the
    timing.  Late and early take turns, late first, where views are largest, so that little time makes the estimate careful, not bold.
    Nothing of it stays: parameters, statistics and random numbers of the run are untouched.
    """
    trial = copy.deepcopy(method)
    trial.train()
    optimizer = optimizers.make(trial, recipe)
    way = STEPS[check_accumulation(trial, recipe.accumulate)]
    points = (0.65, 0.05, 0.95, 0.35)
    means, began = [], time.perf_counter()
    for number, progress in enumerate(points):
        times = []
        for repeat in range(4):  # the first at a new size also prepares the kernels
            start = time.perf_counter()
            index, raws = fetch(number * 4 + repeat)
            batch = make_batch(specs, raws, index, seed=seed, step=0, progress=progress)
            with autocast():
                outputs = way(trial, trial, batch, lambda loss: loss.backward(), recipe.accumulate)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            trial.after_step(progress, outputs)
            if index.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
            if repeat > 0 and time.perf_counter() - began > limit * (number + 1) / len(points):
                break
        means.append(statistics.median(times[1:]))
        if time.perf_counter() - began > limit:
            break
    return statistics.fmean(means)
