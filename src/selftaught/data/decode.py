"""Payloads to stored rows on all cores, in order.

Threads, not processes: Pillow, numpy and the tokenizers let go of the interpreter while they work, and two processes
need seconds to start (measured on two cores: threads 1.1 to 1.6 times one, a spawned pool never faster than threads).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np

from . import limits
from .bad import Bad
from .source import Payload, Source

_ROWS = 256
_CHUNK_BYTES = 1 << 24

Decoded = list[np.ndarray | Bad]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_all(modality, payloads: Iterable[Payload | Bad]) -> Decoded:
    """A stored row or a Bad for every payload.  A modality may offer `decode_many(list) -> list` for whole chunks."""
    if hasattr(modality, "decode_many"):
        return _decode_many(modality, list(payloads))
    return [_decode(modality, payload) for payload in payloads]


def _decode(modality, payload: Payload | Bad) -> np.ndarray | Bad:
    if isinstance(payload, Bad):
        return payload
    try:
        return _checked(modality, modality.decode(payload))
    except Bad as bad:
        return bad
    except MemoryError:
        return Bad("too large: it does not fit into the memory")


def _decode_many(modality, payloads: list[Payload | Bad]) -> Decoded:
    good = [payload for payload in payloads if not isinstance(payload, Bad)]
    rows = iter(modality.decode_many(good))
    return [p if isinstance(p, Bad) else _accept(modality, next(rows)) for p in payloads]


def _accept(modality, row: np.ndarray | Bad) -> np.ndarray | Bad:
    try:
        return row if isinstance(row, Bad) else _checked(modality, row)
    except Bad as bad:
        return bad


def _checked(modality, row: np.ndarray) -> np.ndarray:
    if row.dtype != np.dtype(modality.dtype):
        raise ValueError(f"{type(modality).__name__}.decode gave {row.dtype}, and says {modality.dtype}")
    if modality.ragged:
        if row.size > limits.ROW_VALUES:
            raise Bad(f"too large: {row.size} numbers, at most {limits.ROW_VALUES} are kept")
        if not len(row) and not getattr(modality, "may_be_empty", False):
            raise Bad("empty row")
    elif row.shape != tuple(modality.shape):
        raise ValueError(f"{type(modality).__name__}.decode gave {row.shape}, and says {tuple(modality.shape)}")
    return row


def chunk_rows(modality) -> int:
    """Rows decoded at once: what keeps a chunk within 16 MiB."""
    if modality.ragged or not modality.shape:
        return _ROWS
    return max(1, min(_ROWS, _CHUNK_BYTES // max(1, int(np.prod(modality.shape)) * np.dtype(modality.dtype).itemsize)))


def decoded(source: Source, column: str, modality, *, threads: int | None = None) -> Iterator[tuple[int, Decoded]]:
    """(first row, its chunk of stored rows or Bads) of the whole source, in order, whatever the number of threads."""
    threads = threads or cores()
    size = chunk_rows(modality)
    if source.random_access:
        jobs = _reading_jobs(source, column, modality, size)
    else:
        jobs = _waiting_jobs(source, column, modality, size)
    with ThreadPoolExecutor(threads, "decode") as pool:
        pending: deque[tuple[int, Future]] = deque()
        try:
            for first, job in jobs:
                pending.append((first, pool.submit(job)))
                if len(pending) > threads + 1:
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
                first, future = pending.popleft()
                yield first, future.result()
        finally:
            for _, future in pending:
                future.cancel()


Jobs = Iterator[tuple[int, Callable[[], Decoded]]]


def _reading_jobs(source: Source, column: str, modality, size: int) -> Jobs:
    """Each job reads its own rows, so that reading is spread over the threads as well."""
    for first in range(0, source.rows, size):
        rows = range(first, min(first + size, source.rows))
        yield first, partial(_read_and_decode, source, column, modality, rows)


def _waiting_jobs(source: Source, column: str, modality, size: int) -> Jobs:
    """One thread reads the stream; the jobs decode what it read."""
    first, held, weight = 0, [], 0
    for row, payload in enumerate(source.payloads(column)):
        held.append(payload)
        weight += (
            payload.nbytes if isinstance(payload, np.ndarray) else len(payload) if not isinstance(payload, Bad) else 0
        )
        if len(held) >= size or weight > _CHUNK_BYTES:
            yield first, partial(decode_all, modality, held)
            first, held, weight = row + 1, [], 0
    if held:
        yield first, partial(decode_all, modality, held)


def _read_and_decode(source: Source, column: str, modality, rows: range) -> Decoded:
    return decode_all(modality, source.payloads(column, rows))
