"""Labels: class names and codes, or numbers; with every way in which a column can fail to be one said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..core import DataError
from .source import spell

MISSING = -1
"""The code of a row without a label; among numbers it is NaN."""
_SHOWN = 5


@dataclass(frozen=True)
class Labels:
    """values (rows,): int64 codes into `classes` (MISSING where there is no label), or float64 targets (NaN) without classes.

    Where a row may have several labels: values (rows, classes) int8, 1 for those that it has; MISSING throughout where it is not
    known which, which is another thing than a row of no class.
    """

    values: np.ndarray
    classes: tuple[str, ...] | None
    column: str = "label"
    note: str = ""
    """How they were read, to be said aloud where that was a guess."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def several(self) -> bool:
        """Whether a row may have several labels."""
        return self.values.ndim == 2

    @property
    def known(self) -> np.ndarray:
        """(rows,) bool: which rows have a label."""
        if self.several:
            return (self.values != MISSING).all(1)
        return ~np.isnan(self.values) if self.classes is None else self.values != MISSING

    def counts(self) -> dict[str, int]:
        """{class: rows}; empty for numbers."""
        if self.classes is None:
            return {}
        if self.several:
            return dict(zip(self.classes, self.values[self.known].sum(0, dtype=np.int64).tolist(), strict=True))
        found = np.bincount(self.values[self.known], minlength=len(self.classes))
        return dict(zip(self.classes, found.tolist(), strict=True))

    def words(self) -> list[str]:
        """One name a row, for the eye: its class, its classes, or nothing where there is no label."""
        if self.classes is None:
            return ["" if v != v else f"{v:g}" for v in self.values.tolist()]
        if self.several:
            named = [[c for c, v in zip(self.classes, row, strict=True) if v == 1] for row in self.values.tolist()]
            return ["; ".join(some) for some in named]
        return ["" if v == MISSING else self.classes[v] for v in self.values.tolist()]

    @property
    def strata(self) -> np.ndarray:
        """(rows,) int64 by which splits are stratified: the class; of several, the rarest (behind them all: none); 0 for numbers."""
        if self.classes is None:
            return np.zeros(len(self), np.int64)
        if not self.several:
            return self.values
        count = self.values[self.known].sum(0, dtype=np.int64)
        rarity = np.argsort(np.argsort(count, kind="stable"), kind="stable")
        rank = np.where(self.values == 1, rarity, len(self.classes)).min(1)
        return np.where(self.known, rank, MISSING).astype(np.int64)

    def take(self, index: np.ndarray) -> Labels:
        """The labels of some rows; the classes stay those of all."""
        return Labels(self.values[index], self.classes, self.column, self.note)


def make_labels(values: np.ndarray, column: str, kind: Literal["class", "number"] | None = None) -> Labels:
    """Labels of a column as `source.values` gives it.  `kind` None: words and few whole numbers are classes, others targets.

    Raises DataError where nothing can be learnt from it: no labels, one class, a name of its own for every row.
    """
    if values.dtype == object:
        known = np.array([value is not None for value in values], dtype=bool)
    else:
        known = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
    if not known.any():
        raise DataError(f"Column {column!r} holds no labels: every row is empty.", "Name another column with --labels.")
    if kind is None:
        kind = "class" if values.dtype == object or _is_few_whole(values[known]) else "number"
    return _classes(values, known, column) if kind == "class" else _numbers(values, known, column)


def _is_few_whole(values: np.ndarray) -> bool:
    distinct = np.unique(values)
    whole = values.dtype.kind in "iub" or bool((distinct == np.floor(distinct)).all())
    return whole and len(distinct) <= max(20, len(values) / 10)


def _numbers(values: np.ndarray, known: np.ndarray, column: str) -> Labels:
    if values.dtype == object:
        raise DataError(
            f"Column {column!r} holds words, not numbers.", "Use it as classes, or name a column of numbers."
        )
    targets = values.astype(np.float64)
    if not np.isfinite(targets[known]).all():
        raise DataError(f"Column {column!r} holds numbers that are not finite.", "Repair or empty those cells.")
    if targets[known].min() == targets[known].max():
        raise DataError(
            f"Column {column!r} is {targets[known][0]:g} in every row: nothing to predict.", "Name another column."
        )
    return Labels(targets, None, column)


def _classes(values: np.ndarray, known: np.ndarray, column: str) -> Labels:
    found, inverse = np.unique(
        values[known].astype(str) if values.dtype == object else values[known], return_inverse=True
    )
    spelled = [spell(value) for value in found.tolist()]
    numeric = all(name.removeprefix("-").isdecimal() for name in spelled)
    order = sorted(range(len(spelled)), key=lambda i: (int(spelled[i]) if numeric else 0, spelled[i]))
    names = tuple(spelled[i] for i in order)
    if len(names) == 1:
        raise DataError(
            f"Column {column!r} holds one class ({names[0]!r}): nothing to tell apart.",
            "Give data of at least two classes, or name another column with --labels.",
        )
    rows = int(known.sum())
    if len(names) > max(2, rows / 2):
        shown = ", ".join(names[:_SHOWN])
        raise DataError(
            f"Column {column!r} holds {len(names)} different names in {rows} rows ({shown}, ...): it names rows, not classes.",
            "Name the column that holds the classes with --labels, use it as numbers, or say --task multilabel where a cell holds several.",
        )
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    codes = np.full(len(values), MISSING, np.int64)
    codes[known] = place[inverse]
    return Labels(codes, names, column)
