"""A long table of measurements in time as series: windows of its rows, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from ..data.fingerprint import of_parts
from ..data.source import Source, listed

SHORTEST, LONGEST = 32, 256
"""Steps of a window where none are asked for: about 200 windows, within these bounds."""
LEAST_ROWS = 1000
_TIME = re.compile(r"(date|time|timestamp|datetime|ts)([ _-]?(utc|stamp|s|ms))?", re.IGNORECASE)


class Windows(Source):
    """Row i is the (length, channels) float32 of `length` rows of a table, i x length onwards; what is left over is left out.

    Windows do not overlap, so that no two rows share a measurement; neighbours are still alike, which a random split cannot see.
    """

    random_access = True

    def __init__(self, table: Source, time: str, channels: list[str], length: int):
        super().__init__(table.name)
        self.rows, self.columns = table.rows // length, {"series": "series"}
        self._held = np.stack([table.values(c).astype(np.float32) for c in channels], 1)
        self._length, self._key = length, of_parts("windows", table.fingerprint(), channels, length)
        left = [c for c in table.columns if c not in (time, *channels)]
        self.notes = [
            *table.notes,
            f"{table.rows} measurements in time (column {time!r}) of {', '.join(channels)} are read as {self.rows} series of "
            f"{length} steps (--size changes that)" + (f"; left out: {', '.join(left)}" if left else ""),
        ]

    def payloads(self, column: str, index: Iterable[int] | None = None) -> Iterator[np.ndarray]:
        self.need(column)
        for row in listed(index, self.rows).tolist():
            yield self._held[row * self._length : (row + 1) * self._length]

    def row_name(self, row: int) -> str:
        return f"{self.name}:{row * self._length}-{(row + 1) * self._length - 1}"

    def fingerprint(self) -> str:
        return self._key


def windows_of(source: Source, size: int | None = None) -> Source:
    """The windows of a table whose rows are measurements in time, else `source` as it is.

    That is a table of numbers alone, of 1,000 rows or more, with a column called date, time or the like that never falls.  A
    table without one may hold its rows in any order, and is no series.
    """
    times = [name for name in source.columns if _TIME.fullmatch(name)]
    channels = [name for name in source.of_kind("number", "integer") if name not in times]
    if source.rows < LEAST_ROWS or not times or not channels or source.of_kind("image", "text", "series", "binary"):
        return source
    if not _rises(source, times[0]):
        return source
    length = size or int(np.clip(source.rows // 200, SHORTEST, LONGEST))
    return Windows(source, times[0], channels, length) if source.rows >= 2 * length else source


def _rises(source: Source, column: str) -> bool:
    values = source.values(column)
    if values.dtype.kind not in "iuf":  # dates that are spelled out sort as they follow, in the usual spellings
        return all(v is not None for v in values) and bool((values[1:] >= values[:-1]).all())
    return bool((np.diff(values) >= 0).all()) and values[-1] > values[0]
