"""COCO's JSON beside a folder of pictures: read with bounds, checked against the disk, every annotation that cannot be used counted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core import DataError, RequestError
from . import limits
from .bad import Bad
from .folders import Folder, Listing
from .paths import inside, read_file
from .pictures import upright_size

_NAMES = ("annotations.json", "_annotations.coco.json", "coco.json")


@dataclass
class Row:
    """The annotations of one picture: (n, 4) left, top, width, height in pixels; category numbers; crowds."""

    boxes: np.ndarray
    categories: list[int]
    crowd: list[bool]


@dataclass
class Coco:
    """The pictures as a source, and its rows' annotations; `names` {category number: class}."""

    source: Folder
    rows: list[Row]
    names: dict[int, str]
    sizes: np.ndarray
    pictures: list[Any]
    notes: list[str] = field(default_factory=list)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(sorted(self.names))

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.names[i] for i in self.ids)


def find(spec, named: str | None = None) -> Path | None:
    """The annotation file of a folder: `named`, annotations.json, _annotations.coco.json, or the one instances*.json; None where there is none."""
    if not isinstance(spec, str | Path) or not Path(spec).expanduser().is_dir():
        return None
    root = Path(spec).expanduser()
    if named is not None:
        if not named.lower().endswith(".json"):
            return None
        for path in (root / named, root / "annotations" / named):
            if path.is_file():
                return path
        raise RequestError(f"There is no {named!r} in {str(root)!r}.", "Give --labels the name of the COCO file there.")
    for folder in (root, root / "annotations"):
        for name in _NAMES:
            if (folder / name).is_file():
                return folder / name
    found = sorted(p for folder in (root, root / "annotations") for p in folder.glob("instances*.json"))
    if len(found) > 1:
        listed = ", ".join(p.name for p in found[:6])
        raise RequestError(f"{str(root)!r} holds several COCO files: {listed}.", "Choose one with --labels NAME.json.")
    return found[0] if found else None


def read(file: Path, root: Path, max_bad: float = 0.01) -> Coco:
    """The pictures that `file` lists and their annotations.  Raises DataError for a file that is none, and where more than the share
    `max_bad` of its pictures is not on the disk."""
    held = _parsed(file)
    images, names = _images(held["images"], file), _categories(held["categories"], file)
    root = root.resolve()
    folder = _folder_of(file.resolve(), root, [name for name, _ in images.values()])
    there = {i: name for i, (name, _) in images.items() if _is_there(folder, name)}
    missing = [name for i, (name, _) in images.items() if i not in there]
    notes = [f"boxes: {file.name!r}, {len(images)} pictures, {len(names)} classes."]
    if missing:
        said = f"{len(missing)} of the {len(images)} pictures that {file.name!r} names are not in {str(folder)!r}: {', '.join(missing[:3])}"
        if len(missing) > max_bad * len(images):
            raise DataError(f"{said}.", "Put them there, or take them out of the file (or allow it with --max-bad).")
        notes.append(f"{said}; left out.")
    source = Folder(Listing(folder, {"image": list(there.values())}), "image")
    row = {name: k for k, name in enumerate(source.names)}
    place = {i: row[name] for i, name in there.items()}
    pictures: list[Any] = [None] * source.rows
    declared = np.zeros((source.rows, 2), np.int64)
    for i, at in place.items():
        pictures[at], declared[at] = i, images[i][1]
    rows = [Row(np.zeros((0, 4)), [], []) for _ in range(source.rows)]
    notes += _annotations(held["annotations"], rows, place, set(images), names)
    return Coco(source, rows, names, _sizes(source, declared, file), pictures, notes)


def _parsed(file: Path) -> dict[str, list]:
    try:
        held = json.loads(read_file(file.resolve(), limits.ANNOTATION_BYTES))
    except Bad as bad:
        raise DataError(f"{str(file)!r} cannot be read: {bad.reason}.") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{str(file)!r} is not JSON: {str(error)[:200]}.", "Write it again.") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(held, dict) or not isinstance(held.get(key), list):
            raise DataError(
                f"{file.name!r} has no list {key!r}.",
                'COCO files hold {"images": [...], "annotations": [...], "categories": [...]}.',
            )
    return held


def _images(listed: list, file: Path) -> dict[Any, tuple[str, tuple[int, int]]]:
    """{id: (file name, (width, height) or zeros)}"""
    out: dict[Any, tuple[str, tuple[int, int]]] = {}
    seen: set[str] = set()
    for item in listed:
        name, number = (item.get("file_name"), item.get("id")) if isinstance(item, dict) else (None, None)
        if not isinstance(name, str) or not name or not isinstance(number, int | str):
            raise DataError(f"{file.name!r} lists a picture without id or file_name: {str(item)[:80]}.")
        if number in out or name in seen:
            raise DataError(
                f"{file.name!r} lists the picture {name!r} (id {number}) twice.", "Make ids and names unique."
            )
        seen.add(name)
        sides = [item.get(k) for k in ("width", "height")]
        whole = all(isinstance(s, int) and 0 < s < 1 << 31 for s in sides)
        out[number] = name, (sides[0], sides[1]) if whole else (0, 0)
    if not out:
        raise DataError(f"{file.name!r} lists no pictures.")
    return out


def _categories(listed: list, file: Path) -> dict[int, str]:
    out: dict[int, str] = {}
    for item in listed:
        number, name = (item.get("id"), item.get("name")) if isinstance(item, dict) else (None, None)
        if not isinstance(number, int) or isinstance(number, bool) or not isinstance(name, str) or number in out:
            raise DataError(f"{file.name!r} lists a category without a number and name of its own: {str(item)[:80]}.")
        out[number] = name
    if not out:
        raise DataError(f"{file.name!r} lists no categories.", 'They look like {"id": 1, "name": "cat"}.')
    if len(set(out.values())) < len(out):
        raise DataError(f"{file.name!r} gives two categories the same name.", "Make their names unique.")
    return out


def _folder_of(file: Path, root: Path, names: list[str]) -> Path:
    """Where the pictures lie: beside the file, in images/, or in the folder that the file's name speaks of."""
    split = file.stem.partition("_")[2]
    bases = [file.parent] if file.parent == root else [file.parent, root]
    candidates = [b / inner for b in bases for inner in ("", "images", split) if inner or b]
    candidates = [c for c in dict.fromkeys(candidates) if c.is_dir()]
    return max(candidates, key=lambda c: sum(_is_there(c, name) for name in names[:100]))


def _is_there(folder: Path, name: str) -> bool:
    try:
        return inside(folder, name).is_file()
    except (Bad, OSError):
        return False


def _annotations(listed: list, rows: list[Row], place: dict, images: set, names: dict[int, str]) -> list[str]:
    """Adds each annotation to its row; returns what is to be said."""
    count: Counter = Counter()
    found: dict[int, list] = {}
    for item in listed:
        held = item if isinstance(item, dict) else {}
        number, category, box = held.get("image_id"), held.get("category_id"), held.get("bbox")
        if not isinstance(number, int | str) or number not in images:
            count["of a picture that is not listed"] += 1
        elif not isinstance(category, int) or category not in names:
            count["of a category that is not listed"] += 1
        elif not isinstance(box, list) or len(box) != 4 or not all(_is_number(x) for x in box):
            count["without four numbers as bbox"] += 1
        elif number in place:
            found.setdefault(place[number], []).append((box, category, bool(held.get("iscrowd"))))
    for at, some in found.items():
        boxes, categories, crowd = zip(*some)
        rows[at] = Row(np.array(boxes, np.float64), list(categories), list(crowd))
    apart = sum(count.values())
    said = ", ".join(f"{n} {why}" for why, n in count.items())
    if apart * 2 > len(listed):
        raise DataError(f"Of {len(listed)} annotations, most cannot be used: {said}.", "Check the COCO file.")
    crowds = sum(map(sum, (r.crowd for r in rows)))
    notes = [f"annotations set apart: {said} (of {len(listed)})."] * bool(apart)
    return notes + [f"{crowds} crowds are not learned, and what is found in them counts neither way."] * bool(crowds)


def _is_number(value) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > 1e300
    )  # NaN passes: it is counted where boxes are cleaned


def _sizes(source: Folder, declared: np.ndarray, file: Path) -> np.ndarray:
    """(rows, 2) of the upright pictures; DataError where the file says another size, since its boxes are then of another picture."""
    out = np.zeros_like(declared)
    for row, payload in enumerate(source.payloads("image")):
        try:
            if isinstance(payload, Bad):
                continue
            out[row] = upright_size(payload)  # type: ignore[arg-type]
        except Bad:
            continue
        if declared[row].any() and tuple(declared[row]) != tuple(out[row]):
            (width, height), (w, h) = declared[row].tolist(), out[row].tolist()
            raise DataError(
                f"{source.names[row]!r} is {w} x {h} pixels upright; {file.name!r} says {width} x {height}.",
                "Give the pictures that were annotated (and write turned photographs upright).",
            )
    return out
