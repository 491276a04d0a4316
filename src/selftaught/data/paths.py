"""Reading files of a data folder and nothing else: no link out of it, no device, nothing larger than a row may be."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from . import limits, streams
from .bad import Bad

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def inside(root: Path, name: str) -> Path:
    """The file that `name` (from a table or a link) means under `root`, which is resolved; Bad where it lies elsewhere."""
    if "\x00" in name:
        raise Bad("refused path: it holds a NUL byte")
    if _SCHEME.match(name):
        raise Bad(f"refused path: addresses are not fetched ({name})")
    try:
        path = Path(os.path.realpath(root / name))
    except OSError as error:
        raise Bad(f"unreadable: {error.strerror}") from None
    if not path.is_relative_to(root):
        raise Bad(f"outside the data folder: {name}")
    return path


def read_file(path: Path, most: int = limits.ROW_BYTES) -> bytes:
    """The bytes of a regular file whose folders are already known to lie inside; raises Bad."""
    try:
        handle = os.open(path, os.O_RDONLY | _NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOENT):
            raise Bad("unreadable: a link or gone") from None
        raise Bad(f"unreadable: {error.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Bad("not a regular file")
        if status.st_size == 0:
            raise Bad("empty file")
        if status.st_size > most:
            raise Bad(f"too large: {status.st_size} bytes, at most {most} are read")
        try:
            return file.read(most)
        except OSError as error:
            raise Bad(f"unreadable: {error.strerror}") from None


def read_text(data: bytes) -> str:
    """UTF-8 text, a leading byte-order mark dropped; Bad where it is not text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Bad(f"not UTF-8 text: {error.reason} at byte {error.start}") from None
    if "\x00" in text:
        raise Bad("not text: it holds NUL bytes")
    return text


def read_text_file(path: Path) -> str:
    """The text of a (compressed) file of one row; raises Bad."""
    try:
        data = streams.read_all(path) if path.suffix.lower() in streams.SUFFIXES else read_file(path)
    except streams.broken() as error:
        raise Bad(streams.why_broken(error)) from None
    text = read_text(data)
    if not text.strip():
        raise Bad("empty text")
    return text
