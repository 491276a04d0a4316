"""Labels of which a row may have several: lists, text divided by a mark, or a column of 0 and 1 for each class."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Sequence

import numpy as np

from ..core import DataError
from .labels import MISSING, Labels
from .source import spell

MARKS = (";", "|", ",")
"""What divides labels in a text, the likeliest first; a space does where nothing else is found and words come back."""
ENTRIES = 1 << 30
"""Rows times classes that are held at most."""
_SHOWN = 5
_YES, _NO = frozenset({"1", "true", "yes", "y", "t"}), frozenset({"0", "-1", "false", "no", "n", "f"})


def make_label_sets(cells: Iterable, column: str) -> Labels:
    """Labels, with a note on how they were read, of cells that are tuples of names, text, or None where nothing is known.

    A text may be a list as Python or JSON writes it, or names divided by `MARKS`.  An empty list is a row of no class.  Raises
    DataError where nothing can be learnt from them: no labels, no class, names that never come back.
    """
    held = [_unfolded(cell) if isinstance(cell, str) else cell for cell in cells]
    texts = [cell for cell in held if isinstance(cell, str)]
    mark = _mark(texts)
    sets = [_parted(cell, mark) if isinstance(cell, str) else cell for cell in held]
    known = np.array([s is not None for s in sets], dtype=bool)
    if not known.any():
        raise DataError(f"Column {column!r} holds no labels: every row is empty.", "Name another column with --labels.")
    count: dict[str, int] = {}
    for names in sets:
        for name in set(names or ()):
            count[name] = count.get(name, 0) + 1
    classes = _ordered(count)
    _check(count, int(known.sum()), len(sets), column)
    place = {name: k for k, name in enumerate(classes)}
    values = np.zeros((len(sets), len(classes)), dtype=np.int8)
    for row, names in enumerate(sets):
        if names is None:
            values[row] = MISSING
        else:
            values[row, [place[name] for name in names]] = 1
    how = "lists" if not texts else f"text divided at {mark!r}" if mark else "text with one label a row"
    return Labels(values, classes, column, _said(values, known, how))


def make_label_columns(columns: dict[str, np.ndarray]) -> Labels:
    """Labels of one column a class that holds 1 or 0, yes or no, true or false, 1 or -1; a gap in any is unknown.

    Raises DataError for any other value, and where nothing can be learnt.
    """
    classes, rows = tuple(columns), len(next(iter(columns.values())))
    values = np.zeros((rows, len(classes)), dtype=np.int8)
    for k, (name, cells) in enumerate(columns.items()):
        values[:, k] = [_answer(cell, name) for cell in cells.tolist()]
    known = (values != MISSING).all(1)
    values[~known] = MISSING
    column = ",".join(classes)
    if not known.any():
        raise DataError(f"No row has all of {column}.", "Fill the gaps with 0, or name other columns with --labels.")
    _check(dict(zip(classes, values[known].sum(0, dtype=np.int64).tolist(), strict=True)), rows, rows, column)
    return Labels(values, classes, column, _said(values, known, "columns of 0 and 1"))


def _answer(cell, name: str) -> int:
    if cell is None or cell != cell:
        return MISSING
    text = (spell(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else str(cell)).strip().lower()
    if text in _YES or text in _NO:
        return int(text in _YES)
    raise DataError(
        f"Column {name!r} holds {cell!r}, which is neither 0 nor 1.",
        "Columns of several labels hold 1 where a row has the label and 0 (or -1) where not.",
    )


def _unfolded(text: str) -> tuple[str, ...] | str:
    """The names of a list in brackets, as JSON or Python writes it; any other text as it is."""
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(stripped)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(v, str | int | float) for v in found):
            return tuple(name for name in (spell(v).strip() for v in found) if name)
    return text


def _mark(texts: Sequence[str]) -> str | None:
    """The mark that divides labels here: the first of MARKS that a twentieth of the texts with any of them hold."""
    marked = [t for t in texts if any(m in t for m in MARKS)]
    for mark in MARKS:
        if marked and sum(mark in t for t in marked) * 20 >= len(marked):
            return mark
    distinct = {t.strip() for t in texts}
    words = {word for t in distinct for word in t.split()}
    return " " if len(words) < len(distinct) else None


def _parted(text: str, mark: str | None) -> tuple[str, ...]:
    parts = [text] if mark is None else text.split(mark)
    return tuple(name for name in (part.strip() for part in parts) if name)


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    listed = list(names)
    numeric = all(name.removeprefix("-").isdecimal() for name in listed)
    return tuple(sorted(listed, key=lambda name: (int(name) if numeric else 0, name)))


def _check(count: dict[str, int], known: int, rows: int, column: str) -> None:
    if not count or not any(count.values()):
        raise DataError(f"Column {column!r} names no class in any row.", "Name another column with --labels.")
    if len(count) * rows > ENTRIES:
        raise DataError(
            f"Column {column!r} holds {len(count)} classes in {rows} rows: more than {ENTRIES} entries.",
            "Leave out classes that are too rare to be learnt.",
        )
    if all(n in (0, known) for n in count.values()):
        shown = ", ".join(list(count)[:_SHOWN])
        raise DataError(
            f"Column {column!r} says the same of every row ({shown}): nothing to tell apart.",
            "Name another column with --labels.",
        )
    if len(count) > max(2, known / 2):
        shown = ", ".join(sorted(count)[:_SHOWN])
        raise DataError(
            f"Column {column!r} holds {len(count)} different names in {known} rows ({shown}, ...): they name rows, not classes.",
            "Name the column that holds the labels with --labels.",
        )


def _said(values: np.ndarray, known: np.ndarray, how: str) -> str:
    each = values[known].sum(1, dtype=np.int64)
    empty = int((each == 0).sum())
    said = f"several labels a row, read as {how}: {values.shape[1]} classes, {each.mean():.1f} labels a row"
    return said + (f", {empty} rows of no class." if empty else ".")
