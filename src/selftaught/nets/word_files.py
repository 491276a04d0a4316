"""word2vec's two formats, text and binary, in and out; read as if nobody vouched for the file.

Text: a line with count and width, then a line each of a word and its numbers.  Binary: the same first line, then of each word its UTF-8, a
space, and its numbers as float32 (little-endian); a line feed behind it is written, as word2vec.c does, and not asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..core import ModelError, RequestError
from .files import memory_left, open_regular

WIDEST = 4096
LONGEST = 2048
"""Bytes of the longest word that is read."""
LIMIT = 1 << 36
BINARY, TEXT = (".bin",), (".txt", ".vec", ".w2v")


def is_binary(path: str | Path) -> bool:
    """Which of the two formats a file has, by its ending; RequestError for others."""
    ending = Path(path).suffix.lower()
    if ending not in (*BINARY, *TEXT):
        raise RequestError(
            f"{str(path)!r} does not say which format it has.", f"word2vec's binary ends in .bin, its text in {', '.join(TEXT)}."
        )  # fmt: skip
    return ending in BINARY


def write(path: str | Path, words: Iterable[str], vectors: np.ndarray) -> None:
    """Writes words and vectors (N, D) float32 in the format of the ending; whole or not at all.

    Raises ModelError for a number that is not finite, and for a word that is empty or holds white space, which neither format can tell."""
    path, words = Path(path), list(words)
    vectors = np.ascontiguousarray(vectors, dtype="<f4")
    if len(words) != len(vectors) or not np.isfinite(vectors).all():
        raise ModelError(f"{len(words)} words and vectors {vectors.shape}: as many of each, and finite numbers.")
    odd = next((w for w in words if not w or w.split() != [w]), None)
    if odd is not None:
        raise ModelError(f"The word {odd!r} cannot be written: word2vec's files part words by white space.")
    binary = is_binary(path)
    beside = path.with_name(f".{path.name}.writing")
    try:
        with beside.open("wb") as file:
            file.write(f"{len(words)} {vectors.shape[1]}\n".encode())
            for word, vector in zip(words, vectors, strict=True):
                numbers = vector.tobytes() if binary else " ".join(map(repr, map(float, vector.astype(str)))).encode()
                file.write(word.encode("utf-8") + b" " + numbers + b"\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: str | Path) -> tuple[list[str], np.ndarray]:
    """(words, vectors (N, D) float32) of a file of `write` or of another program; a word that stands twice counts once, as it stood first.

    Bytes that are no UTF-8 become U+FFFD.  ModelError for a file that is cut, that claims more than it holds or than memory, or has numbers that
    are not finite."""
    path = Path(path)
    binary = is_binary(path)
    with open(open_regular(path.parent, path.name, limit=LIMIT), "rb") as file:
        size = path.stat().st_size
        count, width = _header(file, path)
        least = count * (4 * width + 2 if binary else 2 * width + 1)
        if least > size:
            raise _broken(path, f"it claims {count:,} words of {width:,} numbers, and has {size:,} bytes")
        left = memory_left()
        if left is not None and 8 * count * width > left:
            raise _broken(
                path, f"its vectors need {4 * count * width / 1e9:.1f} GB; {left / 1e9:.1f} GB of memory are left"
            )
        vectors = np.empty((count, width), np.float32)
        words = [(_binary if binary else _line)(file, path, vectors[i]) for i in range(count)]
        if file.read(LONGEST).strip():
            raise _broken(path, f"more follows after the {count:,} words that it claims")
    if not np.isfinite(vectors).all():
        raise _broken(path, "it holds numbers that are not finite")
    first = {word: i for i, word in reversed(list(enumerate(words)))}
    if len(first) == count:
        return words, vectors
    kept = sorted(first.values())
    return [words[i] for i in kept], vectors[kept]


def _broken(path: Path, said: str) -> ModelError:
    return ModelError(f"{str(path)!r} is no word2vec file or a broken one: {said}.", "Save or download it again.")


def _header(file: BinaryIO, path: Path) -> tuple[int, int]:
    line = file.readline(100).split()
    if len(line) != 2 or not all(n.isdigit() and len(n) < 13 for n in line):
        raise _broken(
            path, f"its first line is not 'COUNT WIDTH' but {b' '.join(line)[:60]!r} (a GloVe file lacks that line)"
        )
    count, width = map(int, line)
    if not count > 0 or not 0 < width <= WIDEST:
        raise _broken(path, f"its first line claims {count:,} words of {width:,} numbers (at most {WIDEST:,})")
    return count, width


def _binary(file: BinaryIO, path: Path, vector: np.ndarray) -> str:
    word = bytearray()
    while (letter := file.read(1)) != b" ":
        if not letter or len(word) > LONGEST:
            raise _broken(path, "it ends within a word" if not letter else f"a word has over {LONGEST:,} bytes")
        word += letter
    data = file.read(vector.nbytes)
    if len(data) < vector.nbytes:
        raise _broken(path, "it ends within a vector")
    vector[:] = np.frombuffer(data, "<f4")
    return _word(bytes(word), path)


def _line(file: BinaryIO, path: Path, vector: np.ndarray) -> str:
    line = file.readline(LONGEST + 64 * len(vector))
    word, _, rest = line.partition(b" ")
    numbers = rest.split()
    if len(numbers) != len(vector):
        raise _broken(path, f"a line has {len(numbers):,} numbers instead of {len(vector):,}")
    try:
        with np.errstate(over="ignore"):  # becomes infinite, and is refused as such
            vector[:] = [float(n) for n in numbers]
    except ValueError:
        raise _broken(path, f"a line holds what is no number, after {word[:40]!r}") from None
    return _word(word, path)


def _word(spelled: bytes, path: Path) -> str:
    word = spelled.strip().decode("utf-8", "replace")
    if not word:
        raise _broken(path, "a word is empty")
    return word
