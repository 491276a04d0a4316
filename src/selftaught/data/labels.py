"""Labels: class names and codes, or numbers; with every way in which a column can fail to be one said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..core import DataError

MISSING = -1
"""The code of a row without a label; among numbers it is NaN."""
_SHOWN = 5


@dataclass(frozen=True)
class Labels:
    """values (rows,): int64 codes into `classes` (MISSING where there is no label), or float64 targets (NaN) without classes."""

    values: np.ndarray
    classes: tuple[str, ...] | None
    column: str = "label"

    def __len__(self) -> int:
        return len(self.values)

    @property
    def known(self) -> np.ndarray:
        """(rows,) bool: which rows have a label."""
        return ~np.isnan(self.values) if self.classes is None else self.values != MISSING

    def counts(self) -> dict[str, int]:
        """{class: rows}; empty for numbers."""
        if self.classes is None:
            return {}
        found = np.bincount(self.values[self.known], minlength=len(self.classes))
        return dict(zip(self.classes, found.tolist(), strict=True))

    def take(self, index: np.ndarray) -> Labels:
        """The labels of some rows; the classes stay those of all."""
        return Labels(self.values[index], self.classes, self.column)


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
    spelled = [_spell(value) for value in found.tolist()]
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
            "Name the column that holds the classes with --labels, or use it as numbers.",
        )
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    codes = np.full(len(values), MISSING, np.int64)
    codes[known] = place[inverse]
    return Labels(codes, names, column)


def _spell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.0f}" if float(value).is_integer() else repr(float(value))
