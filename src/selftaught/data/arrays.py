"""Arrays as a source: .npy and .npz files, the digits that come with scikit-learn, and arrays in memory."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from ..core import DataError, RequestError
from . import fingerprint, limits
from .bad import Bad
from .cells import payload, several, values
from .sniff import kind_of
from .source import Payload, Source, listed

_AGAIN = "Write it again with np.save or np.savez."


class Arrays(Source):
    """Columns that are in memory (or memory-mapped): arrays whose first axis is the rows, or lists of rows."""

    random_access = True

    def __init__(self, name: str, columns: Mapping[str, np.ndarray | Sequence], key: str | None = None):
        super().__init__(name)
        rows = {column: len(held) for column, held in columns.items()}
        if len(set(rows.values())) > 1:
            raise DataError(
                f"The arrays of {name} differ in their number of rows: {rows}.", "Give arrays of equal length."
            )
        self.rows = next(iter(rows.values()), 0)
        self._held: dict[str, np.ndarray | Sequence] = {}
        self._key = key
        self.resident = not any(isinstance(held, np.memmap) for held in columns.values())
        for column, held in columns.items():
            held = _channels_last(held) if isinstance(held, np.ndarray) else held
            kind = _kind_of_array(held) if isinstance(held, np.ndarray) else kind_of(held[:256])
            if kind is None:
                self.notes.append(f"{column!r} left out: {_say(held)} is no column of images, texts, series or values")
                continue
            self._held[column] = held
            self.columns[column] = kind

    def payloads(self, column: str, index: Iterable[int] | None = None) -> Iterator[Payload | Bad]:
        kind = self.need(column)
        held = self._held[column]
        for row in listed(index, self.rows).tolist():
            cell = held[row]
            try:
                if kind == "series" and isinstance(cell, np.ndarray):
                    with np.errstate(over="ignore"):
                        cell = np.asarray(cell, np.float32)
                yield payload(cell, kind, None)
            except Bad as bad:
                yield bad

    def values(self, column: str) -> np.ndarray:
        kind, held = self.need(column), self._held[column]
        if isinstance(held, np.ndarray) and kind in ("integer", "number"):
            return held.astype(np.int64 if kind == "integer" else np.float64)
        return values(held, kind)

    def sets(self, column: str) -> np.ndarray:
        self.need(column)
        out = np.empty(self.rows, dtype=object)
        for row, cell in enumerate(self._held[column]):
            out[row] = several(cell)
        return out

    def row_name(self, row: int) -> str:
        return f"{self.name}:{row}"

    def fingerprint(self) -> str:
        if self._key is None:
            whole = hashlib.blake2b(digest_size=16)
            for column, held in self._held.items():
                whole.update(column.encode())
                for row in [held] if isinstance(held, np.ndarray) else held:
                    whole.update(_bytes_of(row))
            self._key = whole.hexdigest()
        return fingerprint.of_parts("arrays", self._key)


def _bytes_of(row) -> bytes:
    if isinstance(row, np.ndarray):
        return f"{row.dtype.str}{row.shape}".encode() + np.ascontiguousarray(row).tobytes()
    return row if isinstance(row, bytes) else repr(row).encode()


def _say(held) -> str:
    return f"{held.dtype} {held.shape}" if isinstance(held, np.ndarray) else f"a list of {type(held[0]).__name__}"


def _channels_last(array: np.ndarray) -> np.ndarray:
    """(N, C, H, W) pictures as (N, H, W, C)."""
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[1] in (1, 3, 4) and array.shape[3] not in (1, 3, 4):
        return array.transpose(0, 2, 3, 1)
    return array


def _kind_of_array(array: np.ndarray) -> str | None:
    kind, rank = array.dtype.kind, array.ndim
    if rank == 1:
        return {"i": "integer", "u": "integer", "f": "number", "b": "category", "U": _words(array)}.get(kind)
    if array.dtype == np.uint8 and rank in (3, 4):
        return "image"
    return "series" if kind in "fiu" and rank in (2, 3) else None


def _words(array: np.ndarray) -> str | None:
    return kind_of(array[:256].tolist())


def _header(file: BinaryIO, size: int, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The shape, order and dtype that an .npy header declares; DataError where they are no plain array of `size` bytes."""
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=10_000)
    except (ValueError, EOFError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise DataError(f"{name} is no plain numpy array: {' '.join(str(error).split())[:160]}.", _AGAIN) from None
    if dtype.hasobject:
        raise DataError(
            f"{name} holds pickled Python objects, which are never read because they may run code.",
            "Save it as a plain array: np.save(path, array, allow_pickle=False).",
        )
    if dtype.fields is not None or any(n < 0 for n in shape):
        raise DataError(f"{name} holds {dtype} {shape}, which is no plain array.", "Save one array a column.")
    count = 1
    for n in shape:
        count *= n
    if count * dtype.itemsize != size - file.tell():
        raise DataError(
            f"{name} declares {dtype} {shape}, {count * dtype.itemsize} bytes, but holds {size - file.tell()}.",
            "It is truncated or was tampered with; write it again.",
        )
    return shape, fortran, dtype


def open_npy(path: Path) -> Arrays:
    """An .npy file, memory-mapped."""
    with path.open("rb") as file:
        shape, fortran, dtype = _header(file, path.stat().st_size, repr(str(path)))
        place = file.tell()
    if not shape or 0 in shape:
        raise DataError(f"{str(path)!r} holds no rows: its shape is {shape}.", "Save at least two rows.")
    array = np.memmap(path, dtype, "r", place, shape, "F" if fortran else "C")
    kind = _kind_of_array(_channels_last(array))
    if kind is None or kind in ("integer", "number"):
        raise DataError(
            f"{str(path)!r} holds {dtype} {shape}.",
            "Images are uint8 (rows, height, width[, channels]); series are numbers (rows, length) or (rows, length, channels).",
        )
    return Arrays(path.name, {kind: array}, fingerprint.of_files(path.parent, [path.name]))


def open_npz(path: Path) -> Arrays:
    """An .npz file: its arrays are columns.  Sizes are checked in the zip's directory before anything is unfolded."""
    try:
        with zipfile.ZipFile(path) as pack:
            arrays = {name.removesuffix(".npy"): _of_zip(pack, name, path) for name in _members(pack, path)}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} is no sound .npz file: {error}.", "Write it again with np.savez.") from None
    lengths: dict[int, int] = {}
    for array in arrays.values():
        if array.ndim:
            lengths[len(array)] = lengths.get(len(array), 0) + array.size
    rows = max(lengths, key=lambda n: lengths[n], default=0)
    kept = {name: array for name, array in arrays.items() if array.ndim and len(array) == rows}
    source = Arrays(path.name, kept, fingerprint.of_files(path.parent, [path.name]))
    source.notes += [f"{name!r} left out: it does not have {rows} rows" for name in arrays if name not in kept]
    return source


def _members(pack: zipfile.ZipFile, path: Path) -> list[str]:
    infos = pack.infolist()
    total = sum(info.file_size for info in infos)
    if len(infos) > limits.ZIP_MEMBERS:
        raise DataError(
            f"{str(path)!r} holds {len(infos)} members, at most {limits.ZIP_MEMBERS} are read.",
            "Save one array a column.",
        )
    if total > limits.DECOMPRESSED and total > limits.RATIO * max(1, path.stat().st_size):
        raise DataError(f"{str(path)!r} is a decompression bomb: it declares {total} bytes.", "Leave it out.")
    wrong = [info.filename for info in infos if not info.filename.endswith(".npy") or info.flag_bits & 1]
    if wrong:
        raise DataError(f"{str(path)!r} holds {wrong[0]!r}, which is no array.", "Write it with np.savez.")
    return [info.filename for info in infos]


def _of_zip(pack: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    info = pack.getinfo(name)
    with pack.open(info) as file:
        shape, fortran, dtype = _header(file, info.file_size, f"{str(path)!r}, array {name!r}")  # type: ignore[arg-type]
        data = file.read(info.file_size)
    array = np.frombuffer(data, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def digits() -> Arrays:
    """1,797 grey pictures of handwritten digits, 8 x 8, with labels: scikit-learn's, from the dependencies, no network."""
    from sklearn.datasets import load_digits

    held = load_digits()
    images = (held.images * (255 / 16)).round().astype(np.uint8)
    return Arrays("digits", {"image": images, "label": held.target.astype(np.int64)})


def plain_list(held):
    """An array of Python objects (a pandas column of words) as a list; anything else as it is."""
    return held.tolist() if isinstance(held, np.ndarray) and held.dtype.kind == "O" else held


def of_memory(data) -> Arrays:
    """Arrays or lists given from Python: one column of payloads, or a mapping of columns."""
    columns = dict(data) if isinstance(data, Mapping) else {"data": data}
    for name, held in columns.items():
        if not isinstance(held, np.ndarray | list | tuple):
            raise RequestError(
                f"{name!r} is a {type(held).__name__}.", "Give numpy arrays, or lists of texts or arrays."
            )
        columns[name] = plain_list(held)
    source = Arrays("data in memory", columns)
    if not isinstance(data, Mapping) and source.columns:
        kind = source.columns["data"]
        kind = "text" if kind == "category" else kind
        source.columns, source._held = {kind: kind}, {kind: source._held["data"]}
    return source
