"""One file = one downstream task.  Here: which there are, and which fits the labels at hand."""

from __future__ import annotations

import numpy as np

from ..core import find as finder
from ..core.errors import RequestError
from ..core.task import Task
from ..data.labels import Labels

IMBALANCE = 3.0
"""From this ratio of the largest class to the smallest on, balanced accuracy decides: a blind guess would look good."""


def names() -> list[str]:
    """The tasks' names, in alphabetical order, without importing any."""
    return list(finder.names(__name__))


def find(name: str) -> type[Task]:
    """The class of a task's name or alias; RequestError tells the nearest."""
    return finder.find(__name__, name, Task, "task")


def name_of(task: Task) -> str:
    """The name under which a task's class is found."""
    return next(name for name, cls in finder.everything(__name__, Task).items() if cls is type(task))


def fit(labels: Labels, rows: np.ndarray | None = None, name: str | None = None) -> Task:
    """The task of these labels (by `name`, or what they are), configured from the labelled `rows` (places; default: all).

    Raises RequestError where the named task cannot learn from them.
    """
    kind = find(name) if name else find("classify" if labels.classes is not None else "regress")
    if kind.wants in ("boxes", "mask"):
        raise RequestError(
            f"Task {name!r} answers for parts of pictures: a probe of whole rows says nothing of it.",
            f"selftaught finetune RUN DATA --task {name}, and again with a run of --steps 0: that one is not pretrained.",
        )
    if kind.wants != ("class" if labels.classes is not None else "number"):
        held = f"{len(labels.classes)} classes" if labels.classes is not None else "numbers"
        raise RequestError(
            f"Column {labels.column!r} holds {held}: task {name!r} cannot learn from it.",
            "Use --task classify for classes, --task regress for numbers.",
        )
    rows = np.arange(len(labels)) if rows is None else rows
    values = labels.values[rows][labels.known[rows]]
    if labels.classes is None:
        return kind(mean=float(values.mean()), scale=float(values.std()) or 1.0)  # type: ignore[call-arg]
    count = np.bincount(values, minlength=len(labels.classes))
    count = count[count > 0]
    metric = "balanced accuracy" if count.max() > IMBALANCE * count.min() else "accuracy"
    return kind(classes=labels.classes, metric=metric)  # type: ignore[call-arg]
