"""Cells of tables: from Arrow to Python and numpy without copies by value, and from a cell to a payload."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from .bad import Bad
from .paths import inside, read_file, read_text
from .sniff import WHOLE, missing, number, series_of_text, spelled_series
from .sounds import Recording
from .source import Payload, codes, spell

_RAW_PIXELS = 144
"""Binary cells of one fixed, square size from this many bytes on are raw grey pixels; shorter ones are hashes."""


def of_arrow(column: pa.Array) -> Iterator:
    """The cells of an Arrow array as Python values; lists of numbers as float32 arrays, ragged lists of lists as Bad."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if _is_list(kind) and _is_number(kind.value_type):
        return _flat_lists(column)
    if _is_list(kind) and _is_list(kind.value_type) and _is_number(kind.value_type.value_type):
        return _nested_lists(column)
    if pa.types.is_fixed_size_binary(kind) and math.isqrt(kind.byte_width) ** 2 == kind.byte_width >= _RAW_PIXELS:
        return (None if cell is None else _square(np.frombuffer(cell, np.uint8)) for cell in column.to_pylist())
    if pa.types.is_temporal(kind):
        width = 32 if pa.types.is_time32(kind) or pa.types.is_date32(kind) else 64
        column = column.cast(pa.int32() if width == 32 else pa.int64())
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    return iter(column.to_pylist())


def _square(pixels: np.ndarray) -> np.ndarray:
    side = math.isqrt(len(pixels))
    return pixels.reshape(side, side)


def grey_square(row: np.ndarray | Bad) -> np.ndarray | Bad:
    """(side, side) uint8 of a row of side * side numbers in 0-255; Bad where they are none."""
    if isinstance(row, Bad):
        return row
    if not ((row >= 0) & (row <= 255) & (row == np.floor(row))).all():
        return Bad("not pixels: whole numbers from 0 to 255 are read")
    return _square(row.astype(np.uint8))


def is_readable(kind: pa.DataType) -> bool:
    """Whether a column of this Arrow type can be one of source.KINDS."""
    if pa.types.is_dictionary(kind):
        return is_readable(kind.value_type)
    if _is_list(kind):
        inner = kind.value_type
        return _is_number(inner) or _is_words(inner) or (_is_list(inner) and _is_number(inner.value_type))
    if pa.types.is_struct(kind):
        return {kind.field(i).name for i in range(kind.num_fields)} <= {"bytes", "path"}
    return not (pa.types.is_null(kind) or pa.types.is_map(kind) or pa.types.is_union(kind))


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_words(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _float32(values: pa.Array) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float32)


def _bounds(column: pa.Array) -> tuple[list[int], list[bool]]:
    """Where each list begins in the flattened values (one more at the end), and which rows are null."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return [0, *np.cumsum(lengths).tolist()], column.is_null().to_pylist()


def _flat_lists(column: pa.Array) -> Iterator:
    bounds, nulls = _bounds(column)
    values = _float32(column.flatten())
    for row, null in enumerate(nulls):
        yield None if null else values[bounds[row] : bounds[row + 1]]


def _nested_lists(column: pa.Array) -> Iterator:
    bounds, nulls = _bounds(column)
    inner = column.flatten()
    ends, _ = _bounds(inner)
    values = _float32(inner.flatten())
    for row, null in enumerate(nulls):
        first, last = bounds[row], bounds[row + 1]
        if null or first == last:
            yield None
            continue
        lengths = {ends[i + 1] - ends[i] for i in range(first, last)}
        if len(lengths) > 1:
            yield Bad("series of unequal rows: the lists inside it differ in length")
        else:
            yield values[ends[first] : ends[last]].reshape(last - first, -1)


def payload(cell, kind: str, root: Path | None) -> Payload:
    """The payload of a cell in a column of `kind`; raises Bad.  Paths mean files under `root`."""
    if isinstance(cell, Bad):
        raise cell
    if cell is None or (isinstance(cell, str | bytes) and not cell):
        raise Bad("no value")
    if kind == "image":
        return _image(cell, root)
    if kind == "sound":
        return _sound(cell, root)
    if kind == "text":
        if isinstance(cell, bytes):
            cell = read_text(cell)
        if not isinstance(cell, str):
            raise Bad(f"not text: a {type(cell).__name__}")
        if "\x00" in cell:
            raise Bad("not text: it holds NUL bytes")
        if not cell.strip():
            raise Bad("empty text")
        return cell
    if kind == "series":
        return _series(cell)
    if kind == "binary":
        if isinstance(cell, dict):
            cell = cell.get("bytes") or _of_path(cell.get("path"), root)
        if not isinstance(cell, bytes):
            raise Bad(f"not bytes: a {type(cell).__name__}")
        return cell
    return str(cell)


def _image(cell, root: Path | None) -> bytes | np.ndarray:
    if isinstance(cell, dict):
        held = cell.get("bytes")
        return held if isinstance(held, bytes) and held else _of_path(cell.get("path"), root)
    if isinstance(cell, str):
        return _of_path(cell, root)
    if isinstance(cell, bytes) or (isinstance(cell, np.ndarray) and cell.dtype == np.uint8):
        return cell
    raise Bad(f"not an image: a {type(cell).__name__}")


def _sound(cell, root: Path | None) -> bytes | Recording:
    name = cell
    if isinstance(cell, dict):
        if isinstance(held := cell.get("bytes"), bytes) and held:
            return held
        name = cell.get("path")
    if isinstance(cell, bytes):
        return cell
    if not isinstance(name, str) or not name:
        raise Bad(f"not a sound: a {type(cell).__name__}")
    if root is None:
        raise Bad("a path, and no folder to look in")
    return Recording(inside(root, name))


def _of_path(name, root: Path | None) -> bytes:
    if not isinstance(name, str) or not name:
        raise Bad("no value")
    if root is None:
        raise Bad("a path, and no folder to look in")
    return read_file(inside(root, name))


def _series(cell) -> np.ndarray:
    if isinstance(cell, str):
        cell = series_of_text(cell)
    elif isinstance(cell, list):
        cell = spelled_series(cell)
    if not isinstance(cell, np.ndarray):
        raise Bad("not a series: lists of numbers of equal length are read")
    if not cell.size:
        raise Bad("no value")
    return cell


def values(cells: Iterable, kind: str) -> np.ndarray:
    """(rows,) of a small column: int64, float64 with NaN for what is missing or no number, or object (str or None)."""
    if kind in ("integer", "number"):
        numbers = [_number(cell) for cell in cells]
        out = np.array([np.nan if x is None else x for x in numbers], dtype=np.float64)
        whole = kind == "integer" and not np.isnan(out).any()
        return np.array([int(x) for x in numbers if x is not None], dtype=np.int64) if whole else out
    return codes(None if missing(cell) or isinstance(cell, Bad) else _word(cell) for cell in cells)


def _number(cell) -> int | float | None:
    if isinstance(cell, int | np.integer):
        return int(cell) if -(2**63) <= cell < 2**63 else None
    if isinstance(cell, float | np.floating):
        return float(cell)
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", errors="replace")
    if isinstance(cell, str):
        return int(cell) if WHOLE.fullmatch(cell.strip()) else number(cell)
    return None


def _word(cell) -> str:
    return cell.decode("utf-8", errors="replace") if isinstance(cell, bytes) else str(cell).strip()


def several(cell) -> tuple[str, ...] | str | None:
    """The labels of a cell: a list's words, or the text that holds them; None where there is no label.  Raises nothing."""
    if isinstance(cell, np.ndarray):
        cell = cell.ravel().tolist()
    if isinstance(cell, list | tuple | set | frozenset):
        listed = sorted(cell, key=str) if isinstance(cell, set | frozenset) else cell
        return tuple(word for word in (_label(v) for v in listed) if word)
    return _label(cell) or None


def _label(cell) -> str:
    if cell is None or isinstance(cell, Bad | list | dict) or cell != cell or missing(cell):
        return ""
    if isinstance(cell, int | float | np.integer | np.floating) and not isinstance(cell, bool):
        return spell(int(cell) if isinstance(cell, int | np.integer) else float(cell))
    return _word(cell)
