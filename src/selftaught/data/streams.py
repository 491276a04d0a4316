"""Compressed files read as plain ones, with a bound on what they may unfold to."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..core import DataError
from . import limits

MAGIC = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst", b"\xfd7zXZ\x00": "xz"}
SUFFIXES = (".gz", ".zst", ".xz")


class TooLarge(Exception):
    """A stream unfolds beyond the bound."""


def compression(head: bytes) -> str | None:
    """ "gz", "zst" or "xz" from the first bytes of a file."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def plain_name(path: Path) -> Path:
    """The name without its compression suffix: corpus.txt.gz -> corpus.txt."""
    return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path


_PIECE = 2048
"""Compressed bytes that are unfolded at once: small, so that a bomb is noticed before it fills the memory."""


class _Unfolding(io.RawIOBase):
    """The decompressed bytes of a file of one or more frames; counts what comes out against what went in."""

    def __init__(self, raw: BinaryIO, new):
        self._raw, self._new = raw, new
        self._frame = new()
        self._ready = memoryview(b"")
        self._into = self._out = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._ready:
            if not (piece := self._next_piece()):
                return 0
            self._ready = memoryview(self._frame.decompress(piece))
            self._out += len(self._ready)
            if self._out > limits.DECOMPRESSED and self._out > limits.RATIO * self._into:
                raise TooLarge(f"it unfolds to more than {limits.RATIO} times its size")
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _next_piece(self) -> bytes:
        """Compressed bytes for the current frame; a finished frame gives way to the next; empty at the end of the file."""
        if not self._frame.eof:
            piece = self._raw.read(_PIECE)
            self._into += len(piece)
            if not piece:
                raise EOFError
            return piece
        rest = self._frame.unused_data
        while not rest.strip(b"\x00"):  # frames may be padded with zeros
            rest = self._raw.read(_PIECE)
            self._into += len(rest)
            if not rest:
                return b""
        self._frame = self._new()
        return rest.lstrip(b"\x00")

    def close(self) -> None:
        self._raw.close()
        super().close()


def open_stream(path: Path) -> BinaryIO:
    """A buffered reader of the (decompressed) bytes of `path`; what it is is seen from its first bytes.

    Reading raises TooLarge, EOFError, OSError, zlib.error, lzma.LZMAError or zstandard.ZstdError: `says_when_broken` names them.
    """
    raw = path.open("rb")
    kind = compression(raw.peek(8)[:8])
    if kind is None:
        return raw
    return io.BufferedReader(_Unfolding(raw, _decoder(kind)), 1 << 18)  # type: ignore[return-value]


def _decoder(kind: str):
    """Makes objects with decompress(), eof and unused_data."""
    if kind == "gz":
        return lambda: zlib.decompressobj(31)
    if kind == "xz":
        return lambda: lzma.LZMADecompressor(memlimit=limits.WINDOW)
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=limits.WINDOW).decompressobj


def broken() -> tuple[type[Exception], ...]:
    import zstandard

    return (TooLarge, EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


def why_broken(error: Exception) -> str:
    """The reason in plain words."""
    if isinstance(error, TooLarge):
        return f"decompression bomb: {error}"
    if isinstance(error, EOFError):
        return "truncated: the compressed file ends early"
    if isinstance(error, OSError) and error.errno:
        return f"unreadable: {error.strerror}"
    return f"broken compression: {error}"


@contextmanager
def says_when_broken(path: Path) -> Iterator[None]:
    """Turns what can go wrong while a whole file is read into a DataError that names it."""
    try:
        yield
    except broken() as error:
        raise DataError(
            f"{str(path)!r} cannot be read: {why_broken(error)}.",
            "Download or copy it again, or leave it out.",
        ) from None


def read_all(path: Path, most: int = limits.ROW_BYTES) -> bytes:
    """The decompressed bytes of a small file; raises TooLarge above `most`, and what `open_stream` raises."""
    with open_stream(path) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise TooLarge(f"more than {most} bytes")
    return data
