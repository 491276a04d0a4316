"""Long recordings as several rows: pieces of one length, which share their recording's labels and its group."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .bad import Bad
from .decode import cores
from .fingerprint import of_parts
from .sounds import facts, piece
from .source import Payload, Source, codes, listed

LONG = 60.0
"""Seconds from which a recording is cut."""
SECONDS = 30.0
"""Of a piece."""
_LOOKED = 256
"""Files that are looked at, evenly spread, to see whether any is long."""
_CHUNK = 512


class Pieces(Source):
    """Row i is a stretch of up to SECONDS of a recording of `whole`; short recordings are one row, as is one that cannot be read.

    All other columns are the recording's; "recording" is a group, so that no two pieces of one stand on two sides of a split.
    """

    def __init__(self, whole: Source, column: str, lengths: np.ndarray, rates: np.ndarray):
        super().__init__(whole.name)
        self.random_access = whole.random_access
        self._whole, self._column = whole, column
        step = np.where(lengths > LONG * rates, np.round(SECONDS * rates), lengths).astype(np.int64).clip(1)
        counts = np.where(lengths > LONG * rates, -(-lengths // step), 1)
        counts -= (
            (counts > 1) & (lengths % step < step // 4) & (lengths % step > 0)
        )  # a short rest goes with the piece before it
        self._starts = [0, *np.cumsum(counts).tolist()]
        self._owner = np.repeat(np.arange(whole.rows), counts)
        self._first = (np.arange(len(self._owner)) - np.array(self._starts)[self._owner]) * step[self._owner]
        last = np.append(self._owner[1:] != self._owner[:-1], True)
        self._frames = np.where(last, lengths[self._owner] - self._first, step[self._owner])
        self._cut = (counts > 1)[self._owner]
        self.rows, self.columns = len(self._owner), dict(whole.columns)
        self._groups = not {"recording", "speaker", "group"} & set(whole.columns)
        if self._groups:
            self.columns["recording"] = "category"
        cut, most = int((counts > 1).sum()), float((lengths / rates).max())
        self.notes = [
            *whole.notes,
            f"{cut} of {whole.rows} recordings are longer than {LONG:.0f} s (the longest {most:,.0f} s): cut into pieces of {SECONDS:.0f} s, {self.rows} rows in all",
        ]

    def payloads(self, column: str, index: Iterable[int] | None = None) -> Iterator[Payload | Bad]:
        rows = listed(index, self.rows)
        if column == "recording" and self._groups:
            yield from (self._whole.row_name(int(self._owner[row])) for row in rows)
            return
        before, held = -1, None
        stream = self._whole.payloads(column, np.unique(self._owner[rows]))
        owned: dict[int, Payload | Bad] = {}
        ascending = bool((np.diff(rows) >= 0).all())
        if not ascending:
            owned = dict(zip(np.unique(self._owner[rows]).tolist(), stream, strict=True))
        for row in rows.tolist():
            owner = int(self._owner[row])
            if owner != before:
                before, held = owner, next(stream) if ascending else owned[owner]
            if column != self._column or not self._cut[row] or isinstance(held, Bad):
                yield held  # type: ignore[misc]
            else:
                yield piece(held, int(self._first[row]), int(self._frames[row]))  # type: ignore[arg-type]

    def values(self, column: str) -> np.ndarray:
        if column == "recording" and self._groups:
            return codes(self._whole.row_name(int(owner)) for owner in self._owner)
        return self._whole.values(column)[self._owner]

    def sets(self, column: str) -> np.ndarray:
        return super().sets(column) if column == "recording" and self._groups else self._whole.sets(column)[self._owner]

    def row_name(self, row: int) -> str:
        owner = bisect_right(self._starts, row) - 1
        return self._whole.row_name(owner) + (f"#{row - self._starts[owner]}" if self._cut[row] else "")

    def fingerprint(self) -> str:
        return of_parts("pieces", LONG, SECONDS, self._whole.fingerprint())


def pieces_of(source: Source, column: str) -> Source:
    """`source` as it is where none of a sample of its recordings is long, else its pieces.

    Costs the headers of 256 files, or of all where one of those is long.
    """
    looked = np.unique(np.linspace(0, source.rows - 1, min(source.rows, _LOOKED)).astype(np.int64))
    if not source.random_access:
        looked = np.arange(min(source.rows, _LOOKED))
    lengths, rates = _measured(source, column, looked)
    if not (lengths > LONG * rates).any():
        return source
    return Pieces(source, column, *_measured(source, column, np.arange(source.rows)))


def _measured(source: Source, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(frames, rate) of each of `rows`, each (len(rows),) int64; 0 and 1 of what cannot be read."""
    chunks = [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)] if source.random_access else [rows]
    with ThreadPoolExecutor(cores()) as pool:
        found = [pair for some in pool.map(lambda part: _headers(source, column, part), chunks) for pair in some]
    lengths, rates = np.array(found, np.int64).reshape(-1, 2).T
    return lengths, rates


def _headers(source: Source, column: str, rows: np.ndarray) -> list[tuple[int, int]]:
    out = []
    for payload in source.payloads(column, rows):
        try:
            if isinstance(payload, Bad):
                raise payload
            said = facts(payload)  # type: ignore[arg-type]
            out.append((said.frames, said.rate))
        except Bad:
            out.append((0, 1))
    return out
