"""A source: rows in columns, wherever they lie; what every reader in this room makes of its files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from ..core.errors import nearest
from .bad import Bad
from .sounds import Recording

Payload: TypeAlias = bytes | str | np.ndarray | Recording
KINDS = ("image", "sound", "text", "number", "integer", "category", "labels", "series", "binary")


class Source:
    """Rows in columns.  Subclasses say how a column's payloads and values are read.

    `columns` is {name: kind}, kind being one of KINDS, seen in the content of the first rows; `notes` are sentences
    on what was taken, left out or derived (a label from a folder's name), to be said aloud; `random_access` tells
    whether single rows can be read in any order, and from several threads, at little cost; `resident` whether the rows are
    in memory already, so that packing them to disk gains nothing.
    """

    name: str
    rows: int
    columns: dict[str, str]
    random_access: bool = False
    resident: bool = False

    def __init__(self, name: str):
        self.name = name
        self.rows = 0
        self.columns = {}
        self.notes: list[str] = []

    def __len__(self) -> int:
        return self.rows

    def payloads(self, column: str, index: Iterable[int] | None = None) -> Iterator[Payload | Bad]:
        """The payloads of the rows `index` (all in order, where None), in that order, read one after the other.

        Images are bytes or (H, W), (H, W, C) uint8; sounds are bytes or `sounds.Recording`; texts are str; series are (L,) or (rows, columns) float32 as they
        lie in the file, NaN where missing.  A row that cannot be read is a Bad in its place.
        """
        raise NotImplementedError

    def values(self, column: str) -> np.ndarray:
        """(rows,) of a small column: int64, float64 (NaN where missing) or object (str, None where missing)."""
        raise NotImplementedError

    def sets(self, column: str) -> np.ndarray:
        """(rows,) object: tuples of words where a cell is a list, strings to be divided elsewhere, None where missing."""
        out = np.empty(self.rows, dtype=object)
        out[:] = [None if v is None or v != v else spell(v) for v in self.values(column).tolist()]
        return out

    def row_name(self, row: int) -> str:
        """Where the row lies: a path inside the folder, or "file:number"."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A hash of the content and its order; the same on another machine."""
        raise NotImplementedError

    def need(self, column: str) -> str:
        """The kind of `column`; RequestError with the nearest name where there is none."""
        if column not in self.columns:
            raise nearest(column, self.columns, f"column of {self.name}")
        return self.columns[column]

    def of_kind(self, *kinds: str) -> list[str]:
        """The columns of these kinds, in order."""
        return [name for name, kind in self.columns.items() if kind in kinds]


def listed(index: Iterable[int] | None, rows: int) -> np.ndarray:
    """`index` as int64, checked; all rows where it is None."""
    if index is None:
        return np.arange(rows)
    out = np.asarray(index if isinstance(index, np.ndarray | Sequence | range) else list(index), dtype=np.int64)
    if len(out) and (out.min() < 0 or out.max() >= rows):
        raise IndexError(f"rows {out.min()} to {out.max()} asked of {rows}")
    return out


def in_order(index: np.ndarray, ascending) -> Iterator:
    """What `ascending` (a function of sorted distinct rows) yields, in the order of `index`.

    A sorted index streams through; another order holds what was asked for in memory.
    """
    if len(index) < 2 or bool((np.diff(index) > 0).all()):
        yield from ascending(index)
        return
    distinct, back = np.unique(index, return_inverse=True)
    held = list(ascending(distinct))
    yield from (held[i] for i in back)


def spell(value: str | float) -> str:
    """The name of a class: whole numbers without a point."""
    return value if isinstance(value, str) else f"{value:.0f}" if float(value).is_integer() else repr(float(value))


def codes(values: Iterable) -> np.ndarray:
    """(rows,) object array of str or None: what a category column holds."""
    listed_values = list(values)
    out = np.empty(len(listed_values), dtype=object)
    out[:] = [None if v is None else str(v) for v in listed_values]
    return out
