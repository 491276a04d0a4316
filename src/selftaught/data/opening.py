"""open_source: from what a person types to a source."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..core import DataError, RequestError
from ..core.errors import nearest
from . import arrays, streams
from .archives import Tars
from .folders import Folder, Listing, scan, split_of, type_of
from .hub import open_hub
from .lines import Lines
from .sniff import image_format
from .sounds import sound_format
from .source import Source
from .tables import Table, open_table

_ACCEPTED = (
    "Accepted: a folder of images, sounds or texts; Parquet, CSV, TSV, JSONL or text (also .gz, .zst, .xz), one file or a folder of "
    "shards; WebDataset .tar; .npy, .npz; hf:NAME; digits."
)
_PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".ckpt", ".dill", ".pyc", ".p")
_PACKED = (".zip", ".7z", ".rar", ".tgz", ".tbz", ".txz", ".bz2")
_PREFERENCE = ("image", "sound", "tar", "parquet", "jsonl", "csv", "json", "array", "text")
_LARGE_TEXT = 1 << 18
"""Bytes a file from which a few text files are taken as lines rather than as one row each."""


def open_source(spec) -> Source:
    """The source of a folder, a file, `hf:NAME`, `digits`, or arrays in memory; what was taken is in its `notes`.

    Raises RequestError for what is no data of a kind that is read, DataError where the data are missing, empty or broken.
    """
    if isinstance(spec, np.ndarray | list | tuple | Mapping):
        source: Source = arrays.of_memory(spec)
    elif isinstance(spec, str | Path):
        source = _of_text(str(spec))
    else:
        raise RequestError(f"{type(spec).__name__} is no data.", _ACCEPTED)
    if not source.rows:
        raise DataError(f"{source.name} holds no rows.", "Give data with at least two rows.")
    if not source.columns:
        left = "; ".join(source.notes) or "nothing in it can be read"
        raise DataError(f"{source.name} has no column that can be used: {left}.", _ACCEPTED)
    return source


def _of_text(spec: str) -> Source:
    if spec.startswith("hf:"):
        return open_hub(spec)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", spec):
        raise RequestError(f"{spec!r} is an address; nothing is fetched from one.", "Download it and give the path.")
    if "\x00" in spec or not spec.strip():
        raise RequestError(f"{spec!r} is no path.", _ACCEPTED)
    path = Path(spec).expanduser()
    try:
        exists, folder = path.exists(), path.is_dir()
    except OSError as error:
        raise DataError(f"{spec!r} cannot be reached: {error.strerror}.", "Check the path and the disk.") from None
    if spec == "digits" and not exists:
        return arrays.digits()
    if not exists:
        raise _missing(spec, path)
    path = Path(os.path.realpath(path))
    return _of_folder(path) if folder else _of_file(path)


def _missing(spec: str, path: Path) -> DataError:
    beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    hint = nearest(path.name, beside, "file").remedy.split("Accepted")[0] if beside else ""
    return DataError(f"There is no {spec!r}.", f"{hint}Check the path. {_ACCEPTED}")


def _of_file(path: Path) -> Source:
    if not path.is_file():
        raise RequestError(f"{str(path)!r} is neither a file nor a folder.", _ACCEPTED)
    suffix = path.suffix.lower()
    if suffix in _PICKLED:
        raise RequestError(
            f"{path.name!r} may hold pickled objects, which are never read because they may run code.",
            "Save the data as Parquet, .npy or .npz.",
        )
    if suffix in _PACKED or ".tar." in path.name.lower():
        raise RequestError(
            f"{path.name!r} is a packed archive.", "Unpack it and give the folder; plain .tar is read as it is."
        )
    kind = type_of(path.name) or _type_by_content(path)
    if path.stat().st_size == 0:
        raise DataError(f"{str(path)!r} is empty.", "Check that it was written to the end.")
    if kind in ("image", "sound"):
        return Folder(Listing(path.parent, {kind: [path.name]}), kind)
    return _open_files(path.parent, [path.name], kind, path.name)


def _type_by_content(path: Path) -> str:
    with streams.says_when_broken(path), path.open("rb") as file:
        head = file.read(512)
    if head[:4] == b"PAR1":
        return "parquet"
    if head.startswith(b"\x93NUMPY"):
        return "array"
    if head[257:262] == b"ustar":
        return "tar"
    if image_format(head):
        return "image"
    if sound_format(head):
        return "sound"
    if streams.compression(head) or b"\x00" not in head:
        return "text"
    raise RequestError(f"{path.name!r} is of no kind that is known.", _ACCEPTED)


def _open_files(root: Path, names: list[str], kind: str, title: str) -> Source:
    for name in names:
        with streams.says_when_broken(root / name), (root / name).open("rb") as file:
            file.read(1)
    if kind == "tar":
        return Tars(root, names, title)
    if kind == "text":
        return Lines(root, names, title)
    if kind == "array":
        if len(names) > 1:
            raise RequestError(f"{title} holds {len(names)} array files.", f"Give one of them: {', '.join(names[:5])}.")
        path = root / names[0]
        with path.open("rb") as file:
            return arrays.open_npz(path) if file.read(2) == b"PK" else arrays.open_npy(path)
    return open_table(root, names, title)


def _of_folder(root: Path) -> Source:
    listing = scan(root)
    count = listing.count()
    kinds = [kind for kind in _PREFERENCE if count[kind]]
    if not kinds:
        held = f"{count['other']} files of kinds that are not read" if count["other"] else "no files"
        raise DataError(f"The folder {str(root)!r} holds {held}.", _ACCEPTED)
    table = _described(root, listing) if count["image"] or count["sound"] else None
    if table is not None:
        return table
    if len(kinds) > 1:
        kinds = [kind for kind in kinds if kind != "json"]  # facts about the data, beside them
    if count["text"] <= 10 * sum(count[k] for k in kinds if k != "text") and len(kinds) > 1:
        kinds = [kind for kind in kinds if kind != "text"]  # a README or captions beside the data
    kind = max(kinds, key=lambda k: count[k])
    names = listing.files[kind]
    if kind in ("image", "sound") or (kind == "text" and not _as_lines(root, names)):
        source: Source = Folder(listing, kind)
    else:
        source = _open_files(root, names, kind, root.name or str(root))
        refused = [name for name in listing.refused if type_of(name) == kind]
        source.notes += [f"{name!r} left out: {listing.refused[name]}" for name in refused]
    others = {k: n for k, n in count.items() if k != kind}
    if others:
        source.notes.append("left out: " + ", ".join(f"{n} {k} files" for k, n in sorted(others.items())))
    return source


def _described(root: Path, listing: Listing) -> Table | None:
    """Images or sounds with a table beside them that names them (metadata.csv, metadata.jsonl, labels.csv)."""
    for kind in ("csv", "jsonl", "parquet"):
        for name in listing.files.get(kind, []):
            if Path(name).stem.lower() in ("metadata", "labels", "annotations"):
                table = open_table((root / name).parent, [Path(name).name], root.name)
                if table.of_kind("image", "sound"):
                    table.notes.append(f"the files are those that {name!r} names")
                    return table
    return None


def _as_lines(root: Path, names: list[str]) -> bool:
    """Whether a folder of texts holds a few large ones (a corpus in parts or splits) rather than a document a file."""
    if any(len(Path(name).parts) > 1 for name in names):
        return False
    large = sum((root / name).stat().st_size for name in names) > _LARGE_TEXT * len(names)
    return (len(names) <= 16 and large) or (len(names) <= 4 and all(split_of(name) for name in names))
