"""True objects of pictures: a COCO file beside a folder, or a table with a column of boxes; cleaned, and every repair counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core import DataError, RequestError
from ..core.errors import nearest
from ..measures.detection import Objects
from . import coco
from .bad import Bad
from .opening import open_source
from .pictures import upright_size
from .source import Source
from .tables import Table

FORMS = ("xyxy", "xywh", "cxcywh")
"""left, top, right, bottom; left, top, width, height (COCO); centre and width, height (YOLO)."""
_BOXES = ("boxes", "bboxes", "bbox", "bounding_boxes", "objects", "annotations")
_CLASSES = ("labels", "label", "classes", "class", "categories", "category", "category_id", "names")
_SLACK = 1.0
"""Pixels by which a box may reach beyond its picture without being counted as clipped."""


@dataclass
class Raw:
    """The boxes of one row as they lie there: (n, 4), the class of each, and whether it is a crowd."""

    boxes: np.ndarray
    classes: list[Any]
    crowd: list[bool]


@dataclass
class Boxes:
    """`objects[i]`: the objects of row i of a source, in pixels of the upright picture; sizes (rows, 2): width and height, 0 where the
    picture cannot be read; `ids` and `pictures`: a COCO file's numbers of the classes and of the rows."""

    classes: tuple[str, ...]
    objects: list[Objects]
    sizes: np.ndarray
    ids: tuple[int, ...] = ()
    pictures: list[Any] | None = None
    notes: list[str] = field(default_factory=list)


def open_boxes(
    spec, *, column: str | None = None, named: str | None = None, form: str | None = None,
    classes: Sequence[str] | None = None, max_bad: float = 0.01,
) -> tuple[Source, str, Boxes]:  # fmt: skip
    """(source, column of the pictures, true objects of its rows) of a COCO folder or a table.

    `named`: the JSON file in the folder, or the table's column of boxes; `form`: one of FORMS (None: what the numbers allow, said aloud);
    `classes`: those of a model, so that another is an error.  Numbers that are all within 0-1 are shares of the picture's sides.
    Raises RequestError for what is not there, DataError where nothing can be used.
    """
    if form is not None and form not in FORMS:
        raise nearest(form, FORMS, "way to write a box (--boxes)")
    file = coco.find(spec, named)
    if file is not None:
        held = coco.read(file, Path(spec).expanduser(), max_bad)
        source: Source = held.source
        raws = [Raw(r.boxes, [held.names[i] for i in r.categories], r.crowd) for r in held.rows]
        form, picture = form or "xywh", "image"
        found = Boxes(held.classes, [], held.sizes, held.ids, held.pictures, held.notes)
    else:
        source = open_source(spec)
        picture = picture_column(source, column)
        raws, which = _of_table(source, named)
        names = {str(c) for raw in raws for c in raw.classes}
        found = Boxes(_ordered(names), [], np.zeros((0, 2), np.int64), notes=[f"boxes: column {which!r}."])
        found.sizes = sizes_of(source, picture)
    if classes is not None:
        found.classes = _known(found.classes, raws, tuple(classes))
    _clean(found, raws, form)
    return source, picture, found


def picture_column(source: Source, column: str | None = None) -> str:
    """The column of pictures: the one named, or the first; RequestError where there is none."""
    columns = source.of_kind("image")
    if column is not None:
        if source.need(column) != "image":
            raise RequestError(
                f"Column {column!r} holds no pictures.", f"Columns that do: {', '.join(columns) or 'none'}."
            )
        return column
    if not columns:
        raise RequestError(f"{source.name} holds no pictures.", "Give a folder or a table with pictures.")
    return columns[0]


def sizes_of(source: Source, column: str) -> np.ndarray:
    """(rows, 2) int64 width and height of every upright picture, from its header; 0 where it cannot be read."""
    out = np.zeros((source.rows, 2), np.int64)
    for row, payload in enumerate(source.payloads(column)):
        if isinstance(payload, Bad):
            continue
        try:
            out[row] = upright_size(payload)  # type: ignore[arg-type]
        except Bad:
            continue
    return out


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    listed = list(names)
    numeric = all(name.removeprefix("-").isdecimal() for name in listed)
    return tuple(sorted(listed, key=lambda n: (int(n) if numeric else 0, n)))


def _known(found: tuple[str, ...], raws: list[Raw], classes: tuple[str, ...]) -> tuple[str, ...]:
    used = {str(c) for raw in raws for c in raw.classes}
    strange = sorted(used - set(classes))
    if strange:
        raise DataError(
            f"The boxes are of class {strange[0]!r}, which is none of the {len(classes)} classes known ({', '.join(classes[:8])}).",
            "Give data with the same names of classes.",
        )
    return classes


def _of_table(source: Source, named: str | None) -> tuple[list[Raw], str]:
    """The boxes of every row, and the name of their column."""
    if not isinstance(source, Table):
        raise RequestError(
            f"{source.name} has pictures but no boxes.",
            "Give a folder with annotations.json (COCO) beside the pictures, or a table with a column of boxes.",
        )
    column = named or next((name for name in _BOXES if name in source.stored), None)
    if column is None:
        raise RequestError(
            f"No column of {source.name} looks like boxes.",
            f"Name it with --labels; columns: {', '.join(source.stored)}.",
        )
    cells = list(source.cells(column))
    if any(isinstance(c, dict) or (isinstance(c, list) and c and isinstance(c[0], dict)) for c in cells):
        return [_of_struct(cell, column) for cell in cells], column
    other = next((name for name in _CLASSES if name in source.stored and name != column), None)
    classes: Iterator = iter([None] * len(cells)) if other is None else source.cells(other)
    return [_of_cells(b, c, row, column) for row, (b, c) in enumerate(zip(cells, classes))], column


def _of_struct(cell, column: str) -> Raw:
    """{"bbox": [...], "category": [...]}, or a list of {"bbox", "category_id"}."""
    if isinstance(cell, list):
        keys = dict.fromkeys(k for item in cell if isinstance(item, dict) for k in item)
        cell = {k: [item.get(k) if isinstance(item, dict) else None for item in cell] for k in keys}
    if not isinstance(cell, dict):
        return Raw(np.zeros((0, 4)), [], [])
    boxes = next((cell[k] for k in _BOXES if k in cell), None)
    classes = next((cell[k] for k in _CLASSES if k in cell), None)
    return _of_cells(boxes, classes, -1, column, cell.get("iscrowd"))


def _of_cells(boxes, classes, row: int, column: str, crowd=None) -> Raw:
    rows = [] if boxes is None or isinstance(boxes, Bad) else list(boxes)
    array = np.full((len(rows), 4), np.nan)
    for i, box in enumerate(rows):
        values = np.asarray(box, dtype=object).reshape(-1)
        if len(values) == 4 and all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values):
            array[i] = values.astype(np.float64)
    names = ["object"] * len(rows) if classes is None else list(np.atleast_1d(np.asarray(classes, dtype=object)))
    names = [int(n) if isinstance(n, float | np.floating) and float(n).is_integer() else n for n in names]
    if len(names) != len(rows):
        raise DataError(
            f"Row {row} has {len(rows)} boxes in column {column!r} and {len(names)} classes.", "Give one class a box."
        )
    return Raw(array, names, [bool(c) for c in crowd] if crowd is not None else [False] * len(rows))


def _clean(found: Boxes, raws: list[Raw], form: str | None) -> None:
    """Fills `objects`: pixels, clipped to the picture; what is no box is set apart and counted."""
    code = {name: k for k, name in enumerate(found.classes)}
    whole = [r.boxes[np.isfinite(r.boxes).all(1)] for r in raws]
    flat = np.concatenate(whole) if whole else np.zeros((0, 4))
    sides = np.repeat(found.sizes, [len(w) for w in whole], axis=0)
    if not len(flat):
        raise DataError("There are no boxes to learn from.", "Check --labels.")
    shares = bool(flat.min() >= -0.01 and flat.max() <= 1.01)
    written = form or _guess(flat, np.ones_like(sides) if shares else sides)
    found.notes.append(
        f"boxes are read as {written}, in {'shares of the sides' if shares else 'pixels'}{'' if form else ' (--boxes says otherwise)'}."
    )
    count: Counter = Counter()
    for raw, (width, height) in zip(raws, found.sizes):
        scale = np.array([width, height] * 2) if shares else np.ones(4)
        boxes = _corners(raw.boxes * scale, written)
        good = np.isfinite(boxes).all(1)
        count["with numbers that are missing or not finite"] += int((~good).sum())
        solid = good & (boxes[:, 2:] > boxes[:, :2]).all(1)
        count["of no area"] += int((good & ~solid).sum())
        limit = np.array([width, height] * 2, np.float64)
        clipped = np.clip(np.nan_to_num(boxes), 0, limit)
        inside = solid & (clipped[:, 2:] > clipped[:, :2]).all(1)
        count["outside their picture"] += int((solid & ~inside).sum()) if width else 0
        moved = inside & (np.abs(clipped - np.nan_to_num(boxes)) > _SLACK).any(1)
        count["clipped"] += int(moved.sum())
        at = np.flatnonzero(inside)
        classes = [code[str(raw.classes[i])] for i in at]
        found.objects.append(Objects.of(clipped[at], classes, crowd=np.array(raw.crowd, bool)[at]))
    clipped_count = count.pop("clipped")
    apart = [f"{n} {why}" for why, n in count.items() if n]
    total = sum(len(r.boxes) for r in raws)
    if sum(count.values()) * 2 > total:
        raise DataError(f"Of {total} boxes, most cannot be used: {', '.join(apart)}.", "Check --boxes and --labels.")
    found.notes += [f"{clipped_count} boxes reached out of their picture and are clipped."] * bool(clipped_count)
    found.notes += [f"boxes set apart: {', '.join(apart)} (of {total})."] * bool(apart)


def _corners(boxes: np.ndarray, form: str) -> np.ndarray:
    if form == "xyxy":
        return boxes
    low = boxes[:, :2] if form == "xywh" else boxes[:, :2] - boxes[:, 2:] / 2
    return np.concatenate([low, low + boxes[:, 2:]], 1)


def _guess(boxes: np.ndarray, sides: np.ndarray) -> str:
    """The one form that (nearly) all boxes allow; of two, RequestError asks."""
    slack = 0.01 * sides.max(1, initial=1)[:, None] + 1e-6
    fits = {"xyxy": (boxes[:, 2:] > boxes[:, :2]).all(1), "xywh": (boxes[:, :2] + boxes[:, 2:] <= sides + slack).all(1)}
    share = {name: float(ok.mean()) for name, ok in fits.items()}
    good = [name for name, part in share.items() if part > 0.95]
    if len(good) == 1:
        return good[0]
    what = "either" if good else "neither"
    raise RequestError(
        f"The boxes may be {what} of xyxy ({share['xyxy']:.0%} fit) and xywh ({share['xywh']:.0%} fit).",
        "Say which: --boxes xyxy (left, top, right, bottom), --boxes xywh (left, top, width, height) or --boxes cxcywh.",
    )
