"""True masks of pictures: a folder of pictures and one of same-named masks, or a table with a column of masks; surveyed before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from ..core import DataError, RequestError
from .bad import Bad
from .boxes import picture_column, sizes_of
from .folders import Folder, Listing, scan
from .opening import open_source
from .paths import read_text_file
from .pictures import read_mask
from .source import Source

PICTURES = ("images", "image", "JPEGImages", "pictures", "imgs")
MASKS = ("masks", "mask", "SegmentationClass", "labels", "annotations", "segmentation")
_COLUMNS = ("mask", "masks", "label", "labels", "segmentation", "segmentation_mask", "annotation")
_ENDINGS = ("", "_mask", "-mask", "_label", "_L")
VOID = 255
"""The value that is ignored where nothing else is said, but in masks of 0 and 255 alone."""
_VOID_NAMES = frozenset({"void", "ignore", "ignored", "unlabelled", "unlabeled", "unknown"})
MOST = 150
"""Classes at most where no names are given: with more values it is hardly a mask."""


@dataclass
class Masks:
    """Masks of a source's rows: mask row `rows[i]` of `source`, column `column`, belongs to picture row i (-1: none).

    `values[k]` is what pixels of class k hold; `ignored` are values that count neither way; sizes (rows, 2): width and height.
    """

    source: Source
    column: str
    rows: np.ndarray
    sizes: np.ndarray
    classes: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    ignored: tuple[int, ...] = (VOID,)
    notes: list[str] = field(default_factory=list)


def folders_of(spec) -> tuple[Path, Path] | None:
    """(pictures, masks) of a folder that holds a folder of each; None where it does not."""
    if not isinstance(spec, str | Path) or not Path(spec).expanduser().is_dir():
        return None
    root = Path(spec).expanduser().resolve()
    found = [next((root / n for n in names if (root / n).is_dir()), None) for names in (PICTURES, MASKS)]
    return (found[0], found[1]) if found[0] and found[1] else None


def open_masks(
    spec, *, column: str | None = None, named: str | None = None, ignore: Sequence[int] = (),
    like: tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]] | None = None, max_bad: float = 0.01,
) -> tuple[Source, str, Masks]:  # fmt: skip
    """(source, column of the pictures, masks of its rows); every mask is looked at once.

    `named`: the table's column of masks; `ignore`: values that count neither way (255 always does, but in masks of 0 and 255 alone); `like`:
    (classes, values, ignored) of a model or another set, so that another value is an error.  Names of classes come from classes.txt
    in the folder, one a line, the first for value 0.  Raises RequestError for what is not there; DataError for missing masks (beyond the share `max_bad`), masks
    of another size than their picture, and values that are no class.
    """
    pair = folders_of(spec)
    names: tuple[str, ...] = ()
    if pair is not None:
        source, masks = _of_folders(*pair, max_bad)
        names = _names(Path(spec).expanduser())
        picture = "image"
    else:
        source, picture, masks = _of_columns(spec, column, named)
        if isinstance(spec, str | Path) and Path(spec).expanduser().is_dir():
            names = _names(Path(spec).expanduser())
    masks.sizes = sizes_of(source, picture)
    seen = _survey(masks, source)
    if like is not None:
        masks.classes, masks.values, masks.ignored = like
    else:
        _classes(masks, seen, names, tuple(ignore))
    known = {*masks.values, *masks.ignored}
    for value, where in sorted(seen.items()):
        if value not in known:
            listed = ", ".join(map(str, masks.values[:12])) + (", ..." if len(masks.values) > 12 else "")
            raise DataError(
                f"The mask {where} holds the value {value}, which is no class (values of classes: {listed}; ignored: {', '.join(map(str, masks.ignored)) or 'none'}).",
                f"Correct the mask, name the class in classes.txt, or ignore the value with --ignore {value}.",
            )
    return source, picture, masks


def _of_folders(pictures: Path, masks: Path, max_bad: float) -> tuple[Source, Masks]:
    named = {_stem(n): n for n in scan(masks).files.get("image", [])}
    images = scan(pictures)
    source = Folder(images, "image")
    pairs = [next((named[s + e] for e in _ENDINGS if (s := _stem(n)) + e in named), None) for n in source.names]
    missing = [n for n, m in zip(source.names, pairs) if m is None]
    notes = [f"masks: {len(pairs) - len(missing)} of {len(pairs)} pictures have one in {masks.name!r}."]
    if not source.rows or len(missing) == len(pairs):
        raise DataError(
            f"No picture in {str(pictures)!r} has a mask of the same name in {str(masks)!r}.",
            "Name the mask of images/a.jpg masks/a.png.",
        )
    if len(missing) > max_bad * len(pairs):
        raise DataError(
            f"{len(missing)} of {len(pairs)} pictures have no mask in {str(masks)!r}: {', '.join(missing[:3])}.",
            "Add the masks, move these pictures away, or leave them out with --max-bad.",
        )
    held = Folder(Listing(masks, {"image": [m for m in pairs if m is not None]}), "image")
    row = {name: k for k, name in enumerate(held.names)}
    rows = np.array([-1 if m is None else row[m] for m in pairs], np.int64)
    return source, Masks(held, "image", rows, np.zeros((0, 2)), notes=notes)


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _of_columns(spec, column: str | None, named: str | None) -> tuple[Source, str, Masks]:
    source = open_source(spec)
    images = source.of_kind("image")
    mask = named or next((n for n in _COLUMNS if n in images), None)
    if mask is None or source.need(mask) != "image":
        raise RequestError(
            f"{source.name} has no column of masks."
            if mask is None
            else f"Column {mask!r} of {source.name} holds no masks.",
            f"Name it with --labels; columns with pictures: {', '.join(images) or 'none'}.  A folder needs images/ and masks/.",
        )
    picture = picture_column(source, column) if column else next((n for n in images if n != mask), None)
    if picture is None:
        raise RequestError(
            f"{source.name} holds masks in column {mask!r} and no pictures.", "Name the pictures' --column."
        )
    notes = [f"masks: column {mask!r} of {source.name}."]
    return source, picture, Masks(source, mask, np.arange(source.rows), np.zeros((0, 2)), notes=notes)


def _survey(masks: Masks, pictures: Source) -> dict[int, str]:
    """{value: the first mask that holds it}; DataError for a mask that cannot be read or is of another size than its picture."""
    seen: dict[int, str] = {}
    have = np.flatnonzero((masks.rows >= 0) & (masks.sizes[:, 0] > 0))
    for row, payload in zip(have.tolist(), masks.source.payloads(masks.column, masks.rows[have])):
        where = repr(masks.source.row_name(int(masks.rows[row])))
        try:
            if isinstance(payload, Bad):
                raise payload
            mask = read_mask(payload)  # type: ignore[arg-type]
        except Bad as bad:
            raise DataError(f"The mask {where} cannot be read: {bad.reason}.", "Write it again as a PNG of grey values or a palette.") from None  # fmt: skip
        if mask.shape[::-1] != tuple(masks.sizes[row]):
            (w, h), (high, wide) = masks.sizes[row].tolist(), mask.shape
            raise DataError(
                f"The mask {where} is {wide} x {high} pixels, its picture {pictures.row_name(row)!r} {w} x {h}.",
                "Give masks of the pictures' own size (resize them by nearest neighbour).",
            )
        for value in np.unique(mask).tolist():
            seen.setdefault(int(value), where)
    if not seen:
        raise DataError("There are no masks to learn from.", "Check --labels.")
    return seen


def _names(root: Path) -> tuple[str, ...]:
    """The lines of classes.txt; empty where there is none."""
    path = root / "classes.txt"
    if not path.is_file():
        return ()
    try:
        names = tuple(line.strip() for line in read_text_file(path.resolve()).splitlines() if line.strip())
    except Bad as bad:
        raise DataError(
            f"{str(path)!r} cannot be read: {bad.reason}.", "One name a line, the first for value 0."
        ) from None
    if len(set(names)) < len(names):
        raise DataError(f"{str(path)!r} names a class twice.", "Give each class a name of its own.")
    return names


def _classes(masks: Masks, seen: dict[int, str], names: tuple[str, ...], ignore: tuple[int, ...]) -> None:
    """Decides what is a class and what is ignored, and says it."""
    two = set(seen) == {0, VOID} and VOID not in ignore and not names
    ignored = set(ignore) | (set() if two else {VOID})
    if names:
        ignored |= {k for k, name in enumerate(names) if name.lower() in _VOID_NAMES}
        values = [k for k in range(len(names)) if k not in ignored]
        masks.classes = tuple(names[k] for k in values)
    else:
        values = sorted(set(seen) - ignored)
        masks.classes = tuple(map(str, values))
    if len(values) < 2 or len(values) > min(254, max(MOST, len(names))):
        raise DataError(
            f"The masks hold {len(values)} classes (values {', '.join(map(str, sorted(seen)[:6]))}{', ...' if len(seen) > 6 else ''}).",
            "Masks hold one whole number a pixel, its class: at least two of them, and no shades between.",
        )
    masks.values, masks.ignored = tuple(values), tuple(sorted(ignored))
    shown = ", ".join(masks.classes[:12]) + (", ..." if len(values) > 12 else "")
    masks.notes.append(f"{len(values)} classes: {shown}; ignored: {', '.join(map(str, masks.ignored)) or 'nothing'}.")
