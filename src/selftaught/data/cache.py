"""Where packed data lie between runs, how large they are, how to clear them, and whether there is room for more.

SELFTAUGHT_CACHE names the folder; otherwise it is the platform's cache folder of the user (~/.cache/selftaught on Linux).
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core import DataError

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_RESERVE = 1 << 28
"""Bytes of the disk that packing leaves free."""


def cache_folder() -> Path:
    """The folder of packed data; it is made where it is absent."""
    named = os.environ.get("SELFTAUGHT_CACHE")
    if named:
        folder = Path(named).expanduser()
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches" / "selftaught"
    elif os.name == "nt":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "selftaught" / "Cache"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftaught"
    return make_folder(folder, writable=False)


def make_folder(folder: Path, *, writable: bool = True) -> Path:
    """`folder`, made where it is absent; DataError where it cannot be, or cannot be written though it must."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        why = "it may not be written" if writable and not os.access(folder, os.W_OK) else ""
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise DataError(
            f"The cache folder {str(folder)!r} cannot be made or used: {why}.",
            "Set SELFTAUGHT_CACHE to a folder that can be written.",
        )
    return folder


def cache_size() -> int:
    """Bytes in the cache folder."""
    return sum(size for _, size in _files(cache_folder()))


def clear_cache() -> int:
    """Removes everything packed; returns the bytes that were freed.  Runs that are using it keep what they have open."""
    folder = cache_folder()
    freed = cache_size()
    for child in (folder / "packed", folder / "fingerprints"):
        shutil.rmtree(child, ignore_errors=True)
    return freed - cache_size()


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base) / name
            if path.is_file() and not path.is_symlink():
                yield path, path.stat().st_size


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written beside `folder`, less a reserve that the system keeps."""
    while not folder.exists():
        folder = folder.parent
    return max(0, shutil.disk_usage(folder).free - _RESERVE)


def memory_bytes() -> int:
    """Bytes of memory that this machine has; 4 GiB where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 32


def check_disk(folder: Path, needed: int, what: str) -> None:
    """Raises DataError where `needed` bytes do not fit on the disk of `folder`."""
    free = free_bytes(folder)
    if needed > free:
        raise disk_full(folder, f"{what} needs about {say_bytes(needed)} and {say_bytes(free)} can be used")


def disk_full(folder: Path, why: str) -> DataError:
    return DataError(
        f"The disk of {str(folder)!r} is full: {why}.",
        "Free some space (`selftaught cache --clear` removes packed data), set SELFTAUGHT_CACHE to a folder on "
        "another disk, or leave the data encoded with --stream.",
    )


@contextmanager
def says_when_full(folder: Path) -> Iterator[None]:
    """Turns "no space left" into an error with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(folder, error.strerror or str(error)) from None
        raise


def say_bytes(count: float) -> str:
    """1536 -> "1.5 KiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
