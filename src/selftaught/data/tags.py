"""Words with one tag each: CoNLL files, or tables with lists of words and of tags; how spans are written is recognised and said."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core import DataError, RequestError
from ..core.errors import nearest
from ..measures.tags import OUTSIDE
from . import limits, streams
from .bad import Bad, Rejected
from .folders import type_of
from .opening import open_source
from .paths import read_text
from .tables import Table, need_column

WORDS = ("tokens", "words", "token", "word", "form", "forms")
TAGS = ("tags", "ner_tags", "labels", "ner", "pos_tags", "pos", "upos", "tag", "label")
_MARKED = re.compile(r"(?:O|[BIESLU](?:-.*)?)", re.DOTALL)
_DOCUMENT = "-DOCSTART-"
SCHEMES = {
    "IOB2": "IOB2: every span begins with B-",
    "IOB1": "IOB1: B- stands only between two spans of one type",
    "IOBES": "IOBES: S- is a span of one word, E- ends a span",
    "BILOU": "BILOU: U- is a span of one word, L- ends a span",
    "IO": "IO: neighbours of one type are one span",
    "plain": "a tag for every word, no spans",
}


@dataclass
class Sentences:
    """`words[i]` and `tags[i]` of row i (None where nothing is known of a word); tags as IOB2 where they are spans, whatever the file has.

    `scheme`: how the file writes them (a key of SCHEMES); `groups`: documents; `rows`: numbers in the source, of the rows that could be read."""

    words: list[tuple[str, ...]]
    tags: list[tuple[str | None, ...]]
    names: list[str]
    rows: np.ndarray
    rejected: Rejected
    scheme: str = "plain"
    groups: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.words)

    @property
    def texts(self) -> list[str]:
        """The words of each row with a space between them: what an encoder reads, and what character spans refer to."""
        return [" ".join(words) for words in self.words]


def open_tags(
    spec, *, words: str | None = None, tags: str | None = None, group: str | None = None, scheme: str | None = None,
    tagged: bool = True, max_bad: float = 0.01,
) -> Sentences:  # fmt: skip
    """Sentences of a CoNLL file (whitespace or tabs between columns, blank lines between sentences), or of a table with lists.

    words, tags: names of a table's columns, or numbers of a CoNLL file's from 1 (negative: from the end; default: the first and the last, in CoNLL-U the
    second and the fourth).  scheme: how spans are written, None recognises it.  tagged: False reads words alone.
    Rows without words, and rows whose lists differ in length, are set apart.  Raises RequestError for what is not there, DataError where nothing can be used.
    """
    path = None if not isinstance(spec, str | Path) else Path(spec).expanduser()
    if path is not None and path.is_file() and type_of(path.name) in (None, "text", "csv") and _is_columns(path):
        if group is not None:
            raise RequestError("--group names a column of a table.", f"Documents of a CoNLL file are told by {_DOCUMENT} lines.")  # fmt: skip
        found = _of_columns(path, words, tags, tagged)
    else:
        found = _of_table(spec, words, tags, group, tagged)
    found.rejected.check(max_bad)
    if found.rejected:
        found.notes.append(found.rejected.summary())
    if tagged:
        _canonical(found, scheme)
    return found


def _read(path: Path) -> str:
    with streams.says_when_broken(path):
        data = streams.read_all(path, limits.ANNOTATION_BYTES)
    try:
        return read_text(data)
    except Bad as bad:
        raise DataError(f"{str(path)!r} cannot be read: {bad.reason}.", "Save it as UTF-8.") from None


def _is_columns(path: Path) -> bool:
    """Whether a text file holds columns of words with blank lines between sentences (a table has none)."""
    if path.suffix.lower() == ".csv":
        return False
    with streams.says_when_broken(path), streams.open_stream(path) as stream:
        lines = stream.read(1 << 16).decode("utf-8", errors="replace").split("\n")
    held = [line.strip() for line in lines[:-1] or lines]
    full = [line for line in held if line and not line.startswith("#")]
    several = sum(len(line.split()) > 1 for line in full) > 0.9 * len(full)
    return bool(full) and several and (path.suffix.lower() != ".tsv" or "" in held)


def _of_columns(path: Path, words: str | None, tags: str | None, tagged: bool) -> Sentences:
    lines = [line.rstrip("\r") for line in _read(path).split("\n")]
    full = [line for line in lines if line.strip() and not line.startswith("#")]
    mark = "\t" if sum("\t" in line for line in full) > len(full) / 2 else None
    width = Counter(len(_cells(line, mark)) for line in full).most_common(1)[0][0]
    universal = width == 10 and all(re.match(r"\d+(?:[-.]\d+)?\t", line) for line in full[:100])
    word = _column(words, 2 if universal else 1, width, "--column")
    tag = _column(tags, 4 if universal else width, width, "--labels") if tagged else word
    out = Sentences([], [], [], np.zeros(0, np.int64), Rejected(0))
    row, rows, document, groups = 0, [], 0, []
    for number, block in _blocks(lines, mark, width):
        if block[0][0] == _DOCUMENT:
            document, block = document + 1, block[1:]
        if universal:  # 3-4 is a word that stands for two, 5.1 one that is not written
            block = [cells for cells in block if len(cells) != width or cells[0].isdecimal()]
        if not block:
            continue
        name = f"{path.name}:{number}"
        if any(len(cells) != width for cells in block):
            count = next(len(cells) for cells in block if len(cells) != width)
            out.rejected.add(row, name, Bad(f"wrong number of columns: {count} instead of {width}"))
        else:
            out.words.append(tuple(cells[word] for cells in block))
            out.tags.append(tuple(cells[tag].strip() if tagged else None for cells in block))
            out.names.append(name)
            rows.append(row)
            groups.append(document)
        row += 1
    out.rejected.total, out.rows = row, np.array(rows, np.int64)
    out.groups = np.array(groups, np.int64) if document > 1 else None
    more = f", {document} documents" if document > 1 else ""
    chosen = f", tags from column {tag + 1}" if tagged else ""
    out.notes.append(f"{path.name}: {row} sentences of {width} columns, words from column {word + 1}{chosen}{more}.")
    return out


def _cells(line: str, mark: str | None) -> list[str]:
    return line.split(mark)


def _blocks(lines: Sequence[str], mark: str | None, width: int) -> Iterator[tuple[int, list[list[str]]]]:
    """(number of the first line from 1, cells of the lines) of every sentence; comments (# before the words) are left out."""
    block: list[list[str]] = []
    start = 0
    for number, line in enumerate([*lines, ""], 1):
        if not line.strip():
            if block:
                yield start, block
            block = []
            continue
        cells = _cells(line, mark)
        if line.startswith("#") and not block and len(cells) != width:
            continue
        start = start if block else number
        block.append(cells)


def _column(named: str | None, usual: int, width: int, flag: str) -> int:
    text = str(usual) if named is None else named
    if not re.fullmatch(r"-?\d{1,4}", text) or not 0 < abs(int(text)) <= width:
        raise RequestError(f"{flag} {text!r} is no column of this file.", f"Accepted: 1 to {width}, or -1 for the last.")  # fmt: skip
    return int(text) - 1 if int(text) > 0 else width + int(text)


def _of_table(spec, words: str | None, tags: str | None, group: str | None, tagged: bool) -> Sentences:
    source = open_source(spec)
    if not isinstance(source, Table):
        raise RequestError(
            f"{source.name} holds no words with tags.",
            "Give a CoNLL file (a word and its tag a line, blank lines between sentences), or a table with lists of words and of tags.",
        )
    chosen = need_column(source, words, WORDS, "words", "Name it with --column")
    other = need_column(source, tags, TAGS, "tags", "Name it with --labels") if tagged else None
    names = _label_names(source, other)
    out = Sentences([], [], [], np.zeros(0, np.int64), Rejected(source.rows))
    rows = []
    held = source.cells(chosen)
    marks: Iterator = source.cells(other) if other else iter([None] * source.rows)
    for row, (cell, mark) in enumerate(zip(held, marks, strict=True)):
        try:
            found = _words(cell)
            given = _tags(mark, names) if tagged else (None,) * len(found)
            if len(given) != len(found):
                raise Bad(f"words and tags differ in number: {len(found)} words, {len(given)} tags")
        except Bad as bad:
            out.rejected.add(row, source.row_name(row), bad)
            continue
        out.words.append(found)
        out.tags.append(given)
        out.names.append(source.row_name(row))
        rows.append(row)
    out.rows = np.array(rows, np.int64)
    if group is not None:
        source.need(group)
        values = [str(v) for v in source.values(group).tolist()]
        out.groups = np.unique(np.array(values)[out.rows], return_inverse=True)[1].astype(np.int64)
    more = f", tags {other!r}" if other else ""
    out.notes = [f"{source.name}: {source.rows} rows, words {chosen!r}{more}."]
    return out


def _label_names(source: Table, column: str | None) -> tuple[str, ...]:
    """What the numbers of a column of tags stand for, where the file says so (Parquet files of the hub do); else nothing."""
    try:
        held = json.loads(source.metadata["huggingface"])["info"]["features"][column]
        names = (held[0] if isinstance(held, list) else held.get("feature", held))["names"]
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _words(cell) -> tuple[str, ...]:
    listed = _listed(cell)
    if not listed:
        raise Bad("no words")
    if not all(isinstance(word, str) for word in listed):
        raise Bad("not words: a list of text is read")
    if any(not word.strip() or "\x00" in word for word in listed):
        raise Bad("an empty word")
    return tuple(listed)


def _tags(cell, names: tuple[str, ...]) -> tuple[str | None, ...]:
    out: list[str | None] = []
    for tag in _listed(cell):
        if isinstance(tag, float) and tag.is_integer():
            tag = int(tag)
        if isinstance(tag, int) and not isinstance(tag, bool):
            if names and not -1 <= tag < len(names) and tag != -100:
                raise Bad(f"a tag without a name: {tag}")
            out.append(None if tag < 0 else names[tag] if names else str(tag))
        elif tag is None or isinstance(tag, str):
            out.append((tag or "").strip() or None)
        else:
            raise Bad(f"not a tag: a {type(tag).__name__}")
    return tuple(out)


def _listed(cell) -> list:
    """The items of a list, of a list written in a text (JSON or Python), or the words of a text."""
    if isinstance(cell, Bad):
        raise cell
    if isinstance(cell, np.ndarray):
        return cell.ravel().tolist()
    if isinstance(cell, list | tuple):
        return list(cell)
    if not isinstance(cell, str):
        raise Bad("no list")
    if cell.lstrip().startswith("["):
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(cell)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, list):
                return found
    return cell.split()


def _canonical(found: Sentences, scheme: str | None) -> None:
    """Recognises the scheme and writes spans as IOB2; what is no sequence of it is counted and read as a span's beginning."""
    if not any(tag is not None for tags in found.tags for tag in tags):
        raise DataError("No word has a tag.", "Name the column of tags with --labels.")
    if scheme is not None and scheme not in SCHEMES:
        raise nearest(scheme, SCHEMES, "way to write spans")
    found.scheme = scheme or scheme_of(found.tags)
    found.notes.append(f"tags are read as {SCHEMES[found.scheme]}.")
    if found.scheme == "plain":
        return
    repaired = 0
    for row, tags in enumerate(found.tags):
        found.tags[row], wrong = to_iob2(tags, found.scheme)
        repaired += wrong
    if repaired:
        found.notes.append(f"{repaired} tags did not fit what stood before them: each is read as the beginning of a span.")  # fmt: skip


def scheme_of(sentences: Sequence[Sequence[str | None]]) -> str:
    """The key of SCHEMES that these tags follow.

    IOB1 and IOB2 differ only where a span begins: I- that continues nothing is IOB1 where every B- follows a span of its type, else a slip in IOB2."""
    seen = Counter(tag for tags in sentences for tag in tags if tag is not None)
    if not all(_MARKED.fullmatch(tag) for tag in seen):
        common = seen.most_common(1)[0][0]
        return "IO" if common == OUTSIDE and len(seen) > 1 else "plain"
    marks = {tag[0] for tag in seen}
    if marks & set("LU"):
        return "BILOU"
    if marks & set("ES"):
        return "IOBES"
    if "I" in marks and "B" not in marks:
        return "IOB1"
    loose = between = begins = 0
    for tags in sentences:
        before = OUTSIDE
        for tag in tags:
            same = tag is not None and before[1:] == tag[1:] and before != OUTSIDE
            loose += tag is not None and tag[0] == "I" and not same
            begins += tag is not None and tag[0] == "B"
            between += tag is not None and tag[0] == "B" and same
            before = tag or OUTSIDE
    return "IOB1" if loose and between == begins else "IOB2"


def to_iob2(tags: Sequence[str | None], scheme: str) -> tuple[tuple[str | None, ...], int]:
    """(the same spans as IOB2, how many tags did not fit what stood before them); a bare B or I is a span of type "span"."""
    out: list[str | None] = []
    wrong, kind, is_open = 0, "", False
    for tag in tags:
        if tag is None or tag == OUTSIDE:
            out.append(tag)
            kind, is_open = "", False
            continue
        mark, name = ("I", tag) if scheme == "IO" else (tag[0], tag[2:] or "span")
        goes_on = mark in "IEL" and is_open and name == kind
        wrong += mark in "IEL" and not goes_on and scheme not in ("IOB1", "IO")
        out.append(f"{'I' if goes_on else 'B'}-{name}")
        kind, is_open = name, mark not in "ESLU"
    return tuple(out), wrong
