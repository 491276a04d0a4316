"""Rows that stay encoded: read and decoded when they are asked for, by a pool of threads.

Each row is decoded once beforehand, so that bad ones are set apart before training; which those are is kept in the cache.
A source whose rows cannot be read one by one (Parquet, compressed text) has its encoded rows copied to the cache.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import DataError, Ragged
from .bad import Bad, Rejected
from .decode import cores, decode_all
from .sounds import Recording
from .source import Payload, Source
from .store import Progress, Store, pack, to_ragged

_JOB = 16
"""Rows that one thread decodes at a time."""


@dataclass(frozen=True)
class _AsItIs:
    """Packs the payloads themselves once the real modality has decoded them; or nothing of them, where `copy` is False."""

    modality: Any
    copy: bool
    dtype: str = "uint8"
    shape: tuple | None = None
    ragged: bool = True
    may_be_empty: bool = True

    def decode(self, payload: Payload) -> np.ndarray:
        (row,) = decode_all(self.modality, iter([payload]))
        if isinstance(row, Bad):
            raise row
        if not self.copy:
            return np.empty(0, np.uint8)
        if isinstance(payload, Recording):
            raise DataError("Pieces of long recordings are packed, not streamed from tables.", "Leave --stream out.")
        if isinstance(payload, np.ndarray):
            raise DataError("Rows of plain numbers are packed, not streamed from tables.", "Leave --stream out.")
        data = payload.encode("utf-8", errors="surrogatepass") if isinstance(payload, str) else payload
        return np.frombuffer(data, np.uint8)

    def config(self) -> dict:
        return {"encoded": self.modality.config(), "of": type(self.modality).__name__, "copy": self.copy}


class Encoded:
    """Rows by number, like a Store, decoded on the way."""

    def __init__(self, source: Source, column: str, modality, kept: Store, threads: int | None):
        self._source, self._column, self._modality = source, column, modality
        self._copied = None if source.random_access else kept
        self._words = source.columns[column] == "text"
        self._pool = ThreadPoolExecutor(threads or cores(), "decode")
        self.kept: np.ndarray = kept.kept
        self.rejected: Rejected = kept.rejected

    def __len__(self) -> int:
        return len(self.kept)

    def take(self, rows: np.ndarray) -> np.ndarray | Ragged:
        """The rows `rows`, decoded on all threads, in that order."""
        pieces = [rows[i : i + _JOB] for i in range(0, len(rows), _JOB)]
        decoded = [row for chunk in self._pool.map(self._decode, pieces) for row in chunk]
        dtype = np.dtype(self._modality.dtype)
        if not self._modality.ragged:
            return np.stack(decoded) if decoded else np.empty((0, *self._modality.shape), dtype)
        return to_ragged(decoded, decoded[0][:0] if decoded else np.empty(0, dtype))

    def _decode(self, rows: np.ndarray) -> list[np.ndarray]:
        if self._copied is None:
            payloads = self._source.payloads(self._column, self.kept[rows])
        else:
            held = (self._copied.row(row).tobytes() for row in rows.tolist())
            payloads = (str(data, "utf-8", "surrogatepass") if self._words else data for data in held)
        out = []
        for row, value in zip(rows.tolist(), decode_all(self._modality, payloads), strict=True):
            if isinstance(value, Bad):
                name = self._source.row_name(int(self.kept[row]))
                raise DataError(
                    f"{name} could be read before and cannot be now: {value.reason}.", "Put the data back and resume."
                )
            out.append(value)
        return out


def encode(
    source: Source, column: str, modality, *, threads: int | None = None, progress: Progress | None = None
) -> Encoded:
    """Checks every row of a column once (or opens what an earlier check found) and leaves the rows encoded."""
    kept = pack(source, column, _AsItIs(modality, copy=not source.random_access), threads=threads, progress=progress)
    return Encoded(source, column, modality, kept, threads)
