"""What to run on data, and how long that takes here: for `selftaught look`."""

from __future__ import annotations

import dataclasses
import time

import torch

from .. import methods
from ..core import ClosedForm, Facts, Method
from .precision import device_of

TRIAL = 128
"""Rows of the trial that times a closed form."""


def suggest(data, spec: str) -> dict:
    """{"command", "seconds"}: the modality's default method; a closed form is timed on a few rows, a gradient method keeps its budget."""
    facts = Facts(rows=len(data), modality=data.modality, device=device_of().type)
    method = methods.find(data.modality.method)()
    command = f"selftaught pretrain {spec}"
    if isinstance(method, Method):
        duration = method.defaults(facts).duration
        return {
            "command": f"{command} --minutes 10",
            "seconds": 60 * duration.value if duration.unit == "minutes" else 600.0,
        }
    return {"command": command, "seconds": _timed(method, data, facts)}


def _timed(method: ClosedForm, data, facts: Facts) -> float:
    """Seconds of the whole fit: the method's own estimate where it gives one, else a trial on a few rows, scaled up."""
    estimate = getattr(method.prepare(facts, 0), "core_seconds", None)
    if estimate is not None:
        return float(estimate) / torch.get_num_threads()
    few = data.subset(range(min(TRIAL, len(data))))
    start = time.perf_counter()
    method.prepare(dataclasses.replace(facts, rows=len(few)), 0)
    for _ in method.fit(few, None):
        continue
    return (time.perf_counter() - start) * max(1.0, len(data) / len(few))
