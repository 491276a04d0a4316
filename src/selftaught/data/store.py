"""The packed store: a column decoded once and memory-mapped ever after, keyed by the content and the modality's settings.

A store is a folder: `values.bin` (rows one after the other), `offsets.bin` (where rows differ in length), `kept.bin` (which
rows of the source they are), `rejected.jsonl` and `manifest.json` with sizes and hashes.  It is written beside its place,
flushed to the disk and renamed, so that it is there whole or not at all; one that does not verify is packed anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import torch

from ..core import Ragged
from . import cache
from .bad import Bad, Rejected
from .decode import Decoded, decode_all, decoded
from .fingerprint import of_parts
from .source import Source

VERSION = 1
_BLOCK = 1 << 24
_ALL_BLOCKS = 64
"""Stores of up to so many blocks (1 GiB) are hashed whole when opened; of larger ones, so many blocks spread over them."""

Progress = Callable[[int, int, int], None]
"""progress(rows done, rows in all, rows set apart)."""

_WIDER = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64}
"""Types that torch only half supports, and what rows are handed out as."""


@dataclass
class Store:
    """Stored rows: `values` (rows, ...) or, where they differ in length, all of them end to end with `offsets` (rows + 1,)."""

    values: np.ndarray
    kept: np.ndarray
    """(rows,) int64: the source's number of each row."""
    rejected: Rejected
    offsets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.kept)

    def row(self, row: int) -> np.ndarray:
        """One stored row, not copied."""
        if self.offsets is None:
            return self.values[row]
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: np.ndarray) -> np.ndarray | Ragged:
        """The rows `rows` (int64), copied; Ragged tensors where they differ in length."""
        if self.offsets is None:
            return np.take(self.values, rows, axis=0)
        bounds = zip(self.offsets[rows].tolist(), self.offsets[rows + 1].tolist(), strict=True)
        return to_ragged([self.values[a:b] for a, b in bounds], self.values[:0])


def to_ragged(rows: list[np.ndarray], empty: np.ndarray) -> Ragged:
    """Rows of unequal length end to end, copied; `empty` says the type where there are none."""
    values = np.concatenate([empty, *rows])
    values = values.astype(_WIDER.get(values.dtype, values.dtype), copy=False)
    offsets = np.cumsum([0] + [len(row) for row in rows])
    return Ragged(torch.from_numpy(values), torch.from_numpy(offsets))


def pack(
    source: Source, column: str, modality, *, threads: int | None = None, progress: Progress | None = None
) -> Store:
    """The store of a column: opened where it is in the cache and verifies, else decoded on all cores and written there.

    `modality` needs dtype, shape, ragged, decode(payload) and config().  Raises DataError where the disk is full.
    Two processes that pack the same at once end with one store.
    """
    key = of_parts(VERSION, source.fingerprint(), column, source.columns[column], _settings(modality))
    place = cache.cache_folder() / "packed" / key
    if store := open_store(place):
        return store
    cache.make_folder(place.parent)
    with _alone(place):
        if store := open_store(place):  # another process was faster
            return store
        cache.check_disk(place, estimate(source, column, modality), "The packed data")
        with cache.says_when_full(place):
            beside = _write(place, source, column, modality, threads, progress)
            _put(beside, place)
    store = open_store(place)
    if store is None:
        raise RuntimeError(f"{place} does not verify just after it was written: the disk or the memory is failing")
    return store


def _settings(modality) -> list:
    return [type(modality).__name__, str(modality.dtype), modality.shape, modality.ragged, modality.config()]


def estimate(source: Source, column: str, modality) -> int:
    """Bytes of the packed column: exact for rows of one shape, from the first rows otherwise."""
    itemsize = np.dtype(modality.dtype).itemsize
    if not modality.ragged:
        return source.rows * (int(np.prod(modality.shape)) * itemsize + 8)
    sample = decode_all(modality, source.payloads(column, range(min(source.rows, 64))))
    sizes = [row.nbytes for row in sample if not isinstance(row, Bad)]
    return int(source.rows * (np.mean(sizes) if sizes else 0)) + 16 * source.rows


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Holds off other processes that want to pack the same; without locks on this disk, both pack and one is dropped."""
    lock = filelock.FileLock(f"{place}.lock")
    try:
        lock.acquire()
    except NotImplementedError:
        yield
        return
    try:
        for left in place.parent.glob(f"{place.name}.*.tmp"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


class _Sorting:
    """Parts good rows from bad ones, and remembers which and how long they are."""

    def __init__(self, source: Source, modality):
        self.rejected = Rejected(source.rows)
        self.kept = array("q")
        self.ends = array("q", [0])
        self.tail: tuple[int, ...] | None = None if modality.ragged else tuple(modality.shape)[1:]
        self._name = source.row_name

    def good(self, first: int, chunk: Decoded) -> list[np.ndarray]:
        rows = []
        for number, row in enumerate(chunk, first):
            if not isinstance(row, Bad):
                self.tail = row.shape[1:] if self.tail is None else self.tail
                if row.shape[1:] == self.tail:
                    rows.append(row)
                    self.kept.append(number)
                    self.ends.append(self.ends[-1] + len(row))
                    continue
                row = Bad(f"unlike the others: rows of shape {row.shape[1:]} instead of {self.tail}")
            self.rejected.add(number, self._name(number), row)
        return rows


def _write(place: Path, source: Source, column: str, modality, threads: int | None, progress: Progress | None) -> Path:
    beside = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    sorting = _Sorting(source, modality)
    join = np.concatenate if modality.ragged else np.stack
    try:
        with _Hashed(beside / "values.bin") as file:
            for first, chunk in decoded(source, column, modality, threads=threads):
                if rows := sorting.good(first, chunk):
                    file.write(join(rows))
                if progress:
                    progress(first + len(chunk), source.rows, len(sorting.rejected))
        _finish(beside, modality, sorting, {"values.bin": file.entry()})
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return beside


def _finish(beside: Path, modality, sorting: _Sorting, files: dict) -> None:
    """Writes what stands beside the values, and the manifest last."""
    parts: dict[str, np.ndarray | bytes] = {
        "kept.bin": np.array(sorting.kept, np.int64),
        "rejected.jsonl": sorting.rejected.lines(),
    }
    if modality.ragged:
        parts["offsets.bin"] = np.array(sorting.ends, np.int64)
    for name, data in parts.items():
        with _Hashed(beside / name) as file:
            file.write(data)
        files[name] = file.entry()
    manifest = {
        "version": VERSION,
        "dtype": np.dtype(modality.dtype).str,
        "shape": list(sorting.tail or ()) if modality.ragged else list(modality.shape),
        "ragged": bool(modality.ragged),
        "rows": len(sorting.kept),
        "total": sorting.rejected.total,
        "files": files,
    }
    with (beside / "manifest.json").open("w") as out:
        json.dump(manifest, out)
        out.flush()
        os.fsync(out.fileno())


class _Hashed:
    """A file that is being written, hashed in blocks as it grows and flushed to the disk when it is closed."""

    def __init__(self, path: Path):
        self._file = path.open("wb", buffering=1 << 20)
        self.size, self._hashes, self._hash = 0, [], hashlib.blake2b(digest_size=8)  # type: ignore[var-annotated]

    def __enter__(self) -> _Hashed:
        return self

    def write(self, data: np.ndarray | bytes) -> None:
        view = (
            np.ascontiguousarray(data).view(np.uint8).reshape(-1).data
            if isinstance(data, np.ndarray)
            else memoryview(data)
        )
        self._file.write(view)
        while len(view):
            room = _BLOCK - self.size % _BLOCK
            self._hash.update(view[:room])
            self.size += min(room, len(view))
            view = view[room:]
            if self.size % _BLOCK == 0:
                self._close_block()

    def _close_block(self) -> None:
        self._hashes.append(self._hash.hexdigest())
        self._hash = hashlib.blake2b(digest_size=8)

    def entry(self) -> dict:
        return {"size": self.size, "blocks": self._hashes}

    def __exit__(self, *error) -> None:
        if self.size % _BLOCK:
            self._close_block()
        try:
            if error[0] is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()


def _put(beside: Path, place: Path) -> None:
    """Renames a finished store to its place; a broken one there gives way, one that verifies stays."""
    if place.exists() and open_store(place) is None:
        broken = place.with_name(f"{place.name}.{os.getpid()}.broken.tmp")
        os.rename(place, broken)
        shutil.rmtree(broken, ignore_errors=True)
    try:
        os.rename(beside, place)
    except OSError:
        if open_store(place) is None:
            raise
        shutil.rmtree(beside, ignore_errors=True)
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def open_store(place: Path) -> Store | None:
    """The store at `place`, memory-mapped; None where there is none, or it is cut off or altered."""
    try:
        manifest = json.loads((place / "manifest.json").read_text("utf-8"))
        if manifest["version"] != VERSION or not _verifies(place, manifest["files"]):
            return None
        dtype, shape, rows = np.dtype(manifest["dtype"]), tuple(manifest["shape"]), int(manifest["rows"])
        kept = np.fromfile(place / "kept.bin", np.int64)
        offsets = np.fromfile(place / "offsets.bin", np.int64) if manifest["ragged"] else None
        count = int(offsets[-1]) if offsets is not None else rows
        values = _map(place / "values.bin", dtype, (count, *shape))
        rejected = Rejected.read(place / "rejected.jsonl", int(manifest["total"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Store(values, kept, rejected, offsets) if len(kept) == rows else None


def _map(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", 0, shape))


def _verifies(place: Path, files: dict) -> bool:
    for name, entry in files.items():
        path, blocks = place / Path(name).name, entry["blocks"]
        if path.stat().st_size != entry["size"]:
            return False
        few = len(blocks) <= _ALL_BLOCKS
        numbers = range(len(blocks)) if few else np.linspace(0, len(blocks) - 1, _ALL_BLOCKS).astype(int).tolist()
        with path.open("rb", buffering=0) as file:
            for number in numbers:
                file.seek(number * _BLOCK)
                if hashlib.blake2b(_read(file, _BLOCK), digest_size=8).hexdigest() != blocks[number]:
                    return False
    return True


def _read(file, size: int) -> bytes:
    """Up to `size` bytes: a raw read may give fewer at a time."""
    data = file.read(size)
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def in_memory(
    source: Source, column: str, modality, *, threads: int | None = None, progress: Progress | None = None
) -> Store:
    """A store that is not written anywhere: for arrays given from Python."""
    sorting = _Sorting(source, modality)
    rows = []
    for first, chunk in decoded(source, column, modality, threads=threads):
        rows += sorting.good(first, chunk)
        if progress:
            progress(first + len(chunk), source.rows, len(sorting.rejected))
    shape = (0, *(sorting.tail or ())) if modality.ragged else (0, *modality.shape)
    join = np.concatenate if modality.ragged else np.stack
    values = join(rows) if rows else np.empty(shape, np.dtype(modality.dtype))
    offsets = np.array(sorting.ends, np.int64) if modality.ragged else None
    return Store(values, np.array(sorting.kept, np.int64), sorting.rejected, offsets)
