"""Atomic checkpoints with hashes: safetensors + JSON, never pickle.

A checkpoint is a folder step-NNNNNNNN with tensors.safetensors, state.json and manifest.json (sizes, sha256, version).
It is written beside its place, every file and the folder fsynced, then renamed; so a reader sees all of it or none.
The newest that verifies is used; one that was cut or altered is passed over and said.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core.errors import DataError, ModelError

VERSION = 1
FILES = ("tensors.safetensors", "state.json")


class _BrokenError(Exception):
    """A checkpoint that was cut or altered."""


def flatten(tree: dict, prefix: str = "") -> tuple[dict[str, Tensor], dict]:
    """Nested dicts and lists of tensors and plain data -> ({path: tensor}, the same tree with tensors as {"__tensor__": path})."""
    tensors: dict[str, Tensor] = {}

    def walk(value, path: str):
        if isinstance(value, Tensor):
            tensors[path] = value.detach().to("cpu", copy=True).contiguous()
            return {"__tensor__": path}
        if isinstance(value, dict):
            return {"__dict__": [[k, walk(v, f"{path}/{k}")] for k, v in value.items()]}
        if isinstance(value, tuple):
            return {"__tuple__": [walk(v, f"{path}/{i}") for i, v in enumerate(value)]}
        if isinstance(value, list):
            return [walk(v, f"{path}/{i}") for i, v in enumerate(value)]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"{path}: a {type(value).__name__} cannot be stored in a checkpoint")

    return tensors, walk(tree, prefix)


def unflatten(tree, tensors: dict[str, Tensor]):
    """The inverse of `flatten`; keys of dicts keep their types."""
    if isinstance(tree, list):
        return [unflatten(v, tensors) for v in tree]
    if isinstance(tree, dict):
        if "__tensor__" in tree:
            return tensors[tree["__tensor__"]]
        if "__tuple__" in tree:
            return tuple(unflatten(v, tensors) for v in tree["__tuple__"])
        return {k: unflatten(v, tensors) for k, v in tree["__dict__"]}
    return tree


def save(folder: Path, step: int, tree: dict, *, keep: int = 2) -> Path:
    """Writes checkpoint `step` and removes all but the newest `keep` that verify by size."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"step-{step:08d}"
    beside = folder / f".writing-{step:08d}-{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    tensors, skeleton = flatten(tree)
    try:
        beside.mkdir()
        save_file(tensors, beside / FILES[0])
        (beside / FILES[1]).write_text(json.dumps(skeleton))
        files = {name: {"bytes": (beside / name).stat().st_size, "sha256": _sha256(beside / name)} for name in FILES}
        (beside / "manifest.json").write_text(json.dumps({"version": VERSION, "step": step, "files": files}))
        for name in (*FILES, "manifest.json"):
            _fsync(beside / name)
        _fsync(beside)
        if place.exists():  # the same step again, after a resume from an older one
            shutil.rmtree(place)
        os.replace(beside, place)
        _fsync(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise DataError(
            f"The checkpoint could not be written to {folder}: {error}.", "Free some disk space and --resume."
        ) from error
    for old in _newest_first(folder)[keep:]:
        shutil.rmtree(old)
    return place


def newest(folder: Path, say: Callable[[str], None] = lambda text: None) -> tuple[int, dict] | None:
    """(step, tree) of the newest checkpoint that verifies, or None where there is none; says which were passed over."""
    for place in _newest_first(folder):
        try:
            return _read(place)
        except _BrokenError as error:
            say(f"{place.name} does not verify ({error}); the one before it is used.")
    return None


def clear_unfinished(folder: Path) -> None:
    """Removes what a killed save left behind."""
    for left in folder.glob(".writing-*"):
        shutil.rmtree(left, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step-*") if p.is_dir()), key=lambda p: p.name, reverse=True)


def _read(place: Path) -> tuple[int, dict]:
    try:
        manifest = json.loads((place / "manifest.json").read_text())
        version, step, files = manifest["version"], manifest["step"], manifest["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _BrokenError(f"manifest.json: {error}") from error
    if version != VERSION:
        raise ModelError(
            f"{place} is a checkpoint of version {version}; this release reads version {VERSION}.",
            "Resume it with the release that wrote it (env.json names it).",
        )
    if sorted(files) != sorted(FILES):
        raise _BrokenError(f"its manifest lists {sorted(files)}")
    for name, facts in files.items():
        path = place / name
        if (
            not path.is_file()
            or path.is_symlink()
            or path.stat().st_size != facts["bytes"]
            or _sha256(path) != facts["sha256"]
        ):
            raise _BrokenError(f"{name} is not what was written")
    return step, unflatten(json.loads((place / FILES[1]).read_text()), load_file(place / FILES[0]))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
