"""The closed-form way of a pretraining: fit, checkpoint as it goes, keep."""

from __future__ import annotations

import json
import time
from typing import Any

from ..core import ClosedForm, Duration, dist
from ..core.errors import ModelError, RequestError
from . import checkpoint
from .album import Album
from .job import Job, keep


def fit_closed_form(job: Job) -> dict[str, Any]:
    """Fits `job.method` and writes the encoder; returns the numbers of `pretrain --json`."""
    method = job.method
    assert isinstance(method, ClosedForm)
    if dist.world() > 1:
        raise RequestError(
            f"{job.settings.method} is a closed form: it runs in one process.", "Start it without torchrun."
        )
    if job.settings.recipe:
        raise RequestError(
            "A closed form has no recipe (batch, learning rate, ...).",
            f"Leave out --set recipe...; its options: selftaught pretrain --method {job.settings.method} --help.",
        )
    library, _, rest = (job.settings.encoder or "").partition(":")
    if library in method.begins_with:
        method.start = rest  # type: ignore[attr-defined]  # whoever begins with something has this option
    elif job.settings.encoder or job.settings.encoder_options:
        raise RequestError(
            f"{job.settings.method} is a closed form: it works its encoder out from the data and starts from none.",
            f"Leave out --encoder and --set encoder_options...; its options: selftaught pretrain --method {job.settings.method} --help.",
        )
    _passes(job, method)
    method.prepare(job.facts, job.settings.seed)
    found = checkpoint.newest(job.run.checkpoints, job.listener.say) if job.resume else None
    state, seconds, done, loss = None, 0.0, 0, None
    if found:
        done, tree = found
        if tree["fingerprint"] != job.data.fingerprint:
            raise ModelError("The data have changed since this run began.", "Begin anew with another --out.")
        state, seconds = tree["state"], tree["seconds"]
        loss = tree.get("loss")
        job.listener.say(f"resumed at {tree['fraction']:.0%}.")
    job.run.cut_metrics(done)
    resumed_from, began = done, time.perf_counter() - seconds
    saved_at = time.perf_counter()
    for partial, fraction in method.fit(job.data, state):
        done += 1
        job.listener.progress("fitting", fraction, 1.0)
        loss = _told(job, method, done, loss)
        leaving = job.stop()
        due = done % job.save_every == 0 if job.save_every else time.perf_counter() - saved_at > 20
        if due or leaving:
            tree = {
                "state": partial,
                "fraction": fraction,
                "loss": loss,
                "seconds": time.perf_counter() - began,
                "fingerprint": job.data.fingerprint,
            }
            checkpoint.save(job.run.checkpoints, done, tree)
            saved_at = time.perf_counter()
        if leaving and fraction < 1:
            job.run.status("interrupted", step=done)
            job.listener.say(f"stopped at {fraction:.0%}, saved. Go on with --resume {job.run.folder}.")
            return _result(job, None, done, time.perf_counter() - began, resumed_from, loss, finished=False)
    kept = method.finish()
    result = _result(job, kept.encoder.kind, done, time.perf_counter() - began, resumed_from, loss, finished=True)
    keep(job, kept, result)
    Album(job).at("end", done, kept.encoder)
    return result


def _passes(job: Job, method: ClosedForm) -> None:
    """`--epochs` reaches a closed form that makes passes; `--steps 0` asks for none, and other numbers of steps say nothing to it."""
    if not hasattr(method, "epochs"):
        return
    settings = job.settings
    asked = settings.duration(Duration(5, "epochs"))  # two at once are refused
    if asked.unit == "steps" and asked.value:
        raise RequestError(
            f"{settings.method} makes passes over the data, not steps.",
            "Say --epochs or --minutes; --steps 0 trains nothing.",
        )
    given = settings.epochs if asked.unit == "epochs" else 0.0 if asked.unit == "steps" else None
    if given is not None:
        method.epochs = given


def _told(job: Job, method: ClosedForm, done: int, loss: float | None) -> float | None:
    """Says and writes down what the method has to tell; the last loss that it told of."""
    for news in method.news():
        if isinstance(news, str):
            job.tell(news)
        else:
            with open(job.run.metrics_file, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": done, **news}) + "\n")
            loss = news.get("loss", loss)
    return loss


def _result(
    job: Job, encoder: str | None, steps: int, seconds: float, resumed_from: int, loss: float | None, *, finished: bool
) -> dict[str, Any]:
    return {
        "run": str(job.run.folder), "method": job.settings.method, "encoder": encoder, "steps": steps,
        "examples": len(job.data), "seconds": round(seconds, 3), "examples_per_second": round(len(job.data) / max(1e-9, seconds), 2),
        "data_wait": 0.0, "loss": loss, "alarms": [], "skipped": 0, "rejected": len(job.data.rejected),
        "resumed_from_step": resumed_from, "finished": finished,
    }  # fmt: skip
