"""The protocol: which rows are probed, validated and tested, and how many labels each figure may use (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import tasks
from ..core import DataError, RequestError, random
from ..core.task import Task
from ..data import cells, splits
from ..data.label_sets import MARKS, make_label_columns, make_label_sets
from ..data.labels import MISSING, Labels, make_labels
from .statistics import Groups, units

BUDGETS = (1, 2, 5, 10, 25, 50, 100)
"""Labels a class (numbers: labels in all, ten times as many) of a label curve."""
DRAWS = 10
SEEDS = 5
"""Untrained networks: how good their features are differs from draw to draw, and the interval knows it."""
SCALING = 2_000
"""Training rows from which mean and deviation of the features are taken, the same rows for every arm."""
FEW = 100
"""The verdict is given below this many labels a class."""
HELD_OUT, VALIDATION = 0.2, 0.2
"""Share of the rows that is the test set, and share of the rest that is the validation set, where none are given."""
LIMIT = 50_000
"""Labelled rows that are probed, and rows that are tested, at most."""

Budget = int | str


@dataclass(frozen=True)
class Problem:
    """A task with its split.  `pool` holds the labelled rows that are not tested; labels reach nothing but what is here."""

    task: Task
    pool: object  # data.Dataset
    labels: Labels  # of the pool
    probe_train: np.ndarray  # places in the pool
    probe_validation: np.ndarray
    test: object  # data.Dataset
    targets: np.ndarray  # of the test rows
    pool_groups: np.ndarray | None = None
    test_groups: Groups = None
    notes: list[str] = field(default_factory=list)
    places: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """Of the pool's rows in the dataset that was split."""
    free: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """Places in that dataset of rows without a label, on the training side of the split."""

    @property
    def classes(self) -> int | None:
        return self.task.outputs if self.task.wants == "class" else None

    @property
    def everything(self) -> np.ndarray:
        """Places of all labelled pool rows: what "all" labels means once the strength is chosen."""
        return np.sort(np.concatenate([self.probe_train, self.probe_validation]))

    @property
    def scaling(self) -> np.ndarray:
        """Places of the pool rows that standardise the features: no label is needed for it."""
        order = random.permutation(random.key("scaling"), len(self.probe_train)).numpy()
        return np.sort(self.probe_train[order[:SCALING]])

    def usual_class(self) -> int:
        """Labels of the median class: a curve goes on where a few classes are scarce."""
        if self.classes is None:
            return len(self.probe_train) // 10
        count = np.bincount(self.labels.values[self.probe_train])
        return int(np.median(count[count > 0]))


def budgets_of(problem: Problem, asked: Sequence[int] | None) -> list[int]:
    """The label budgets of the curve, ascending: those asked for, or those of `BUDGETS` that the pool can fill."""
    if asked is not None:
        wrong = [b for b in asked if not isinstance(b, int) or b < 1]
        if wrong:
            raise RequestError(f"{wrong[0]!r} labels a class is no budget.", "Give whole numbers from 1 on.")
        beyond = [b for b in asked if b > _most(problem)]
        if beyond:
            raise RequestError(
                f"{beyond[0]} labels a class are asked for; the probe's training rows hold {_most(problem)}.",
                "Give smaller --budgets, or more labelled rows.",
            )
        return sorted(set(asked))
    scale = 1 if problem.classes is not None else 10
    return [scale * b for b in BUDGETS if scale * b < _most(problem)]


def _most(problem: Problem) -> int:
    return problem.usual_class() if problem.classes is not None else len(problem.probe_train)


def verdict_budget(problem: Problem, budgets: Sequence[int], asked: Sequence[int] | None) -> Budget:
    """Where the verdict is given: all labels where the user has fewer than 100 a class, else the largest budget under 100.

    Named before anything is measured.  (Numbers: ten labels count as one of a class.)
    """
    scale = 1 if problem.classes is not None else 10
    few = [b for b in budgets if b < FEW * scale]
    if asked is None and problem.usual_class() < FEW:
        return "all"
    return few[-1] if few else "all"


def prepare(
    dataset, *, labels: str | np.ndarray | Sequence | None = None, test=None, group: str | None = None,
    task: str | None = None, seed: int = 0, limit: int = LIMIT, duplicates: np.ndarray | None = None,
    held: np.ndarray | None = None, balance: bool = False,
) -> Problem:  # fmt: skip
    """Splits `dataset` (and a test set of the user's, where there is one) into the rows of a `Problem`.

    labels: name of a column, or one label a row (None or NaN where missing); None takes what looks like a label.
    group: name of a column; rows of one group, and of one cluster of `duplicates` (len(dataset),), stay together.  None: what looks like a group; "": none.
    held: places of `dataset` that are to be the test rows, where there is no `test`.
    balance: of several labels a row, positives of rare classes weigh more.
    Raises RequestError or DataError where there is nothing to learn from or to test on.
    """
    several = task is not None and tasks.find(task).wants == "set"
    known = _labels(dataset, labels, several)
    if group is not None and group == known.column:
        raise RequestError(
            f"Column {group!r} is what is to be told apart: it cannot be the group that stays on one side of the split.",
            "Name what clips of one class may share (the recording, the session) with --group, or leave it out.",
        )
    groups = None if group == "" else dataset.groups(group, but=known.column)
    notes = [f"labels: column {known.column!r}, {int(known.known.sum())} of {len(known)} rows are labelled."]
    notes += [known.note] if known.note else _divided(known)
    if groups is not None:
        notes.append(f"rows of one {group or 'group'} stay together in every split.")
    where = _places(known, groups, duplicates, seed, held, whole=test is not None)
    if test is None:
        tested, tested_labels = dataset.subset(where["test"]), known.take(where["test"])
        test_groups = None if groups is None else groups[where["test"]]
    else:
        tested = test
        tested_labels = _labels(test, known.column if isinstance(labels, str | type(None)) else labels, several)
        known, tested_labels = _one_list_of_classes(known, tested_labels)
        test_groups = None if group == "" else test.groups(group, but=known.column)
    chosen = {name: _limited(rows[known.known[rows]], limit, seed) for name, rows in where.items() if name != "test"}
    kept = np.sort(np.concatenate(list(chosen.values())))
    pool_labels = known.take(kept)
    place = np.full(len(dataset), -1)
    place[kept] = np.arange(len(kept))
    scored = _limited(np.flatnonzero(tested_labels.known), limit, seed)
    _check(pool_labels, scored)
    if test_groups is not None and units(test_groups[scored], notes.append, group or "group") is None:
        test_groups = None
    if duplicates is not None and test is None:
        test_groups = splits.units(len(where["test"]), test_groups, duplicates[where["test"]])
    return Problem(
        task=tasks.fit(pool_labels, name=task, balance=balance),
        pool=dataset.subset(kept),
        labels=pool_labels,
        probe_train=place[chosen["train"]],
        probe_validation=place[chosen["validation"]],
        test=tested.subset(scored),
        targets=tested_labels.values[scored],
        pool_groups=None if groups is None else groups[kept],
        test_groups=None if test_groups is None else test_groups[scored],
        notes=notes,
        places=kept,
        free=where["train"][~known.known[where["train"]]],
    )


def _places(
    known: Labels, groups: np.ndarray | None, duplicates: np.ndarray | None, seed: int, held: np.ndarray | None, *, whole: bool
) -> dict[str, np.ndarray]:  # fmt: skip
    """{"train", "validation"[, "test"]: places}; `whole`: nothing is tested, else `held` is, or a fifth."""
    rows = np.arange(len(known)) if whole or held is None else np.setdiff1d(np.arange(len(known)), held)
    tested = 0.0 if whole or held is not None else HELD_OUT
    parts = {"train": (1 - tested) * (1 - VALIDATION), "validation": (1 - tested) * VALIDATION}
    if tested:
        parts["test"] = tested
    ties = [None if tie is None else tie[rows] for tie in (groups, duplicates)]
    found = splits.split(len(rows), parts, seed=seed, labels=known.take(rows), groups=ties[0], duplicates=ties[1])
    where = {name: rows[places] for name, places in found.items()}
    return where if whole or held is None else {**where, "test": np.asarray(held)}


def _labels(dataset, labels, several: bool = False) -> Labels:
    if labels is None or isinstance(labels, str):
        return dataset.labels(labels, "set") if several else dataset.labels(labels)
    if not several and not isinstance(labels, np.ndarray):
        several = any(isinstance(row, list | tuple | set | frozenset) for row in labels)
    if several:
        return _sets(labels, len(dataset))
    values = np.asarray(labels)
    if len(values) != len(dataset):
        raise RequestError(
            f"{len(values)} labels for {len(dataset)} rows.", "Give one label a row; None where there is none."
        )
    if values.dtype.kind not in "iufb":
        values = np.array([None if v is None or v != v or v == "" else str(v) for v in values.tolist()], dtype=object)
    return make_labels(values, "labels")


def _sets(labels, rows: int) -> Labels:
    if len(labels) != rows:
        raise RequestError(f"{len(labels)} labels for {rows} rows.", "Give a list of labels a row; None where unknown.")
    if isinstance(labels, np.ndarray) and labels.ndim == 2:
        return make_label_columns({str(k): column for k, column in enumerate(labels.T)})
    return make_label_sets([cells.several(row) for row in labels], "labels")


def _divided(known: Labels) -> list[str]:
    """A hint where names of classes look like several names each."""
    for mark in MARKS if known.classes is not None else ():
        held = [name for name in known.classes or () if mark in name]
        parts = {part.strip() for name in known.classes or () for part in name.split(mark)}
        if held and len(parts) < len(known.classes or ()):
            return [f"{held[0]!r} looks like several labels: --task multilabel reads them one by one."]
    return []


def _one_list_of_classes(first: Labels, second: Labels) -> tuple[Labels, Labels]:
    """Both with the same codes: classes of the first, then those that only the second has."""
    if (first.classes is None) != (second.classes is None):
        raise DataError(
            f"Column {first.column!r} holds classes in one set and numbers in the other.",
            "Use the same kind of label in both.",
        )
    if first.classes is None or second.classes is None or first.classes == second.classes:
        return first, second
    names = (*first.classes, *(c for c in second.classes if c not in first.classes))
    if first.several != second.several:
        raise DataError(
            f"Column {first.column!r} holds several labels a row in one set and one in the other.",
            "Say --task multilabel, or use the same kind of label in both.",
        )
    if first.several:
        return _widened(first, names), _widened(second, names)
    code = np.array([names.index(c) for c in second.classes] + [-1])
    return Labels(first.values, names, first.column), Labels(code[second.values], names, second.column)


def _widened(labels: Labels, names: tuple[str, ...]) -> Labels:
    """The same labels among more classes, which none of these rows has."""
    values = np.zeros((len(labels), len(names)), np.int8)
    values[:, [names.index(c) for c in labels.classes or ()]] = labels.values
    values[~labels.known] = MISSING
    return Labels(values, names, labels.column, labels.note)


def _limited(rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
    if len(rows) <= limit:
        return rows
    return np.sort(rows[random.permutation(random.key(seed, "limit"), len(rows)).numpy()[:limit]])


def _check(labels: Labels, tested: np.ndarray) -> None:
    alike = (labels.values == labels.values[:1]).all() if len(labels) else True
    if labels.classes is not None and alike:
        raise DataError(
            "The labelled rows outside the test set are of one class.", "Give labels of at least two classes."
        )
    if len(labels) < 4:
        raise DataError(f"{len(labels)} labelled rows are too few to probe.", "Give at least a few labels a class.")
    if not len(tested):
        raise DataError("No row of the test set has a label.", "Give labels for the test rows.")
