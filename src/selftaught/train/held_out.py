"""The loss on rows that training never sees, from time to time: when a run begins to learn its rows by heart, this one turns."""

from __future__ import annotations

import json

import torch

from ..core import dist
from .job import Job
from .loop import Training
from .step import make_batch

TIMES = 20
"""How often a run looks."""
ROWS = 512
"""Held-out rows (packed sequences, where the method packs) that are looked at, at most; always the same, under the same masks."""
FILE = "held_out.jsonl"


class HeldOut:
    """Appends {"step", "seconds", "loss", ...} to the run's held_out.jsonl, at its start, at its end and 20 times between.

    Only where rows were held out (`--holdout`) and the loss is one of single rows: where rows meet in it, it depends on the batch.  In eval
    mode, without gradient; it moves no weight, no statistic and no random number.  Its time counts.
    """

    def __init__(self, job: Job, specs, batch: int):
        self.job, self.specs = job, specs
        self.on = job.held is not None and not job.method.couples_rows and all(s.rows == "one" for s in specs)  # type: ignore[union-attr]
        self.data = job.sequences(job.held) if self.on else None
        self.batch = max(1, min(batch, len(self.data))) if self.data is not None else 0

    def before(self, step: int, training: Training) -> None:
        """Looks where it is time, `step` steps done."""
        if self.on and (step % max(1, training.horizon // TIMES) == 0 or step == training.horizon):
            figures = self._look(training)
            if dist.rank() == 0:
                row = {"step": step, "seconds": round(training.seconds, 3), **figures}
                with open(self.job.run.folder / FILE, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")

    @torch.no_grad()
    def _look(self, training: Training) -> dict[str, float]:
        """The means over the held-out rows of what the method's loss gives."""
        assert self.data is not None
        method, device = training.method, self.job.device
        sums: dict[str, float] = {}
        weight = 0.0
        was = method.training
        method.eval()
        try:
            for start in range(0, min(ROWS, len(self.data)), self.batch):
                places = torch.arange(start, min(start + self.batch, len(self.data)))
                batch = make_batch(
                    self.specs,
                    {"one": self.data.fetch(places).to(device)},
                    places.to(device),
                    seed=0,
                    step=0,
                    progress=1.0,
                )
                counted = method.count(batch)
                count = float(len(places) if counted is None else counted.sum())
                outputs = method(batch)
                for name, value in outputs.items():
                    if name not in ("features", *method.commits) and value.numel() == 1:
                        sums[name] = sums.get(name, 0.0) + float(value) * count
                weight += count
        finally:
            method.train(was)
        return {name: value / max(1.0, weight) for name, value in sums.items()}


def rows(folder) -> list[dict]:
    """What a run's held_out.jsonl holds, one row a step (of a resumed run the last one); empty where there is none."""
    path = folder / FILE
    if not path.is_file():
        return []
    found = {row["step"]: row for line in path.read_text("utf-8").splitlines() if (row := json.loads(line))}
    return [found[step] for step in sorted(found)]
