"""Text, plain or compressed: one line is one row; blank lines are no rows but end a document."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..core import DataError
from . import fingerprint, limits, streams
from .bad import Bad
from .folders import split_of
from .paths import read_text
from .source import Payload, Source, codes, in_order, listed

_SCAN = 1 << 20
_SPACE = np.isin(np.arange(256), list(b" \t\n\r\v\f"))
_EVERY = 1024
"""Rows between the places that are remembered in a plain file, so that reading can begin in the middle."""


class _File:
    """One text file: its rows, where its documents begin, and (where it is plain) where every 1024th row lies."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = 0
        self.documents = array("q")
        self.places = array("q")
        with streams.says_when_broken(path), path.open("rb") as file:
            self.plain = streams.compression(file.read(8)) is None
        with streams.says_when_broken(path), streams.open_stream(path) as stream:
            _refuse_binary(path, stream.read(1 << 12))
        self._scan()

    def _scan(self) -> None:
        """Counts rows block by block, without a Python step a line."""
        blank, place, begun, filled = True, 0, 0, False
        with streams.says_when_broken(self.path), streams.open_stream(self.path) as stream:
            while block := stream.read(_SCAN):
                marks = np.frombuffer(block, np.uint8)
                ends = np.flatnonzero(marks == ord("\n"))
                filled_to = np.concatenate([[0], np.cumsum(~_SPACE[marks])])
                if len(ends):
                    is_row = np.diff(filled_to[ends + 1], prepend=0) > 0
                    is_row[0] |= filled
                    begins = np.concatenate([[begun], place + ends[:-1] + 1])
                    blank = self._add(is_row, begins, blank)
                    begun, filled = int(place + ends[-1] + 1), bool(filled_to[-1] > filled_to[ends[-1] + 1])
                else:
                    filled |= bool(filled_to[-1])
                place += len(block)
        if filled:
            self._add(np.array([True]), np.array([begun]), blank)

    def _add(self, is_row: np.ndarray, begins: np.ndarray, blank: bool) -> bool:
        """Notes lines that begin at these places, after a blank one or not; returns whether the last was blank."""
        rows = np.flatnonzero(is_row)
        before = np.concatenate([[blank], ~is_row[:-1]])
        self.documents.frombytes((self.rows + np.flatnonzero(before[rows])).astype(np.int64).tobytes())
        numbers = self.rows + np.arange(len(rows))
        self.places.frombytes(begins[rows[numbers % _EVERY == 0]].astype(np.int64).tobytes())
        self.rows += len(rows)
        return not bool(is_row[-1])

    def _lines(self, place: int) -> Iterator[tuple[int, bytes | Bad | None]]:
        """(place in the file, line) from a place on; None for a blank line."""
        with streams.says_when_broken(self.path), streams.open_stream(self.path) as stream:
            if place:
                stream.seek(place)
            while line := stream.readline(limits.LINE_BYTES):
                size = len(line)
                if size == limits.LINE_BYTES and not line.endswith(b"\n"):
                    more, filled = _skip_line(stream)
                    size += more
                    bad = Bad(f"too large: a line of {size} bytes, at most {limits.LINE_BYTES} are read")
                    yield place, bad if filled or line.strip() else None
                else:
                    yield place, line if line.strip() else None
                place += size

    def rows_from(self, start: int) -> Iterator[str | Bad]:
        row, place = (start - start % _EVERY, self.places[start // _EVERY]) if self.plain else (0, 0)
        for _, line in self._lines(place):
            if line is None:
                continue
            if row >= start:
                yield _text(line)
            row += 1


def _skip_line(stream: BinaryIO) -> tuple[int, bool]:
    """(bytes to the end of the line, whether any of them is no space)."""
    size, filled = 0, False
    while piece := stream.readline(limits.LINE_BYTES):
        size, filled = size + len(piece), filled or bool(piece.strip())
        if piece.endswith(b"\n"):
            break
    return size, filled


def _refuse_binary(path: Path, head: bytes) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{str(path)!r} is UTF-16 text.", "Save it as UTF-8.")
    if head.count(b"\x00") * 8 > len(head):
        raise DataError(f"{str(path)!r} is no text: it is full of NUL bytes.", "Give text in UTF-8.")


def _text(line: bytes | Bad) -> str | Bad:
    if isinstance(line, Bad):
        return line
    try:
        return read_text(line).rstrip("\r\n")
    except Bad as bad:
        return bad


class Lines(Source):
    """Text files whose lines are the rows.

    The column "document" counts the blocks between blank lines (a file ends one too), where there are several; the
    column "split" comes from the files' names, where all speak of one.
    """

    def __init__(self, root: Path, names: Sequence[str], title: str):
        super().__init__(title)
        self.root, self._names = root, list(names)
        self._files = [_File(root / name) for name in self._names]
        self._starts = [0, *accumulate(f.rows for f in self._files)]
        self.rows = self._starts[-1]
        self.columns = {"text": "text"}
        self.notes = [
            "one line is one row" + (f"; {len(self._files)} files one after the other" if len(names) > 1 else "")
        ]
        documents = sum(len(f.documents) for f in self._files)
        if 1 < documents < self.rows:
            self.columns["document"] = "integer"
            self.notes.append(f'column "document": {documents} blocks between blank lines')
        splits = [split_of(name) for name in self._names]
        if None not in splits and len(set(splits)) > 1:
            self.columns["split"] = "category"
            self.notes.append('column "split" from the files\' names; all of them are rows')

    def payloads(self, column: str, index: Iterable[int] | None = None) -> Iterator[Payload | Bad]:
        if self.need(column) != "text":
            yield from (str(v) for v in self.values(column)[listed(index, self.rows)])
            return
        yield from in_order(listed(index, self.rows), self._ascending)

    def _ascending(self, rows: np.ndarray) -> Iterator[str | Bad]:
        for number, file in enumerate(self._files):
            start, end = self._starts[number], self._starts[number + 1]
            wanted = (rows[(rows >= start) & (rows < end)] - start).tolist()
            stream, at = None, -1
            for row in wanted:
                if stream is None or (file.plain and row - at > 2 * _EVERY):
                    stream, at = file.rows_from(row), row
                for text in stream:
                    at += 1
                    if at > row:
                        yield text
                        break
                else:
                    raise DataError(f"{self._names[number]!r} has become shorter while it was read.", "Start again.")

    def values(self, column: str) -> np.ndarray:
        self.need(column)
        if column == "document":
            out = np.zeros(self.rows, np.int64)
            for start, file in zip(self._starts, self._files, strict=False):
                out[np.array(file.documents, np.int64) + start] = 1
            return np.cumsum(out) - 1
        if column == "split":
            return codes(
                chain.from_iterable([split_of(n)] * f.rows for n, f in zip(self._names, self._files, strict=True))
            )
        return codes(p if isinstance(p, str) else None for p in self.payloads(column))

    def row_name(self, row: int) -> str:
        number = bisect_right(self._starts, row) - 1
        return f"{self._names[number]}:{row - self._starts[number]}"

    def fingerprint(self) -> str:
        return fingerprint.of_parts("lines", fingerprint.of_files(self.root, self._names))
