"""What a column holds, seen in its first rows; and which column looks like a label or a group."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .bad import Bad
from .paths import inside
from .sounds import SOUND_SUFFIXES, sound_format
from .source import Source

SAMPLE = 256
"""Rows that are looked at."""

IMAGE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"]
)  # fmt: skip
_LABELS = (
    "label",
    "labels",
    "class",
    "classes",
    "target",
    "targets",
    "category",
    "y",
    "cls",
    "fine_label",
    "coarse_label",
)
_GROUPS = (
    "group", "groups", "patient", "patient_id", "subject", "subject_id", "speaker", "speaker_id", "user", "user_id", "document",
    "doc_id", "session", "session_id", "recording", "clip", "clip_id", "video", "video_id", "scene", "site", "source",
)  # fmt: skip
_NOT_LABELS = frozenset(
    {"split", "file", "filename", "file_name", "path", "name", "id", "idx", "index", "key", *_GROUPS}
)
WHOLE = re.compile(r"[+-]?\d{1,18}")
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})


def image_format(head: bytes) -> str | None:
    """The image format of a file's first 32 bytes, or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\x00", b"MM\x00*")):
        return "TIFF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and head[14:18] in {bytes([n, 0, 0, 0]) for n in (12, 40, 52, 56, 64, 108, 124)}:
        return "BMP"
    if re.match(rb"P[1-6][ \t\r\n#]", head):
        return "PPM"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    return None


def missing(cell) -> bool:
    """None, an empty string, or one of the usual words for nothing."""
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in _MISSING)


def number(text: str) -> float | None:
    """The number that a string spells, or None; the words for nothing are NaN."""
    if missing(text):
        return float("nan")
    try:
        return float(text) if len(text) <= 64 and "_" not in text else None
    except ValueError:
        return None


def kind_of(cells: Iterable, root: Path | None = None) -> str | None:
    """The kind of a column (one of source.KINDS) from its first cells; None where it is none of them.

    Strings are read as what they spell: numbers, JSON lists of numbers (series), files of pictures or sounds under `root`.
    """
    present = [c for c in cells if not isinstance(c, Bad) and c is not None and not (isinstance(c, str) and missing(c))]
    if not present:
        return None
    votes: dict[str, int] = {}
    for cell in present:
        kind = _kind_of_cell(cell, root)
        votes[kind] = votes.get(kind, 0) + 1
    kind = max(votes, key=lambda k: votes[k])
    if set(votes) == {"integer", "number"}:
        return "number"
    if kind == "string" or (kind in ("integer", "number") and len(votes) > 1 and votes.get("string")):
        return _text_or_category([str(c) for c in present])
    return None if kind == "other" else kind


def _kind_of_cell(cell, root: Path | None) -> str:
    if isinstance(cell, bool | np.bool_):
        return "category"
    if isinstance(cell, int | np.integer):
        return "integer"
    if isinstance(cell, float | np.floating):
        return "number"
    if isinstance(cell, bytes):
        return "image" if image_format(cell[:32]) else "sound" if sound_format(cell[:32]) else "binary"
    if isinstance(cell, dict):
        held = cell.get("bytes")
        if set(cell) <= {"bytes", "path"} and (isinstance(held, bytes) or isinstance(cell.get("path"), str)):
            return _kind_of_cell(held, root) if held else _kind_of_name(str(cell.get("path") or "")) or "binary"
        return "other"
    if isinstance(cell, np.ndarray):
        if cell.dtype == np.uint8 and cell.ndim in (2, 3):
            return "image"
        return "series" if cell.dtype.kind in "fiu" and cell.ndim in (1, 2) else "other"
    if isinstance(cell, list):
        if all(isinstance(word, str) for word in cell):
            return "labels"
        return "series" if spelled_series(cell) is not None else "other"
    return _kind_of_string(cell, root) if isinstance(cell, str) else "other"


def _kind_of_string(cell: str, root: Path | None) -> str:
    if WHOLE.fullmatch(cell.strip()):
        return "integer"
    if number(cell) is not None:
        return "number"
    if cell.lstrip()[:1] == "[" and series_of_text(cell) is not None:
        return "series"
    return "string" if root is None or len(cell) > 1024 or "\n" in cell else _kind_of_file(root, cell) or "string"


def _kind_of_name(name: str) -> str | None:
    """ "image" or "sound" by a file's suffix."""
    suffix = Path(name).suffix.lower()
    return "image" if suffix in IMAGE_SUFFIXES else "sound" if suffix in SOUND_SUFFIXES else None


def _kind_of_file(root: Path, name: str) -> str | None:
    kind = _kind_of_name(name)
    try:
        return kind if kind and inside(root, name).is_file() else None
    except (Bad, OSError):
        return None


def series_of_text(text: str) -> np.ndarray | None:
    """The series that a JSON list of numbers spells, or None."""
    if text[:8].count("[") > 2:
        return None
    try:
        return spelled_series(json.loads(text))
    except (ValueError, RecursionError):
        return None


def spelled_series(cell: list) -> np.ndarray | None:
    """(L,) or (rows, columns) float32 of a list (of lists) of numbers, None as NaN; None where it is not one."""
    if not cell:
        return None
    if all(isinstance(row, list) for row in cell):
        if len({len(row) for row in cell}) != 1 or not cell[0]:
            return None
        flat = [x for row in cell for x in row]
    else:
        flat = cell
    if not all(x is None or (isinstance(x, int | float) and not isinstance(x, bool)) for x in flat):
        return None
    try:
        with np.errstate(over="ignore"):
            values = np.array([np.nan if x is None else x for x in flat], dtype=np.float64).astype(np.float32)
    except OverflowError:
        return None
    return values.reshape(len(cell), -1) if flat is not cell else values


def _text_or_category(cells: Sequence[str]) -> str:
    """Categories repeat and are short; a column of words without spaces is one of names."""
    words = sum(len(c.split()) for c in cells) / len(cells)
    length = sum(map(len, cells)) / len(cells)
    repeated = len(set(cells)) <= len(cells) / 2
    return "category" if length <= 64 and words <= 4 and (repeated or (words <= 1.1 and len(cells) > 1)) else "text"


def guess_label(source: Source) -> tuple[str, str] | None:
    """(column, reason) of the column that most looks like a label, or None.  To be said aloud; pretraining never reads it."""
    names = {name.lower(): name for name in source.columns}
    for name in _LABELS:
        if name in names and source.columns[names[name]] in ("category", "integer", "number", "labels"):
            return names[name], f"the column is called {names[name]!r}"
    lists = source.of_kind("labels")
    if len(lists) == 1:
        return lists[0], f"{lists[0]!r} is the only column that holds lists of words"
    likely = [n for n in source.of_kind("category") if n.lower() not in _NOT_LABELS]
    found = []
    for name in likely:
        values = [v for v in source.values(name) if v is not None]
        distinct = len(set(values))
        if 2 <= distinct <= 100 and distinct * 5 <= len(values):
            found.append((name, distinct))
    if len(found) == 1:
        name, distinct = found[0]
        return name, f"{name!r} is the only column with few ({distinct}) repeated names"
    return None


def guess_group(source: Source, but: str | None = None) -> tuple[str, str] | None:
    """(column, reason) of the column that most looks like a group (patient, speaker, document), or None; `but`: a column that is none here."""
    names = {name.lower(): name for name in source.columns if name != but}
    for name in _GROUPS:
        if name in names and source.columns[names[name]] in ("category", "integer"):
            values = source.values(names[name])
            if 1 < len({v for v in values.tolist() if v is not None}) < len(values):
                return names[name], f"the column is called {names[name]!r}"
    return None
