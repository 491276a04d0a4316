"""One file = one downstream task.  Here: which there are, and which fits the labels at hand."""

from __future__ import annotations

import numpy as np

from ..core import find as finder
from ..core.errors import RequestError
from ..core.task import Task
from ..data.labels import Labels
from .multilabel import positive_weights

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


_USUAL = {"class": "classify", "set": "multilabel", "number": "regress"}


def refuse_parts(kind: type[Task], name: str | None = None) -> None:
    """RequestError, with what serves it instead, where a task is no label of a whole row, so that no probe can answer for it."""
    name = name or name_of(kind())
    beside = (
        f"selftaught finetune RUN DATA --task {name}, and again with a run of --steps 0: that one is not pretrained."
    )
    parts = {"boxes": "pictures", "mask": "pictures", "tags": "texts", "answers": "texts"}
    if kind.wants in parts:
        raise RequestError(
            f"Task {name!r} answers for parts of {parts[kind.wants]}: a probe of whole rows says nothing of it.", beside
        )
    if kind.wants in ("transcript", "frames"):
        raise RequestError(
            f"Task {name!r} answers for stretches of sound: a probe of whole rows says nothing of it.",
            f"selftaught finetune RUN DATA --task {name} --curve 20 100 sets the same network from scratch beside.",
        )
    if kind.wants == "text":
        raise RequestError(f"Task {name!r} writes texts: a probe of whole rows says nothing of it.", beside)
    if kind.wants == "pair":
        raise RequestError(
            f"Task {name!r} is of pairs of rows, not of rows.",
            "selftaught evaluate RUN DATA --task similarity --columns first second.",
        )
    if kind.wants == "speakers":
        raise RequestError(
            f"Task {name!r} compares clips of speakers that nothing was fitted to.",
            "selftaught evaluate RUN DATA --task verify --group speaker; to name speakers: --task classify --labels speaker.",
        )
    if kind.wants == "nothing":
        raise RequestError(
            f"Task {name_of(kind())!r} learns from no labels.",
            "Leave out --task: wherever there are classes, evaluate describes it beside the verdict.",
        )


def fit(labels: Labels, rows: np.ndarray | None = None, name: str | None = None, *, balance: bool = False) -> Task:
    """The task of these labels (by `name`, or what they are), configured from the labelled `rows` (places; default: all).

    balance: where a row may have several classes, positives of rare ones weigh more.
    Raises RequestError where the named task cannot learn from them.
    """
    held = "set" if labels.several else "class" if labels.classes is not None else "number"
    kind = find(name or _USUAL[held])
    refuse_parts(kind, name)
    if kind.wants != held:
        k = len(labels.classes or ())
        what = {"class": f"{k} classes", "set": f"{k} classes, several a row", "number": "numbers"}[held]
        raise RequestError(
            f"Column {labels.column!r} holds {what}: task {name!r} cannot learn from it.",
            "Use --task classify for classes, --task multilabel for several a row, --task regress for numbers.",
        )
    if balance and held != "set":
        raise RequestError("--balance is for several labels a row.", "Leave it out, or use --task multilabel.")
    rows = np.arange(len(labels)) if rows is None else rows
    values = labels.values[rows][labels.known[rows]]
    if labels.several:
        weights = positive_weights(values) if balance else ()
        return kind(classes=labels.classes, weights=weights)  # type: ignore[call-arg]
    if labels.classes is None:
        return kind(mean=float(values.mean()), scale=float(values.std()) or 1.0)  # type: ignore[call-arg]
    count = np.bincount(values, minlength=len(labels.classes))
    count = count[count > 0]
    metric = "balanced accuracy" if count.max() > IMBALANCE * count.min() else "accuracy"
    return kind(classes=labels.classes, metric=metric)  # type: ignore[call-arg]
