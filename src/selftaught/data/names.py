"""Columns from the names of files: `{label}_{speaker}_{take}` reads 7_jackson_32.wav as label 7, speaker jackson, take 32."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

import numpy as np

from ..core import DataError, RequestError
from .bad import Bad
from .source import Payload, Source, codes, listed

_EXAMPLE = 'A template names columns in braces, for example "{label}_{speaker}_{take}" or "{speaker}/{}-{label}".'
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
_DECIMAL = re.compile(r"-?\d+\.\d+")


class Named(Source):
    """Another source with further columns, read out of the names of its rows by a template.

    Every field `{name}` of the template becomes a column; `{}` stands for what is not kept.  Without a slash the template is held against the
    file's name without its ending, with slashes against as many folders before it too.  A field takes as little as it can, the last one
    the rest, and no slash.  Whole numbers and decimal fractions throughout are columns of numbers; all others of words, as are numbers with zeros
    before them.  Rows that do not match have no value.

    Raises RequestError for a template that is none and for a column that exists already, DataError where no name matches.
    """

    def __init__(self, whole: Source, template: str):
        super().__init__(whole.name)
        pattern, fields, depth = compiled(template)
        taken = [name for name in fields if name in whole.columns]
        if taken:
            raise RequestError(
                f"{whole.name} has a column {taken[0]!r} already, and --names {template!r} makes another.",
                "Give that field another name, or write {} for what is not needed.",
            )
        self._whole = whole
        self.rows, self.random_access, self.resident = whole.rows, whole.random_access, whole.resident
        found = [pattern.fullmatch(_tail(whole.row_name(row), depth)) for row in range(whole.rows)]
        missed = [row for row, match in enumerate(found) if match is None]
        if len(missed) == whole.rows:
            raise DataError(
                f"None of the {whole.rows} names fits --names {template!r}; the first is {whole.row_name(0)!r}.", _EXAMPLE
            )
        self._held = {name: _column([None if m is None else m[name] for m in found]) for name in fields}
        self.columns = dict(whole.columns) | {name: kind for name, (kind, _) in self._held.items()}
        self.notes = [*whole.notes, f"columns from the names ({template}): {self._said()}"]
        if missed:
            first = whole.row_name(missed[0])
            self.notes.append(
                f"{len(missed)} of {whole.rows} names do not fit {template!r} and have no value there (the first: {first!r})"
            )

    def _said(self) -> str:
        counts = {name: len({v for v in values.tolist() if v is not None}) for name, (_, values) in self._held.items()}
        return ", ".join(f"{name!r} ({count} different)" for name, count in counts.items())

    def payloads(self, column: str, index: Iterable[int] | None = None) -> Iterator[Payload | Bad]:
        if column not in self._held:
            yield from self._whole.payloads(column, index)
            return
        values = self._held[column][1]
        for row in listed(index, self.rows).tolist():
            yield Bad("no value") if values[row] is None else str(values[row])

    def values(self, column: str) -> np.ndarray:
        return self._held[column][1] if column in self._held else self._whole.values(column)

    def sets(self, column: str) -> np.ndarray:
        return super().sets(column) if column in self._held else self._whole.sets(column)

    def row_name(self, row: int) -> str:
        return self._whole.row_name(row)

    def fingerprint(self) -> str:
        """That of the source: the names are in it, and rows that are packed already serve again."""
        return self._whole.fingerprint()


def named(source: Source, template: str | None) -> Source:
    """`source` with the columns that `template` reads out of its rows' names; as it is where there is none."""
    return source if template is None else Named(source, template)


def compiled(template: str) -> tuple[re.Pattern, list[str], int]:
    """(what a name must match, its fields, how many parts of a path it speaks of); RequestError where it is no template."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise RequestError(f"--names {template!r} is no template: {error}.", _EXAMPLE) from None
    fields: list[str] = []
    behind = [""]  # the literal text before the first field, then that behind each of them
    for literal, name, form, conversion in parts:
        behind[-1] += literal
        if name is None:
            continue
        if form or conversion or (name and not name.isidentifier()):
            raise RequestError(f"--names {template!r}: {name!r} is no name of a column.", _EXAMPLE)
        if name and name in fields:
            raise RequestError(f"--names {template!r} names {name!r} twice.", "Give each field a name of its own.")
        if fields and not behind[-1]:
            raise RequestError(
                f"--names {template!r}: nothing stands between {{{fields[-1]}}} and {{{name}}}.", "Write what divides them."
            )
        fields.append(name)
        behind.append("")
    if not any(fields):
        raise RequestError(f"--names {template!r} names no column.", _EXAMPLE)
    pattern = re.escape(behind[0])
    for number, name in enumerate(fields, 1):
        one = (f"(?P<{name}>[^/]+?)" if name else "[^/]+?") + re.escape(behind[number])
        pattern += one if number == len(fields) else f"(?>{one})"  # never gone back on: long names cost no more
    return re.compile(pattern, re.DOTALL), [name for name in fields if name], template.count("/") + 1


def _tail(name: str, depth: int) -> str:
    """The last `depth` parts of a row's path, without the file's ending; of a row in a shard, of its name there."""
    path = PurePosixPath(*PurePosixPath(name.partition(".tar:")[2] or name).parts[-depth:])
    return path.with_suffix("").as_posix() if path.name else ""


def _column(values: list[str | None]) -> tuple[str, np.ndarray]:
    """(kind, values) as a source has them."""
    given = [v for v in values if v is not None]
    if len(given) == len(values) and all(_WHOLE.fullmatch(v) for v in given):
        return "integer", np.array(values, dtype=np.int64)
    if all(_WHOLE.fullmatch(v) or _DECIMAL.fullmatch(v) for v in given) and any("." in v for v in given):
        return "number", np.array([np.nan if v is None else float(v) for v in values])
    return "category", codes(values)
