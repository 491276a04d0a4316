"""Tables: Parquet, CSV or JSONL, one file or a folder of shards, as one source."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from pathlib import Path

import numpy as np

from ..core import DataError, RequestError
from ..core.errors import nearest
from . import cells, fingerprint, sniff
from .bad import Bad
from .folders import split_of, type_of
from .shards import CsvShard, JsonlShard, ParquetShard, Shard
from .source import Payload, Source, codes, in_order, listed

_READERS: dict[str, Callable[[Path, str], Shard]] = {
    "parquet": ParquetShard,
    "csv": CsvShard,
    "jsonl": JsonlShard,
    "json": JsonlShard,
}
_SNIFFED = 16
"""Shards whose first rows are looked at."""
_WIDE = 8
"""Number columns that count up (x0, x1, ...) from this many on are one series."""


class Table(Source):
    """Shards with the same columns, one after the other.  A row of a shard without a column has nothing there.

    Pictures may be bytes, the struct {bytes, path}, or paths of files under `root`.  Where the shards' names speak of
    splits (train-00000.parquet, test.csv), there is a column "split".
    """

    def __init__(self, name: str, root: Path | None, shards: Sequence[Shard], key: str | None = None):
        super().__init__(name)
        self.root, self._shards, self._key = root, [s for s in shards if s.rows], key
        self._starts = [0, *accumulate(s.rows for s in self._shards)]
        self.rows = self._starts[-1]
        self._wide: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}
        self._split: np.ndarray | None = None
        for column in dict.fromkeys(chain.from_iterable(s.columns for s in self._shards)):
            kind = sniff.kind_of(self._first(column), root)
            if kind:
                self.columns[column] = kind
            else:
                self.notes.append(f"column {column!r} left out: nothing in its first rows that can be read")
        for column in dict.fromkeys(chain.from_iterable(s.left_out for s in self._shards)):
            self.notes.append(f"column {column!r} left out: nested structures are not read")
        self._join_wide()
        self._add_split()

    def _first(self, column: str) -> Iterator:
        holders = [s for s in self._shards if column in s.columns][:_SNIFFED]
        each = max(16, sniff.SAMPLE // max(1, len(holders)))
        return islice(chain.from_iterable(islice(s.cells(column), each) for s in holders), sniff.SAMPLE)

    def _join_wide(self) -> None:
        """Columns of numbers that count up are the steps of a series, as UCR's files and many exports hold them."""
        if not all(isinstance(s, CsvShard) for s in self._shards) or not self._shards:
            return
        numbers = self.of_kind("number", "integer")
        first = self._shards[0]
        headless = not first.has_header  # type: ignore[attr-defined]
        if headless and len(numbers) > _WIDE and self.columns[numbers[0]] == "integer":
            self.columns = {"label": "integer", **{k: v for k, v in self.columns.items() if k != "c0"}}
            self._names = {"label": "c0"}
            numbers = numbers[1:]
        runs: dict[str, list[tuple[int, str]]] = {}
        for name in numbers:
            if found := re.fullmatch(r"(.*?)(\d+)", name):
                runs.setdefault(found[1], []).append((int(found[2]), name))
        for prefix, found_run in runs.items():
            steps = [step for step, _ in found_run]
            if len(steps) >= _WIDE and steps == list(range(steps[0], steps[0] + len(steps))):
                self._add_wide(prefix.rstrip("_.- "), [name for _, name in found_run])

    def _add_wide(self, prefix: str, parts: list[str]) -> None:
        side = math.isqrt(len(parts))
        kind = "image" if prefix.lower() in ("pixel", "px", "pixels") and side * side == len(parts) else "series"
        column = "image" if kind == "image" else prefix if len(prefix) > 1 else "values"
        self._wide[column] = parts
        self.columns = {k: v for k, v in self.columns.items() if k not in parts}
        self.columns[column] = kind
        what = f"a picture of {side} x {side}" if kind == "image" else "one series"
        self.notes.append(
            f"column {column!r}: the {len(parts)} number columns {parts[0]!r} ... {parts[-1]!r} are {what}"
        )

    def _add_split(self) -> None:
        found = [split_of(s.name) for s in self._shards]
        if "split" in self.columns or None in found or len(set(found)) < 2:
            return
        counted: dict[str, int] = {}
        for name, shard in zip(found, self._shards, strict=True):
            counted[str(name)] = counted.get(str(name), 0) + shard.rows
        self._split = codes(chain.from_iterable([name] * s.rows for name, s in zip(found, self._shards, strict=True)))
        self.columns["split"] = "category"
        said = ", ".join(f"{name} {rows}" for name, rows in counted.items())
        self.notes.append(f'column "split" from the shards\' names ({said}); all of them are rows')

    def payloads(self, column: str, index: Iterable[int] | None = None) -> Iterator[Payload | Bad]:
        kind = self.need(column)
        for cell in in_order(listed(index, self.rows), lambda rows: self._ascending(column, rows)):
            try:
                yield cells.payload(cell, kind, self.root)
            except Bad as bad:
                yield bad

    def cells(self, column: str) -> Iterator:
        """The cells of a column as Python values, whether or not it is of a kind that `payloads` reads (lists of words, structs)."""
        if column not in self.stored:
            raise nearest(column, self.stored, f"column of {self.name}")
        return self._ascending(column, np.arange(self.rows))

    @property
    def stored(self) -> list[str]:
        """The names of all columns, those that `payloads` cannot read included."""
        return list(dict.fromkeys(chain.from_iterable((*s.columns, *s.left_out) for s in self._shards)))

    @property
    def metadata(self) -> dict[str, str]:
        """What the first shard that has any says of itself (the schema's metadata of a Parquet file)."""
        return next((held for s in self._shards if (held := getattr(s, "metadata", None))), {})

    def _ascending(self, column: str, rows: np.ndarray) -> Iterator:
        for number, shard in enumerate(self._shards):
            start, end = self._starts[number], self._starts[number + 1]
            wanted = rows[(rows >= start) & (rows < end)] - start
            yield from self._of_shard(shard, column, wanted.tolist())

    def _of_shard(self, shard: Shard, column: str, wanted: list[int]) -> Iterator:
        if not wanted:
            return
        stream, at = self._stream(shard, column, wanted[0]), wanted[0]
        if stream is None:
            yield from [None] * len(wanted)
            return
        for row in wanted:
            if row - at > 50_000:  # far ahead: open the shard again there rather than read past the rows between
                stream, at = self._stream(shard, column, row), row
            cell = next(islice(stream, row - at, None), _END)  # type: ignore[arg-type]
            if cell is _END:
                raise DataError(f"{shard.name!r} has become shorter while it was read.", "Start again.")
            yield cell
            at = row + 1

    def _stream(self, shard: Shard, column: str, start: int) -> Iterator | None:
        if column == "split" and self._split is not None:
            return iter(self._split[start:])
        if column in self._wide:
            rows = shard.stacked(self._wide[column], start)  # type: ignore[attr-defined]
            return map(cells.grey_square, rows) if self.columns[column] == "image" else rows
        column = self._names.get(column, column)
        return shard.cells(column, start) if column in (*shard.columns, *shard.left_out) else None

    def values(self, column: str) -> np.ndarray:
        kind = self.need(column)
        if column == "split" and self._split is not None:
            return self._split
        if kind not in ("integer", "number", "category"):
            kind = "category"
        return cells.values(self._ascending(column, np.arange(self.rows)), kind)

    def sets(self, column: str) -> np.ndarray:
        if self.need(column) == "category" and column == "split":
            return super().sets(column)
        out = np.empty(self.rows, dtype=object)
        for row, cell in enumerate(self._ascending(column, np.arange(self.rows))):
            out[row] = cells.several(cell)
        return out

    def row_name(self, row: int) -> str:
        number = bisect_right(self._starts, row) - 1
        return f"{self._shards[number].name}:{row - self._starts[number]}"

    def fingerprint(self) -> str:
        if self._key is None:
            paths = [Path(s.path) for s in self._shards]  # type: ignore[attr-defined]
            root = self.root or paths[0].parent
            self._key = fingerprint.of_files(root, [p.relative_to(root).as_posix() for p in paths])
        return fingerprint.of_parts("table", self._key)


_END = object()


def open_table(root: Path, names: Sequence[str], title: str) -> Table:
    """The files `names` of the folder `root`, all of one format, as one source."""
    shards: list[Shard] = [_READERS[type_of(name) or "csv"](root / name, name) for name in names]
    for shard in shards[1:]:
        if shard.rows and shards[0].rows and not set(shard.columns) & set(shards[0].columns):
            raise DataError(
                f"{shards[0].name!r} and {shard.name!r} in {title} share no column: they are not parts of one table.",
                "Give one of the files, or a folder with the parts of one table.",
            )
    return Table(title, root, shards)


def usual_column(columns: Sequence[str], usual: Sequence[str]) -> str | None:
    """The column with the first of the `usual` names, in capitals or not; None where there is none."""
    lower = {name.lower(): name for name in columns}
    return next((lower[name] for name in usual if name in lower), None)


def need_column(source: Table, given: str | None, usual: Sequence[str], what: str, remedy: str) -> str:
    """The column `given`, else that with a usual name.  RequestError where there is none of `what`, with the `remedy` and the columns."""
    if given is not None:
        if given not in source.stored:
            raise nearest(given, source.stored, f"column of {source.name}")
        return given
    found = usual_column(source.stored, usual)
    if found is None:
        raise RequestError(f"No column of {source.name} looks like {what}.", f"{remedy}; columns: {', '.join(source.stored)}.")  # fmt: skip
    return found
