"""WebDataset tars: read in place, member by member, never extracted."""

from __future__ import annotations

import json
import os
import tarfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path, PurePosixPath

import numpy as np

from ..core import DataError
from . import cells, fingerprint, limits, sniff
from .bad import Bad
from .folders import labels_of_paths, split_of
from .source import Payload, Source, codes, listed

_EMPTY = -1


class _Headers:
    """A file whose single reads are bounded: tarfile would read a header of any declared size into memory."""

    def __init__(self, file):
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= limits.HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes, at most {limits.HEADER_BYTES} are read")
        return self._file.read(size)


class _Tar:
    """One tar: samples (members that share the name up to the first dot) with the place and size of each part."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self.keys: list[str] = []
        self.parts: dict[str, list[tuple[int, int, int]]] = {}
        """{part: [(sample, place, size)]}, in the order of samples."""
        self.refused: dict[int, str] = {}
        try:
            with path.open("rb") as file:
                head = file.read(512)
                if head[257:262] != b"ustar" and head.strip(b"\x00"):
                    raise _refuse(path, "it is no tar, or compressed")
                file.seek(0)
                self._list(file)
        except (tarfile.TarError, EOFError, ValueError, OverflowError, OSError) as error:
            raise _refuse(path, str(error)) from None
        self.rows = len(self.keys)

    def _list(self, file) -> None:
        numbers: dict[str, int] = {}
        end = os.fstat(file.fileno()).st_size
        with tarfile.open(fileobj=_Headers(file), mode="r:", errorlevel=0) as tar:  # type: ignore[call-overload]
            count, before = 0, -1
            while (member := tar.next()) is not None:
                tar.members = []  # tarfile would keep them all
                count += 1
                if count > limits.MEMBERS or member.offset <= before:
                    raise _refuse(
                        self.path, f"it has more than {limits.MEMBERS} members, or leads back to its beginning"
                    )
                before = member.offset
                if member.isdir() or PurePosixPath(member.name).name.startswith("."):
                    continue
                key, part, reason = _judge(member, end)
                number = numbers.get(key)
                if number is None:
                    number = numbers[key] = len(self.keys)
                    self.keys.append(key)
                if reason:
                    self.refused.setdefault(number, reason)
                else:
                    self.parts.setdefault(part, []).append((number, member.offset_data, member.size))
            file.seek(min(tar.offset, end))
            if file.read(512).strip(b"\x00"):  # tarfile ends quietly at a header that is broken
                raise _refuse(self.path, f"the header at byte {tar.offset} is broken or cut off")

    def table(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) places and sizes of one part; _EMPTY where a sample lacks it."""
        place = np.full(self.rows, _EMPTY, np.int64)
        size = np.zeros(self.rows, np.int64)
        if part in self.parts:
            number, at, length = np.array(self.parts[part], np.int64).reshape(-1, 3).T
            place[number], size[number] = at, length
        return place, size


def _refuse(path: Path, why: str) -> DataError:
    why = " ".join(why.split())[:160]
    return DataError(
        f"{str(path)!r} cannot be read as WebDataset: {why}.",
        "Write it again as a plain tar; a compressed one, or one of another layout, unpack and give the folder.",
    )


def _judge(member: tarfile.TarInfo, end: int) -> tuple[str, str, str]:
    """(key, part, reason to refuse it or "")."""
    name = member.name
    path = PurePosixPath(name)
    stem, _, part = path.name.partition(".")
    key = str(path.parent / stem) if str(path.parent) != "." else stem
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\x00" in name:
        return name, part, "refused path: it leads out of the archive"
    if not member.isreg():
        return key, part, "refused member: a link or a device"
    if member.issparse():
        return key, part, "refused member: a sparse file"
    if member.size > limits.ROW_BYTES:
        return key, part, f"too large: {member.size} bytes, at most {limits.ROW_BYTES} are read"
    if member.size < 0 or member.offset_data + member.size > end:
        return key, part, "truncated: the archive ends before it"
    return key, part.lower(), ""


class Tars(Source):
    """WebDataset shards: a row is a sample, a column a part of it (its suffix).

    Suffixes of pictures are the column "image", of sounds "sound"; `cls` and `txt` are read as what they spell; the scalar fields of `json`
    are columns of their own; folders inside the archive give "label" and "split" where there is no `cls`.
    """

    random_access = True

    def __init__(self, root: Path, names: Sequence[str], title: str):
        super().__init__(title)
        self.root = root
        self._shards = [_Tar(root / name, name) for name in names]
        self._starts = [0, *accumulate(s.rows for s in self._shards)]
        self.rows = self._starts[-1]
        self._parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._fields: set[str] = set()
        self._values: dict[str, np.ndarray] = {}
        found = dict.fromkeys(part for shard in self._shards for part in shard.parts)
        media = {"image": sniff.IMAGE_SUFFIXES, "sound": sniff.SOUND_SUFFIXES}
        joined = {kind: [p for p in found if f".{p}" in suffixes] for kind, suffixes in media.items()}
        alone = [p for p in found if not any(p in parts for parts in joined.values())]
        for column, parts in {**joined, **{p: [p] for p in alone}}.items():
            if parts:
                self._add(column, parts)
        self._add_paths()

    def _add(self, column: str, parts: list[str]) -> None:
        joined = []
        for shard in self._shards:
            place, size = shard.table(parts[0])
            for other in parts[1:]:
                more, length = shard.table(other)
                place, size = np.where(place == _EMPTY, more, place), np.where(place == _EMPTY, length, size)
            joined.append((place, size))
        self._parts[column] = joined
        sample = list(self._cells(column, np.arange(min(self.rows, sniff.SAMPLE))))
        if column == "json":
            self._add_fields(sample)
            return
        if column in ("image", "sound"):
            self.columns[column] = column
            return
        kind = sniff.kind_of(sample)
        if kind == "binary":
            spelled = sniff.kind_of([_spelled(cell) for cell in sample])
            kind = spelled or kind
        if column in ("txt", "text") and kind == "category":
            kind = "text"
        if kind:
            self.columns[column] = kind

    def _add_fields(self, sample: list) -> None:
        rows = [row for row in map(_fields, sample) if row]
        for name in dict.fromkeys(name for row in rows for name in row):
            kind = sniff.kind_of(row.get(name) for row in rows)
            if kind and name not in self.columns and len(self.columns) < limits.COLUMNS:
                self.columns[name] = kind
                self._fields.add(name)

    def _add_paths(self) -> None:
        keys = [key for shard in self._shards for key in shard.keys]
        labels, splits, notes = labels_of_paths(keys)
        if labels is not None and not {"cls", "label", "class"} & set(self.columns):
            self.columns["label"], self._values["label"] = "category", labels
            self.notes += notes[:1]
        by_shard = [split_of(shard.name) for shard in self._shards]
        if None not in by_shard and len(set(by_shard)) > 1:
            pairs = zip(by_shard, self._shards, strict=True)
            splits = codes(name for name, shard in pairs for _ in range(shard.rows))
            self.notes.append('column "split" from the shards\' names; all of them are rows')
        if splits is not None and "split" not in self.columns:
            self.columns["split"], self._values["split"] = "category", splits

    def _cells(self, column: str, rows: Iterable[int]) -> Iterator[bytes | Bad]:
        handle, opened = None, -1
        try:
            for row in rows:
                shard = bisect_right(self._starts, row) - 1
                place, size = (int(x[row - self._starts[shard]]) for x in self._parts[column][shard])
                reason = self._shards[shard].refused.get(int(row) - self._starts[shard])
                if place == _EMPTY or reason:
                    yield Bad(reason or f"no value: the sample has no {column}")
                    continue
                if opened != shard:
                    if handle is not None:
                        os.close(handle)
                    handle, opened = os.open(self._shards[shard].path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), shard
                yield _read_at(handle, place, size)  # type: ignore[arg-type]
        finally:
            if handle is not None:
                os.close(handle)

    def payloads(self, column: str, index: Iterable[int] | None = None) -> Iterator[Payload | Bad]:
        kind, rows = self.need(column), listed(index, self.rows).tolist()
        for cell in self._row_cells(column, rows):
            try:
                if kind in ("text", "category", "integer", "number", "series") and isinstance(cell, bytes):
                    cell = _spelled(cell)
                yield cells.payload(cell, kind, None)
            except Bad as bad:
                yield bad

    def _row_cells(self, column: str, rows: list[int]) -> Iterator:
        if column in self._values:
            return (self._values[column][row] for row in rows)
        if column in self._fields:
            parsed = ((cell, _fields(cell)) for cell in self._cells("json", rows))
            return (cell if isinstance(cell, Bad) else (row or {}).get(column) for cell, row in parsed)
        return self._cells(column, rows)

    def values(self, column: str) -> np.ndarray:
        kind = self.need(column)
        if column in self._values:
            return self._values[column]
        kind = kind if kind in ("integer", "number") else "category"
        return cells.values(map(_spelled, self._row_cells(column, list(range(self.rows)))), kind)

    def row_name(self, row: int) -> str:
        shard = bisect_right(self._starts, row) - 1
        return f"{self._shards[shard].name}:{self._shards[shard].keys[row - self._starts[shard]]}"

    def fingerprint(self) -> str:
        names = [shard.name for shard in self._shards]
        return fingerprint.of_parts("tar", fingerprint.of_files(self.root, names))


def _read_at(handle: int, place: int, size: int) -> bytes | Bad:
    """`size` bytes from `place`, safely beside other threads that read the same file."""
    if size == 0:
        return Bad("empty file")
    try:
        if hasattr(os, "pread"):
            data = os.pread(handle, size, place)
        else:
            os.lseek(handle, place, os.SEEK_SET)
            data = os.read(handle, size)
    except OSError as error:
        return Bad(f"unreadable: {error.strerror}")
    return data if len(data) == size else Bad("truncated: the archive ends before it")


def _spelled(cell):
    """Bytes of a `cls` or `txt` member as the text they are; anything else as it is."""
    if not isinstance(cell, bytes):
        return cell
    try:
        text = cell.decode("utf-8")
    except UnicodeDecodeError:
        return Bad("not UTF-8 text")
    return Bad("not text: it holds NUL bytes") if "\x00" in text else text.strip()


def _fields(cell) -> dict | None:
    """The scalar and list fields of a JSON member, or None."""
    if not isinstance(cell, bytes) or len(cell) > limits.LINE_BYTES:
        return None
    try:
        row = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    return {k: v for k, v in row.items() if not isinstance(v, dict)} if isinstance(row, dict) else None
