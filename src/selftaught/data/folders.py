"""Folders: what lies in them, and a folder of images or texts as a source with labels from its sub-folders."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from ..core import DataError
from . import fingerprint, limits
from .bad import Bad
from .paths import inside, read_file, read_text_file
from .sniff import IMAGE_SUFFIXES, image_format
from .sounds import SOUND_SUFFIXES, Recording, sound_format
from .source import Payload, Source, codes, listed
from .streams import plain_name

_TYPES = {
    "text": {".txt", ".text"},
    "parquet": {".parquet", ".pq"},
    "csv": {".csv", ".tsv"},
    "jsonl": {".jsonl", ".ndjson"},
    "json": {".json"},
    "tar": {".tar"},
    "array": {".npy", ".npz"},
    "image": IMAGE_SUFFIXES,
    "sound": SOUND_SUFFIXES,
}
_SPLIT = re.compile(
    r"(?:^|[-_.])(train(?:ing)?|valid(?:ation)?|val|dev|test(?:ing)?|eval|unsup(?:ervised)?|unlabell?ed|extra)(?=$|[-_.0-9])"
)
_SPLIT_NAMES = {"training": "train", "valid": "validation", "val": "validation", "dev": "validation", "testing": "test"}


def type_of(name: str) -> str | None:
    """ "image", "sound", "text", "parquet", "csv", "jsonl", "json", "tar", "array" from a file's name, compressed or not; or None."""
    suffix = plain_name(Path(name)).suffix.lower()
    return next((kind for kind, suffixes in _TYPES.items() if suffix in suffixes), None)


def split_of(name: str) -> str | None:
    """The split that a file or folder name speaks of ("train", "validation", "test", ...), or None."""
    found = _SPLIT.search(name.lower())
    return _SPLIT_NAMES.get(found[1], found[1]) if found else None


@dataclass
class Listing:
    """The files of a folder by type, as names inside it, sorted; and what may not be read."""

    root: Path
    files: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """{name: reason}: links that leave the folder, devices, folders that cannot be listed."""

    def count(self) -> Counter:
        return Counter({kind: len(names) for kind, names in self.files.items()})


def scan(root: Path) -> Listing:
    """Lists a folder with its sub-folders; links are followed inside it only.  Hidden files are left out.

    Raises DataError where the folder cannot be listed or is endless.
    """
    listing, found, seen = Listing(root), 0, set()
    pending = [(root, 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            status = folder.stat()
        except OSError as error:
            listing.refused[_relative(root, folder)] = f"unreadable: {error.strerror}"
            continue
        if (status.st_dev, status.st_ino) in seen or depth > limits.FOLDER_DEPTH:
            listing.refused[_relative(root, folder)] = "a loop of folders"
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in _entries(folder, listing):
            found += 1
            if found > limits.MEMBERS:
                raise DataError(
                    f"{str(root)!r} holds more than {limits.MEMBERS} files.", "Pack them into Parquet or tar."
                )
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            try:
                if _take(entry, listing):
                    pending.append((folder / entry.name, depth + 1))
            except Bad as bad:
                listing.refused[_relative(root, folder / entry.name)] = bad.reason
            except OSError as error:
                listing.refused[_relative(root, folder / entry.name)] = f"unreadable: {error.strerror}"
    for names in listing.files.values():
        names.sort()
    return listing


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _entries(folder: Path, listing: Listing) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if folder == listing.root:
            raise DataError(
                f"The folder {str(folder)!r} cannot be read: {error.strerror}.",
                "Check the path, its permissions and the disk.",
            ) from None
        listing.refused[_relative(listing.root, folder)] = f"unreadable: {error.strerror}"
        return []


def _take(entry: os.DirEntry, listing: Listing) -> bool:
    """Files `entry` under its type; True where it is a folder to go into.  Raises Bad for what is refused."""
    path = Path(entry.path)
    if entry.is_symlink():
        real = inside(listing.root, _relative(listing.root, path))
        if not real.exists():
            raise Bad("unreadable: a link to nothing")
        if real.is_dir():
            raise Bad("a link to a folder")
        path = real
    elif entry.is_dir(follow_symlinks=False):
        return True
    kind = type_of(entry.name)
    if not stat.S_ISREG(path.stat().st_mode):
        if kind:
            raise Bad("not a regular file")
        return False
    if kind is None:
        kind = "image" if image_format(head := _head(path)) else "sound" if sound_format(head) else None
    listing.files.setdefault(kind or "other", []).append(_relative(listing.root, Path(entry.path)))
    return False


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(32)
    except OSError:
        return b""


class Folder(Source):
    """One row a file: images, sounds, or texts.  The columns "label" and "split" come from the names of the sub-folders."""

    random_access = True

    def __init__(self, listing: Listing, kind: str):
        super().__init__(listing.root.name or str(listing.root))
        self.root, self.kind = listing.root, kind
        refused = {name: why for name, why in listing.refused.items() if type_of(name) in (kind, None)}
        self.names = sorted([*listing.files.get(kind, []), *refused])
        self._refused = refused
        self.rows = len(self.names)
        self.columns = {kind: kind}
        self._values: dict[str, np.ndarray] = {}
        labels, splits, notes = labels_of_paths(self.names)
        for name, found in (("label", labels), ("split", splits)):
            if found is not None:
                self._values[name] = found
                self.columns[name] = "category"
        self.notes = notes

    def payloads(self, column: str, index: Iterable[int] | None = None) -> Iterator[Payload | Bad]:
        kind = self.need(column)
        for row in listed(index, self.rows).tolist():
            if kind == "category":
                yield self._values[column][row] or Bad("no value")
                continue
            try:
                yield self._read(self.names[row])
            except Bad as bad:
                yield bad

    def _read(self, name: str) -> bytes | str | Recording:
        if name in self._refused:
            raise Bad(self._refused[name])
        path = self.root / name
        if path.is_symlink():
            path = inside(self.root, name)
        if self.kind == "sound":
            return Recording(path)
        return read_file(path) if self.kind == "image" else read_text_file(path)

    def values(self, column: str) -> np.ndarray:
        kind = self.need(column)
        if kind in ("image", "sound"):
            raise ValueError(f"{column!r} holds payloads, not values")
        return (
            self._values[column]
            if kind == "category"
            else codes(p if isinstance(p, str) else None for p in self.payloads(column))
        )

    def row_name(self, row: int) -> str:
        return self.names[row]

    def fingerprint(self) -> str:
        return fingerprint.of_parts("folder", self.kind, fingerprint.of_files(self.root, self.names))


def labels_of_paths(names: Sequence[str]) -> tuple[np.ndarray | None, np.ndarray | None, list[str]]:
    """(labels, splits, notes) from the folders in which files lie: split/class/file, class/file, .../class/file."""
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    notes: list[str] = []
    tops = {f[0] for f in folders if f}
    splits = None
    if tops and all(split_of(top) and _SPLIT.fullmatch(top.lower()) for top in tops):
        splits = codes(split_of(f[0]) if f else None for f in folders)
        folders = [f[1:] for f in folders]
        counted = ", ".join(f"{k} {v}" for k, v in sorted(Counter(s for s in splits if s).items()))
        notes.append(f'column "split" from the top folders ({counted}); all of them are rows')
        if len(tops) == 1:
            splits = None
            notes.pop()
    labels = codes(f[-1] if f else None for f in folders)
    classes = {label for label in labels if label is not None}
    if len(classes) < 2:
        return None, splits, notes
    shown = ", ".join(sorted(classes)[:5]) + (", ..." if len(classes) > 5 else "")
    notes.insert(0, f'column "label" from the folder that holds each file: {len(classes)} classes ({shown})')
    bare = sum(label is None for label in labels)
    if bare:
        notes.append(f"{bare} files lie in no class folder and have no label")
    return labels, splits, notes
