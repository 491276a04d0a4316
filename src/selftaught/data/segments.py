"""Labelled stretches of clips: start, end and label in seconds, from lists in a table, from a table beside the sounds, or Audacity's label files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..core import DataError, RequestError
from ..core.errors import nearest
from ..measures.frames import Segments
from .bad import Bad
from .dataset import Dataset
from .folders import Folder, type_of
from .paths import inside, read_text_file
from .tables import Table, open_table, usual_column

START = ("start", "begin", "onset", "start_time", "starts", "onsets")
END = ("end", "stop", "offset", "end_time", "ends", "offsets")
LABEL = ("label", "event", "event_label", "class", "labels", "events", "phone", "text")
FILE = ("file", "filename", "file_name", "path", "name", "audio", "clip", "recording")
BESIDE = ("segments", "events", "annotations", "labels")
"""Names of a table beside the sounds that holds a stretch a line."""
SLACK = 0.05
"""Seconds by which a stretch may reach out of its clip without being counted."""

Raw = tuple[Any, Any, Any]
"""Start, end and label as they were written."""


@dataclass
class Marked:
    """The stretches of each row of a dataset, by time, and the names of their labels."""

    segments: list[Segments]
    labels: tuple[str, ...]
    notes: list[str] = field(default_factory=list)


def open_segments(dataset: Dataset, seconds: np.ndarray, named: str | None = None, labels: Sequence[str] | None = None) -> Marked:  # fmt: skip
    """The stretches of the clips of `dataset`, which last `seconds` (len,).

    named: the table beside the sounds (a path, or a name in their folder); or of a table that holds the sounds, the column of labels, or one of structs
    {start, end, label}.  None looks for segments.csv (events, annotations, labels; .tsv, .jsonl, .parquet), then for NAME.txt beside the sounds.
    labels: those of a model, so that another is an error.  Stretches without length, not finite, or outside their clip are set apart and counted.
    Raises RequestError where there are none, DataError where most cannot be used.
    """
    raws, said = _found(dataset, named)
    names = sorted({str(label) for raw in raws for _, _, label in raw if label is not None and str(label) != ""})
    if labels is not None and (strange := [name for name in names if name not in labels]):
        raise DataError(
            f"The label {strange[0]!r} is none of the {len(labels)} labels known ({', '.join(labels[:8])}).",
            "Give data with the same labels.",
        )
    out = Marked([], tuple(labels) if labels is not None else tuple(names), [said])
    code = {name: k for k, name in enumerate(out.labels)}
    apart: Counter[str] = Counter()
    for raw, length in zip(raws, seconds.tolist(), strict=True):
        kept = []
        for start, end, label in raw:
            why, first, last = _judged(start, end, label, length)
            if why:
                apart[why] += 1
            else:
                kept.append((first, last, code[str(label)]))
        kept.sort()
        times = np.array([[a, b] for a, b, _ in kept]).reshape(-1, 2)
        out.segments.append(Segments(times, np.array([k for _, _, k in kept], np.int64)))
    total = sum(map(len, raws))
    if not total or 2 * sum(apart.values()) > total:
        why = ", ".join(f"{n} {what}" for what, n in apart.items()) or "none was found"
        raise DataError(f"Of {total} labelled stretches, most cannot be used: {why}.", "Times are in seconds from the clip's beginning.")  # fmt: skip
    if apart:
        out.notes.append(f"stretches set apart: {', '.join(f'{n} {what}' for what, n in apart.items())} (of {total}).")
    bare = sum(not len(s) for s in out.segments)
    out.notes += [f"{bare} of {len(out.segments)} clips have no stretch: in them nothing is labelled."] * bool(bare)
    return out


def _judged(start: Any, end: Any, label: Any, length: float) -> tuple[str, float, float]:
    """(why it cannot be used, or nothing; first and last second, clipped to the clip)."""
    try:
        first, last = float(start), float(end)
    except (TypeError, ValueError):
        return "without times", 0.0, 0.0
    if label is None or str(label) == "":
        return "without a label", 0.0, 0.0
    if not (math.isfinite(first) and math.isfinite(last)):
        return "with times that are not finite", 0.0, 0.0
    if last <= first:
        return "of no length", 0.0, 0.0
    if last <= 0 or first >= length or first < -SLACK:
        return "outside their clip", 0.0, 0.0
    return "", max(0.0, first), min(last, length)


def _found(dataset: Dataset, named: str | None) -> tuple[list[list[Raw]], str]:
    """The stretches of every row as they were written, and where they come from."""
    source = dataset.source
    if isinstance(source, Table) and not (named and type_of(named) in ("csv", "jsonl", "parquet")):
        return _of_lists(dataset, source, named)
    path = _table_beside(source, named)
    if path is not None:
        return _of_lines(dataset, path)
    if isinstance(source, Folder) and named is None:
        found = [_of_audacity(source, source.names[row]) for row in dataset.source_rows().tolist()]
        if any(part is not None for part in found):
            return [part or [] for part in found], "stretches: the .txt files beside the sounds."
    raise RequestError(
        f"{source.name} has sounds but no labelled stretches.",
        "Give a table with columns file, start, end, label beside the sounds (segments.csv, or --labels FILE), lists of start, end and label in the table that holds the sounds, or NAME.txt as Audacity writes it.",
    )


def _of_lists(dataset: Dataset, source: Table, named: str | None) -> tuple[list[list[Raw]], str]:
    stored = source.stored
    if named is not None and named not in stored:
        raise nearest(named, stored, f"column of {source.name}")
    start, end = usual_column(stored, START), usual_column(stored, END)
    label = named or (usual_column(stored, LABEL) if start else usual_column(stored, BESIDE))
    if label is None:
        raise RequestError(f"No column of {source.name} looks like labelled stretches.", f"Name it with --labels; columns: {', '.join(stored)}.")  # fmt: skip
    cells = list(source.cells(label))
    if any(isinstance(c, list) and c and isinstance(c[0], dict) for c in cells):
        keys = {k for c in cells if isinstance(c, list) for item in c if isinstance(item, dict) for k in item}
        a, b, k = (usual_column(sorted(keys), usual) for usual in (START, END, LABEL))
        rows = [
            [(i.get(a), i.get(b), i.get(k)) for i in c if isinstance(i, dict)] if isinstance(c, list) else []
            for c in cells
        ]
    elif start is None or end is None:
        raise RequestError(f"{source.name} has labels ({label!r}) but no columns of their start and end.", f"Columns: {', '.join(stored)}.")  # fmt: skip
    elif source.columns.get(start) in ("number", "integer"):
        raise RequestError(
            f"{source.name} has a line for every stretch, so that its rows are no clips.",
            "Call the table segments.csv (events.csv), and keep it beside the sounds, or name it: --labels FILE.",
        )
    else:
        rows = [
            _zipped(row, *three)
            for row, three in enumerate(zip(source.cells(start), source.cells(end), cells, strict=True))
        ]
    return [rows[row] for row in dataset.source_rows().tolist()], f"stretches: column {label!r} of {source.name}."


def _zipped(row: int, start, end, label) -> list[Raw]:
    three = [_listed(cell) for cell in (start, end, label)]
    if len({len(part) for part in three}) > 1:
        raise DataError(
            f"Row {row} has {len(three[0])} starts, {len(three[1])} ends and {len(three[2])} labels.", "Give as many of each."
        )  # fmt: skip
    return list(zip(*three))


def _listed(cell) -> list:
    if cell is None or isinstance(cell, Bad):
        return []
    return cell.tolist() if isinstance(cell, np.ndarray) else list(cell) if isinstance(cell, list | tuple) else [cell]


def _table_beside(source, named: str | None) -> Path | None:
    root = getattr(source, "root", None)
    if named is not None:
        path = Path(named).expanduser()
        if not path.is_file() and root is not None:
            path = root / named
        if not path.is_file() or type_of(path.name) not in ("csv", "jsonl", "parquet"):
            raise RequestError(f"--labels {named} names no table of stretches.", "Give a .csv, .tsv, .jsonl or .parquet file with columns file, start, end, label.")  # fmt: skip
        return path
    if root is None:
        return None
    found = [root / f"{stem}{suffix}" for stem in BESIDE for suffix in (".csv", ".tsv", ".jsonl", ".parquet")]
    return next((path for path in found if path.is_file()), None)


def _of_lines(dataset: Dataset, path: Path) -> tuple[list[list[Raw]], str]:
    table = open_table(path.parent, [path.name], path.name)
    columns = [usual_column(table.stored, usual) for usual in (FILE, START, END, LABEL)]
    missing = [what for what, name in zip(("file", "start", "end", "label"), columns) if name is None]
    if missing:
        raise RequestError(f"{path.name!r} has no column {missing[0]!r}.", f"Its columns: {', '.join(table.stored)}.")
    names = dataset.names()
    place: dict[str, int] = {}
    for way in (lambda n: n, lambda n: PurePosixPath(n).name, lambda n: PurePosixPath(n).stem):
        count = Counter(map(way, names))
        place |= {way(n): row for row, n in enumerate(names) if count[way(n)] == 1 and way(n) not in place}
    out: list[list[Raw]] = [[] for _ in names]
    lost = 0
    for file, *rest in zip(*(table.cells(str(name)) for name in columns), strict=True):
        row = next((place[key] for key in _keys(str(file)) if key in place), None)
        if row is None:
            lost += 1
        else:
            out[row].append((rest[0], rest[1], rest[2]))
    more = f"; {lost} of {table.rows} lines name no clip that is here" if lost else ""
    return out, f"stretches: {path.name}, {table.rows} lines{more}."


def _keys(file: str) -> Iterator[str]:
    """The ways in which a line may name its clip."""
    path = PurePosixPath(file.replace("\\", "/"))
    yield from (path.as_posix(), path.name, path.stem)


def _of_audacity(source: Folder, name: str) -> list[Raw] | None:
    """The lines "start TAB end TAB label" of NAME.txt beside a sound; None without such a file."""
    path = (source.root / name).with_suffix(".txt")
    if not path.is_file():
        return None
    try:
        text = read_text_file(inside(source.root, path.relative_to(source.root).as_posix()))
    except Bad:
        return None
    lines = [line.split("\t") for line in text.splitlines() if line.strip() and not line.startswith("\\")]
    return [(cells[0], cells[1], "\t".join(cells[2:]).strip()) for cells in lines if len(cells) > 2]
