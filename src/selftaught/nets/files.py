"""Files of a model folder: read as if nobody vouched for them (regular, no links, bounded), written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ..core import ModelError

JSON_LIMIT = 16 << 20
"""Bytes of the largest JSON file that is read (a tokenizer's included)."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz", ".h5", ".msgpack")
"""Endings of files that can hold pickles or that only unsafe readers open: never read, and said where they stand alone."""
_DEPTH = 32


def open_regular(folder: Path, name: str, *, limit: int, root: Path | None = None) -> int:
    """A read-only descriptor of the regular file `folder/name`; ModelError where it is absent, a link, or over `limit` bytes.

    `root`: links are followed as long as they end inside that folder (a hub cache links its snapshots to its blobs).
    The descriptor, not the name, is what is read from then on, so that nothing can be swapped in between.
    """
    where = PurePosixPath(name)
    if where.is_absolute() or ".." in where.parts or "\\" in name or "\0" in name or not where.parts:
        raise ModelError(f"The file name {name!r} leads out of the model folder.", "Refused: names must lie inside it.")
    path = folder
    for part in where.parts:
        path = path / part
        if root is None and path.is_symlink():
            raise ModelError(
                f"{str(path)!r} is a symbolic link.", "Refused: copy the file itself into the model folder."
            )
    if root is not None:
        path = path.resolve()
        if not path.is_relative_to(root.resolve()):
            raise ModelError(f"{name!r} links out of {str(root)!r}.", "Refused: copy the file into the model folder.")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise ModelError(f"There is no file {str(path)!r}.", "Give a folder that holds a saved encoder.") from None
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error.strerror}.") from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise ModelError(f"{str(path)!r} is no regular file.", "Refused: folders, pipes and devices are not read.")
    if facts.st_size > limit:
        os.close(descriptor)
        raise ModelError(f"{str(path)!r} has {facts.st_size:,} bytes; {limit:,} are the most that is read here.")
    return descriptor


def read_bytes(folder: Path, name: str, *, limit: int = JSON_LIMIT, root: Path | None = None) -> bytes:
    """The content of a regular file of the folder (see open_regular)."""
    with os.fdopen(open_regular(folder, name, limit=limit, root=root), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ModelError(f"{name!r} grew past {limit:,} bytes while it was read.")
    return data


def read_json(folder: Path, name: str, *, limit: int = JSON_LIMIT, root: Path | None = None) -> dict:
    """A JSON object of the folder: UTF-8, no key twice, finite numbers, at most 32 levels deep; else ModelError."""
    return parse_json(read_bytes(folder, name, limit=limit, root=root), name)


def parse_json(data: bytes, name: str) -> dict:
    """The JSON object in `data` (see read_json); `name` is for the error."""

    def once(pairs: list[tuple[str, object]]) -> dict:
        out = dict(pairs)
        if len(out) != len(pairs):
            raise ValueError("a key stands twice")
        return out

    def finite(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"{text[:20]} is not a finite number")
        return value

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=finite, parse_float=finite)
        _check_depth(value)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        said = "it is nested too deep" if isinstance(error, RecursionError) else str(error)[:120]
        raise ModelError(f"{name!r} is not the JSON that it should be: {said}.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{name!r} holds a {type(value).__name__}, not a JSON object.")
    return value


def _check_depth(value: object, depth: int = 0) -> None:
    if depth > _DEPTH:
        raise ValueError(f"it is nested more than {_DEPTH} levels deep")
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(child, dict | list):
            _check_depth(child, depth + 1)


def pickles(folder: Path) -> list[str]:
    """Names of the files of `folder` that hold pickles by their ending."""
    try:
        names = os.listdir(folder)
    except NotADirectoryError:
        raise ModelError(
            f"{str(folder)!r} is a file, not a model folder.", "Give the folder, not a file in it."
        ) from None
    except FileNotFoundError:
        raise ModelError(
            f"There is no folder {str(folder)!r}.", "Give the folder of a run or of a saved encoder."
        ) from None
    except OSError as error:
        raise ModelError(f"{str(folder)!r} cannot be read: {error.strerror}.") from None
    return sorted(n for n in names if n.lower().endswith(PICKLES))


def unsafe(path: str) -> tuple[str, str]:
    """Message and remedy for a file that holds pickles: the line that its owner may run where he trusts it."""
    stem = path.rpartition(".")[0]
    line = (
        "import sys, torch; from safetensors.torch import save_file; d = torch.load(sys.argv[1], 'cpu', weights_only=True); "
        "d = next((d[k] for k in ('state_dict', 'model') if k in d), d); "
        "save_file({k: v.contiguous().clone() for k, v in d.items()}, sys.argv[2])"
    )
    return (
        f"{path!r} is a pickle: such a file can run code when it is read, and is not read here.",
        f'If you trust it, convert it once: python -c "{line}" {path} {stem}.safetensors',
    )


def memory_left() -> int | None:
    """Bytes that this process may still take: of the machine, of its container and of its own limit; None where unknown."""
    found: list[int] = []
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) << 10)
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdigit():
        found.append(int(limit[0]) - int(used[0]))
    if os.name == "posix":
        import resource

        own, pages = resource.getrlimit(resource.RLIMIT_AS)[0], _lines("/proc/self/statm")
        if own != resource.RLIM_INFINITY and pages:
            found.append(own - int(pages[0].split()[0]) * resource.getpagesize())
    return min(found, default=None)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if os.path.exists(path) else []


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Has `write` fill a new sibling of `folder`, then puts that in its place: a crash leaves the old or the new, whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    new, old = folder.parent / f".{folder.name}.{mark}.new", folder.parent / f".{folder.name}.{mark}.old"
    new.mkdir()
    try:
        write(new)
        for path in sorted(new.rglob("*")) if os.name == "posix" else ():
            sync(path)
        sync(new)
        if folder.is_dir():
            folder.rename(old)
        new.rename(folder)
        sync(folder.parent)
    except BaseException:
        if old.is_dir() and not folder.is_dir():
            old.rename(folder)
        shutil.rmtree(new, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Has the disk hold what was written to a file or folder (folders: POSIX only)."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
