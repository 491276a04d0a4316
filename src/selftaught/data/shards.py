"""One file of a table: Parquet, CSV or JSONL, read in batches of bounded size.  tables.py joins them into a source."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from ..core import DataError
from . import cells, limits, streams
from .bad import Bad


class Shard(Protocol):
    """`columns` in order; `cells` yields the cells of one column from row `start` on; `left_out` cannot be read."""

    name: str
    rows: int
    columns: list[str]
    left_out: list[str]

    def cells(self, column: str, start: int = 0) -> Iterator: ...


def _refuse(path: Path, why: str, remedy: str = "") -> DataError:
    return DataError(f"{str(path)!r} cannot be read: {why}.", remedy or "Write it again, or leave it out.")


def _check_columns(path: Path, count: int) -> None:
    if count > limits.COLUMNS:
        raise _refuse(path, f"it has {count} columns, at most {limits.COLUMNS} are read", "Store wide rows as lists.")


class ParquetShard:
    """A Parquet file; the sizes it declares are checked before anything is allocated."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self.left_out: list[str] = []
        file = self._open()
        meta, schema = file.metadata, file.schema_arrow
        _check_columns(path, meta.num_columns)
        size = path.stat().st_size
        declared, largest = _declared(meta)
        if declared < 0 or (declared > limits.DECOMPRESSED and declared > limits.RATIO * size):
            raise _refuse(path, f"decompression bomb: {size} bytes declare {declared}")
        self._starts = np.cumsum([0] + [meta.row_group(i).num_rows for i in range(meta.num_row_groups)])
        self.rows = int(self._starts[-1])
        if self.rows != meta.num_rows or self.rows < 0 or self.rows > 16 * max(size, 1 << 16):
            raise _refuse(path, f"it declares {meta.num_rows} rows, which its row groups do not hold")
        # a dictionary may repeat one long value in every row, so rows are read as if each were as long as its chunk
        self._batch = max(16, min(4096, limits.CELL_BATCH_BYTES // max(1, largest)))
        self.metadata = {
            k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in (schema.metadata or {}).items()
        }
        self.columns: list[str] = []
        for field in schema:
            (self.columns if cells.is_readable(field.type) else self.left_out).append(field.name)
        if len(set(self.columns)) != len(self.columns):
            raise _refuse(path, "two columns have the same name")

    def _open(self):
        import pyarrow.parquet as pq

        with self.path.open("rb") as file:
            file.seek(0, 2)
            size = file.tell()
            file.seek(max(0, size - 8))
            tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or length > size:
            raise _refuse(self.path, "it is no Parquet file, or truncated")
        if length > limits.FOOTER_BYTES:
            raise _refuse(self.path, f"its footer has {length} bytes, at most {limits.FOOTER_BYTES} are read")
        try:
            return pq.ParquetFile(
                self.path,
                thrift_string_size_limit=limits.FOOTER_BYTES,
                thrift_container_size_limit=1 << 20,
                page_checksum_verification=True,
            )
        except (pa.ArrowException, OSError) as error:
            raise _refuse(self.path, f"its footer is broken ({_short(error)})") from None

    def cells(self, column: str, start: int = 0) -> Iterator:
        file = self._open()
        group = int(np.searchsorted(self._starts, start, side="right")) - 1
        skip = start - int(self._starts[group])
        batches = file.iter_batches(self._batch, row_groups=list(range(group, file.num_row_groups)), columns=[column])
        try:
            for batch in batches:
                if skip >= len(batch):
                    skip -= len(batch)
                    continue
                yield from cells.of_arrow(batch.column(0)[skip:])
                skip = 0
        except (pa.ArrowException, OSError) as error:
            raise _refuse(self.path, f"column {column!r} is broken ({_short(error)})") from None


def _declared(meta) -> tuple[int, int]:
    """(bytes that the columns declare to unfold to, bytes of the largest column chunk) of Parquet metadata."""
    total, largest = 0, 0
    for i in range(meta.num_row_groups):
        group = meta.row_group(i)
        for j in range(group.num_columns):
            chunk = group.column(j)
            listed = meta.schema.column(j).max_repetition_level > 0
            held = max(chunk.total_uncompressed_size, chunk.num_values * (8 if listed else 1))
            total, largest = total + held, max(largest, held)
    return total, largest


class CsvShard:
    """A CSV or TSV file, compressed or not; every cell is bytes, so that one wrong cell spoils one row."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self.left_out: list[str] = []
        with streams.says_when_broken(path), streams.open_stream(path) as stream:
            head = stream.read(1 << 16)
            while b"\n" not in head and (more := stream.read(1 << 20)) and len(head) <= limits.LINE_BYTES:
                head += more
        line = head.partition(b"\n")[0]
        if len(line) > limits.LINE_BYTES:
            raise _refuse(path, f"its first line is longer than {limits.LINE_BYTES} bytes")
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in line:
            raise _refuse(path, "it is not UTF-8 text (UTF-16, or binary)", "Save it as CSV in UTF-8.")
        text = line.decode("utf-8-sig", errors="replace").rstrip("\r")
        self._delimiter = _delimiter(text, plain=streams.plain_name(path))
        _check_columns(path, text.count(self._delimiter) + 1)
        first = next(csv.reader([text], delimiter=self._delimiter), [])
        self.has_header = _is_header(first)
        self.columns = _distinct(first) if self.has_header else [f"c{i}" for i in range(len(first))]
        broken: list[Bad] = []
        good = sum(len(batch) for batch in self._batches(self.columns[:1], broken)) if first else 0
        self.rows = good + len(broken)

    def _batches(self, columns: list[str], broken: list[Bad]) -> Iterator[pa.RecordBatch]:
        """The rows with the right number of cells; the others are added to `broken`, and come last in the shard."""
        from pyarrow import csv as arrow

        def skip(row) -> str:
            broken.append(Bad(f"wrong number of cells: {row.actual_columns} instead of {row.expected_columns}"))
            return "skip"

        read = arrow.ReadOptions(
            use_threads=False, block_size=limits.LINE_BYTES, column_names=self.columns, skip_rows=int(self.has_header)
        )
        parse = arrow.ParseOptions(delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=skip)
        convert = arrow.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.binary()), include_columns=columns, strings_can_be_null=False
        )
        with streams.says_when_broken(self.path), streams.open_stream(self.path) as stream:
            try:
                with arrow.open_csv(stream, read, parse, convert) as reader:
                    yield from reader
            except pa.ArrowException as error:
                if "Empty CSV file" in str(error):
                    return
                raise _refuse(self.path, _short(error)) from None

    def _after(self, columns: list[str], start: int, convert) -> Iterator:
        broken: list[Bad] = []
        for batch in self._batches(columns, broken):
            if start < len(batch):
                yield from convert(batch.slice(start))
            start = max(0, start - len(batch))
        yield from broken[start:]

    def cells(self, column: str, start: int = 0) -> Iterator:
        return self._after([column], start, lambda batch: map(_text_cell, batch.column(0).to_pylist()))

    def stacked(self, columns: list[str], start: int = 0) -> Iterator:
        """Rows of several number columns as float32 arrays."""

        def stack(batch: pa.RecordBatch) -> np.ndarray:
            table = [cells.values(map(_text_cell, batch.column(c).to_pylist()), "number") for c in columns]
            return np.stack(table, 1).astype(np.float32)

        return self._after(columns, start, stack)


def _text_cell(cell: bytes) -> str | Bad:
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        return Bad("not UTF-8 text")


def _delimiter(line: str, plain: Path) -> str:
    if plain.suffix.lower() == ".tsv":
        return "\t"
    return max(",\t;|", key=lambda mark: line.count(mark))


def _is_header(first: list[str]) -> bool:
    """A header holds names: no numbers, unless they count up (0, 1, 2, ...)."""
    if [cell.strip() for cell in first] == [str(i) for i in range(len(first))] and len(first) > 1:
        return True
    return bool(first) and not any(_spells_number(cell) for cell in first) and all(len(cell) < 256 for cell in first)


def _spells_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _distinct(names: list[str]) -> list[str]:
    out: list[str] = []
    for i, name in enumerate(names):
        name = name.strip() or f"c{i}"
        out.append(name if name not in out else f"{name}.{i}")
    return out


class JsonlShard:
    """A file of one JSON object a line, compressed or not."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self.left_out: list[str] = []
        self.rows = sum(1 for _ in self._lines())
        keys: dict[str, None] = {}
        parsed = [_parse(line) for line in islice(self._lines(), 64)]
        objects = [row for row in parsed if isinstance(row, dict)]
        for row in objects:
            _check_columns(path, len(row))
            keys.update(dict.fromkeys(row))
        if self.rows and not objects:
            raise _refuse(
                path,
                f"its lines are no JSON objects ({parsed[0]})",
                'Write one object a line: {"text": "...", "label": 1}.',
            )
        _check_columns(path, len(keys))
        self.columns = list(keys)

    def _lines(self) -> Iterator[bytes | Bad]:
        with streams.says_when_broken(self.path), streams.open_stream(self.path) as stream:
            while line := stream.readline(limits.LINE_BYTES):
                if len(line) == limits.LINE_BYTES and not line.endswith(b"\n"):
                    while rest := stream.readline(limits.LINE_BYTES):
                        if rest.endswith(b"\n"):
                            break
                    yield Bad(f"too large: a line of more than {limits.LINE_BYTES} bytes")
                elif line.strip():
                    yield line

    def cells(self, column: str, start: int = 0) -> Iterator:
        for line in islice(self._lines(), start, None):
            row = _parse(line)
            yield row.get(column) if isinstance(row, dict) else row


def _parse(line: bytes | Bad) -> dict | Bad:
    if isinstance(line, Bad):
        return line
    if line.count(b"[") + line.count(b"{") > limits.JSON_DEPTH and _depth(line) > limits.JSON_DEPTH:
        return Bad(f"too deep: JSON nested more than {limits.JSON_DEPTH} times")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Bad(f"not JSON: {_short(error)}")
    return row if isinstance(row, dict) else Bad(f"not a JSON object: a {type(row).__name__}")


def _depth(line: bytes) -> int:
    """The deepest nesting; brackets inside strings are not counted."""
    marks = np.frombuffer(line, np.uint8)
    quotes = (marks == ord('"')) & (np.concatenate([[0], marks[:-1]]) != ord("\\"))
    outside = np.cumsum(quotes) % 2 == 0
    opens = np.isin(marks, list(b"[{")) & outside
    closes = np.isin(marks, list(b"]}")) & outside
    return int(np.cumsum(opens.astype(np.int64) - closes).max(initial=0))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
