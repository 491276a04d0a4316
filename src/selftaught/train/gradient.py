"""The gradient way of a pretraining: encoder, recipe, horizon, loop, kept encoder."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any

import torch

from ..core import Duration, Method, Recipe, dist, module
from ..data import Loader
from . import checkpoint, loop, observe, optimizers, pictures, starts
from .album import Album
from .calibrate import step_seconds
from .guard import guard
from .heap import keep_freed_memory
from .held_out import HeldOut
from .job import Job, keep, make_encoder, make_recipe, precision, settle
from .refresh import refresher, seconds_per_step

ENCODER_NEEDS = frozenset({"tokens", "mask", "causal", "stages", "stem"})


def train_method(job: Job) -> dict[str, Any]:
    """Trains `job.method` to its horizon and writes the encoder; returns the numbers of `pretrain --json`."""
    method = job.method
    assert isinstance(method, Method)
    began = time.perf_counter()
    if job.device.type == "cpu":
        keep_freed_memory()
    accelerator = launch(job, precision(job))
    encoder = make_encoder(job, method.needs & ENCODER_NEEDS)
    recipe = make_recipe(job, method)
    job.facts = dataclasses.replace(
        job.facts, batch=recipe.batch, dim=encoder.dim, sample=job.feed.fetch(torch.arange(min(8, len(job.feed)))),
        multiple=multiple_of(job, encoder), reads=getattr(encoder, "reads", ""),
    )  # fmt: skip
    method.setup(encoder, job.facts)
    for note in method.notes():
        job.tell(note)
    method.to(accelerator.device)
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave this form out
    specs = method.views(job.facts)
    training = loop.Training(
        method,
        recipe,
        specs,
        optimizers.make(method, recipe),
        horizon=0,
        seed=job.settings.seed,
        fingerprint=job.feed.fingerprint,
    )
    found = checkpoint.newest(job.run.checkpoints, job.listener.say) if job.resume else None
    if found:
        training.restore(found[1])
        job.listener.say(f"resumed from step {training.step} of {training.horizon}.")
        if dist.rank() == 0:
            job.run.cut_metrics(training.step)
    else:
        if job.resume:
            job.listener.say("there is no checkpoint yet; the run begins anew.")
        training.horizon = horizon(job, method, recipe, specs, accelerator, began)
    resumed_from = training.step
    if dist.rank() == 0 and "resolved" not in job.run.config():
        write_resolved(job, recipe, encoder, training.horizon)
    finished, wait = run_loop(job, training, accelerator)
    return conclude(job, training, encoder, finished, resumed_from, wait)


def multiple_of(job: Job, encoder) -> int | None:
    """What sides of crops must be multiples of for this encoder, where the modality has such."""
    find = getattr(job.data.modality, "multiple", None)
    return None if find is None else find(encoder, job.facts)


def launch(job: Job, dtype: str):
    """accelerate's Accelerator for this device and precision; its own accumulation stays 1 because it divides."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # a second pretraining in one process may want another precision
    return Accelerator(
        cpu=job.device.type == "cpu",
        mixed_precision="bf16" if dtype == "bfloat16" else "no",
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        log_with=job.track,
        project_dir=str(job.run.folder) if job.track else None,
    )


def autocast_of(accelerator):
    """The context that forward passes outside the prepared model run in."""
    return accelerator.autocast if accelerator.mixed_precision == "bf16" else contextlib.nullcontext


def loader(job: Job, recipe: Recipe, specs, start_step: int) -> Loader:
    """Batches of this rank, with the partner rows that the views ask for."""
    rows = tuple(dict.fromkeys(spec.rows for spec in specs))
    partners, column = set(rows) - {"one"}, job.settings.group
    return Loader(
        job.feed, batch=recipe.batch, seed=job.settings.seed, rank=dist.rank(), world=dist.world(),
        threads=job.settings.threads, start_step=start_step, rows=rows,
        groups=job.data.groups(column) if column and partners else None,
    )  # fmt: skip


def horizon(job: Job, method: Method, recipe: Recipe, specs, accelerator, began: float) -> int:
    """The number of steps; minutes are calibrated on a copy, and what has passed since `began` counts towards them."""
    duration = recipe.duration
    if duration.unit != "minutes":
        return duration.steps(len(job.feed), recipe.batch)
    budget = 60 * duration.value
    with loader(job, recipe, specs, 0) as batches:
        stream = iter(batches)

        def fetch(_: int):
            _, index, raws = next(stream)
            return index.to(accelerator.device), {k: v.to(accelerator.device) for k, v in raws.items()}

        autocast = autocast_of(accelerator)
        seconds = step_seconds(
            method, recipe, specs, fetch, seed=job.settings.seed, autocast=autocast, limit=min(20.0, 0.05 * budget)
        )
        each, once = seconds_per_step(job, method, recipe.batch, autocast)
        seconds += each
    left = max(0.0, budget - once - (time.perf_counter() - began))
    steps = dist.broadcast_object(Duration(left / 60, "minutes").steps(len(job.feed), recipe.batch, seconds))
    epochs = steps * recipe.batch / len(job.feed)
    job.listener.say(
        f"{duration}: {steps} steps of {recipe.batch} rows ({epochs:.1f} epochs), at {1000 * seconds:.0f} ms a step here."
    )
    return steps


def run_loop(job: Job, training: loop.Training, accelerator) -> tuple[bool, float]:
    """(whether the horizon was reached, the share of time that was spent waiting for data)."""
    tracker = None
    if job.track:
        accelerator.init_trackers("selftaught", config={"method": job.settings.method, "seed": job.settings.seed})
        tracker = lambda row, step: accelerator.log(row, step=step)  # noqa: E731
    observers: list[observe.Observer] = [observe.Metrics(job.run, tracker)]
    form_anew = refresher(job, training.method, training.recipe.batch, training.horizon, autocast_of(accelerator))
    album, aside = Album(job), HeldOut(job, training.specs, training.recipe.batch)

    def before(step: int) -> None:
        form_anew(step)
        album.before(step, training)
        aside.before(step, training)

    with loader(job, training.recipe, training.specs, training.step) as batches:
        if dist.rank() == 0 and training.step == 0:
            pictures.save_views(job.run.folder / "views.png", job.data, training.specs, job.settings.seed, job.device)
        finished = training.step >= training.horizon or loop.train(
            training, batches, accelerator=accelerator, run=job.run, observers=observers, alarms=observe.alarms(),
            say=job.tell, draw=job.listener.moment, stop=job.stop, save_every=job.save_every,
            wait=lambda: batches.wait, refresh=before,
        )  # fmt: skip
        if finished:
            aside.before(training.horizon, training)
        if job.track:
            accelerator.end_training()
        return finished, batches.wait


def write_resolved(job: Job, recipe: Recipe, encoder, horizon_steps: int) -> None:
    """config.toml with what was chosen, so that the file alone makes the same run again."""
    plain = job.settings.plain()
    chosen = {k: v for k, v in dataclasses.asdict(recipe).items() if k not in ("duration", "scaled")}
    resolved = {
        "horizon": horizon_steps,
        "encoder": encoder.config(),
        "options": module.options(job.method),
        "scaled": recipe.scaled,
    }
    job.run.write_config({**plain, "recipe": chosen, "resolved": resolved})


def conclude(
    job: Job, training: loop.Training, encoder, finished: bool, resumed_from: int, wait: float
) -> dict[str, Any]:
    """Writes the encoder where the horizon was reached, and says how to go on where it was not."""
    rows = job.run.metrics()
    examples = training.step * training.recipe.batch
    result = {
        "run": str(job.run.folder), "method": job.settings.method, "encoder": encoder.kind, "steps": training.step,
        "examples": examples, "seconds": round(training.seconds, 3),
        "examples_per_second": round(examples / max(1e-9, training.seconds), 2), "data_wait": round(wait, 4),
        "loss": rows[-1]["loss"] if rows else None, "alarms": training.alarms, "skipped": training.skipped,
        "rejected": len(job.data.rejected), "resumed_from_step": resumed_from, "finished": finished,
    }  # fmt: skip
    if not finished:
        if dist.rank() == 0:
            job.run.status("interrupted", step=training.step)
        job.listener.say(
            f"stopped at step {training.step} of {training.horizon}, saved. Go on with --resume {job.run.folder}."
        )
        return result
    assert isinstance(job.method, Method)
    kept = job.method.keep()
    if training.horizon > 0:
        settle(job, kept.encoder)
    if starts.continues(job) and dist.rank() == 0:
        result["guard"] = guard(job, kept.encoder)
    keep(job, kept, result)
    Album(job).at("end", training.step, encoder, job.method)
    return result
