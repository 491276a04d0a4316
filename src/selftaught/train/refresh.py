"""Passes over the data between steps, for methods that form their targets anew (DeepCluster, HuBERT)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from ..core import Batch, Draw, Method, encode
from .job import Job


def sweep(job: Job, batch: int, step: int, progress: float) -> Iterator[Batch]:
    """Every row once, in order, as its clean view; the last batch may be short.  Each rank sees all rows."""
    plain, seed = job.facts.modality.plain(job.facts), job.settings.seed
    for start in range(0, len(job.data), batch):
        places = torch.arange(start, min(start + batch, len(job.data)))
        index = torch.from_numpy(job.data.ids[places.numpy()]).to(job.device)
        view = plain(job.data.fetch(places).to(job.device), Draw(index, seed, step, 0, progress))
        yield Batch([view], index, seed, step, progress)


def refresher(job: Job, method: Method, batch: int, horizon: int, autocast: Callable) -> Callable[[int], None]:
    """What the loop calls before every step: `method.refresh` where a period of `refresh_at` begins, step 0 included.

    A run that is resumed at such a step refreshes again, from the same weights: so resuming stays exact.
    """
    shares = [share * max(1, horizon) for share in method.refresh_at if isinstance(share, float)]
    periods = [float(d.steps(len(job.data), batch)) for d in method.refresh_at if not isinstance(d, float)]

    def refresh(step: int) -> None:
        if not any(begins(step, period) for period in periods + shares):
            return
        method.eval()
        with torch.no_grad(), autocast():
            method.refresh(sweep(job, batch, step, step / max(1, horizon)))
        method.train()

    return refresh


def begins(step: int, period: float) -> bool:
    """Whether a period of so many steps, perhaps not whole ones, begins at this step."""
    return step == 0 or int(step / period + 1e-9) != int((step - 1) / period + 1e-9)


def seconds_per_step(job: Job, method: Method, batch: int, autocast: Callable) -> tuple[float, float]:
    """What refreshing adds to a step, and to a whole run where it follows shares of it, from the time of one batch's forward pass."""
    if not method.refresh_at:
        return 0.0, 0.0
    views = next(sweep(job, batch, 0, 0.0)).views
    method.eval()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        with torch.no_grad(), autocast():
            encode(method.encoder, views)
        times.append(time.perf_counter() - start)
    method.train()
    whole = min(times) * -(-len(job.data) // batch)
    each = sum(whole / d.steps(len(job.data), batch) for d in method.refresh_at if not isinstance(d, float))
    return each, sum(whole / share for share in method.refresh_at if isinstance(share, float))
