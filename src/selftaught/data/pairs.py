"""Pairs of texts: a source and what is to be written of it, from two columns of a table or two files with a line for a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from ..core import DataError, RequestError, View
from . import limits, streams
from .arrays import Arrays
from .dataset import Dataset
from .folders import scan
from .opening import open_source
from .source import Source

TEXT = ("text", "category")
"""Kinds of columns that a target may be: short texts that repeat look like classes."""


@dataclass(frozen=True)
class TextPairs:
    """Rows of which source and target can both be read: two datasets of one order.  `targets` None: nothing is known yet."""

    sources: Dataset
    targets: Dataset | None

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def ids(self) -> np.ndarray:
        return self.sources.ids

    def subset(self, places: np.ndarray) -> Self:
        """Some of the pairs."""
        return replace(self, sources=self.sources.subset(places), targets=self._targets.subset(places))

    @property
    def _targets(self) -> Dataset:
        if self.targets is None:
            raise ValueError("these sources have no targets")
        return self.targets

    def fetch(self, places: np.ndarray) -> tuple[View, View]:
        """Raw views of the sources and of the targets at `places`."""
        return self.sources.fetch(places), self._targets.fetch(places)

    def lengths(self) -> np.ndarray:
        """(len, 2) tokens of each source and target, without marks."""
        return np.stack([_lengths(self.sources), _lengths(self._targets)], 1)

    def texts(self, places: np.ndarray) -> list[str]:
        """The sources as they were given."""
        return _payloads(self.sources, places)

    def truth(self, places: np.ndarray) -> list[str]:
        """The targets as they were given."""
        return _payloads(self._targets, places)


def _lengths(data: Dataset) -> np.ndarray:
    held = data.lengths
    return np.array([len(data.rows([i]).values) for i in range(len(data))]) if held is None else held  # type: ignore[union-attr]


def _payloads(data: Dataset, places: np.ndarray) -> list[str]:
    rows = data.source_rows(places)
    held = data.source.payloads(data.column, rows)
    return [p.decode() if isinstance(p, bytes) else str(p) for p in held]


def open_pairs(
    spec, modality, *, source: str | None = None, target: str | None = None, max_bad: float = 0.01, say: Callable[[str], None] = lambda _: None
) -> TextPairs:  # fmt: skip
    """The pairs of a table, of two parallel files ("train.en,train.de", or a folder that holds just two), or of a mapping {column: texts}.

    source, target: columns; of parallel files, the ends of their names ("en", "de").  What is not named is guessed and said: the other text column, the longer
    one being the source.  Rows of which either side is empty or cannot be read are set apart and counted.  Raises RequestError or DataError.
    """
    opened = _parallel(spec) or open_source(spec)
    source, target = _columns(opened, source, target)
    sources = _open(opened, source, modality)
    targets = _open(opened, target, modality)
    both = np.intersect1d(sources.source_rows(), targets.source_rows())
    bad = opened.rows - len(both)
    if not len(both) or bad > max_bad * opened.rows:
        raise DataError(
            f"Of {opened.rows} pairs of {source!r} and {target!r}, {bad} cannot be used: {sources.rejected.summary() or targets.rejected.summary()}.",
            "Repair them, name other columns (--column, --labels), or accept them with --max-bad.",
        )
    say(f"{opened.name}: {len(both)} pairs, from {source!r} to {target!r}.")
    if bad:
        say(f"{bad} of {opened.rows} pairs set apart: a side is empty or cannot be read")
    return TextPairs(*(d.subset(np.searchsorted(d.source_rows(), both)) for d in (sources, targets)))


def open_sources(spec, modality, *, source: str | None = None, usual: str = "", max_bad: float = 1.0) -> TextPairs:
    """Texts alone, to which something is to be written: the column `source`; else `usual` where there is such a one, else the likeliest."""
    opened = _parallel(spec) or open_source(spec)
    source = usual if source is None and usual in opened.columns else source
    if source is None:
        guess = modality.sniff(opened)
        if guess is None:
            raise RequestError(
                f"No column of {opened.name} looks like texts.",
                f"Name it with --column; columns: {', '.join(opened.columns)}.",
            )
        source = guess.column
    sources = _open(opened, source, modality)
    sources.rejected.check(max_bad)
    return TextPairs(sources, None)


def _open(opened: Source, column: str, modality) -> Dataset:
    """A packed column; of a short text that looks like a class too."""
    if opened.need(column) not in TEXT:
        raise RequestError(
            f"Column {column!r} of {opened.name} holds {opened.columns[column]}, not text.",
            f"Columns of text: {', '.join(opened.of_kind(*TEXT)) or 'none'}.",
        )
    return Dataset.open(opened, column, modality, max_bad=1.0, stream=False)


def _columns(opened: Source, source: str | None, target: str | None) -> tuple[str, str]:
    texts = [c for c in (opened.of_kind("text") or opened.of_kind(*TEXT)) if c not in ("split", "document")]
    if source is None or target is None:
        left = [c for c in texts if c not in (source, target)]
        missing = (source is None) + (target is None)
        if len(left) != missing:
            what = "sources and targets" if missing == 2 else "targets" if target is None else "sources"
            raise RequestError(
                f"{opened.name} does not say which column holds the {what}: it has {', '.join(map(repr, texts)) or 'no column of texts'}.",
                "Name them: --column SOURCE --labels TARGET.  Parallel files: FILE.en,FILE.de.",
            )
        if missing == 2:
            left.sort(key=lambda c: -_mean_length(opened, c))
        source = source or left.pop(0)
        target = target or left.pop(0)
    if source == target:
        raise RequestError(f"{source!r} is named as source and as target.", "Name two columns.")
    opened.need(source), opened.need(target)
    return source, target


def _mean_length(opened: Source, column: str) -> float:
    return float(
        np.mean([len(p) for p in opened.payloads(column, range(min(64, opened.rows))) if isinstance(p, str)] or [0])
    )


def _parallel(spec) -> Source | None:
    """Two text files, a line for a line, as a source of two columns; None where `spec` names no such files.

    Blank lines keep their place (a side of such a pair is empty), other than in a corpus, where they end documents."""
    files = _two_files(spec)
    if files is None:
        return None
    lines = [_lines(path) for path in files]
    if len(lines[0]) != len(lines[1]):
        raise DataError(
            f"{files[0].name!r} has {len(lines[0])} lines, {files[1].name!r} {len(lines[1])}: they do not belong together.",
            "Parallel files have a line for a line.",
        )
    made = Arrays(" and ".join(path.name for path in files), dict(zip(_named(files), lines)))
    made.columns = dict.fromkeys(made.columns, "text")
    return made


def _two_files(spec) -> tuple[Path, Path] | None:
    if not isinstance(spec, str | Path):
        return None
    parts = [Path(part.strip()).expanduser() for part in str(spec).split(",")]
    if len(parts) == 2 and all(part.is_file() for part in parts) and not Path(str(spec)).exists():
        return parts[0], parts[1]
    folder = Path(spec).expanduser()
    if not folder.is_dir():
        return None
    listing = scan(folder)
    names = sorted(listing.files.get("text", []))
    others = sum(n for kind, n in listing.count().items() if kind not in ("text", "other"))
    unknown = sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not others and not names and len(unknown) == 2 and Path(unknown[0]).stem == Path(unknown[1]).stem:
        names = unknown  # train.en and train.de
    return (folder / names[0], folder / names[1]) if len(names) == 2 and not others else None


def _named(files: tuple[Path, Path]) -> list[str]:
    """Names of the two columns: the ends of the files' names ("en", "de") where these differ, else the names without them."""
    ends = [path.suffix.lstrip(".") for path in files]
    return ends if ends[0] != ends[1] and all(ends) else [path.stem for path in files]


def _lines(path: Path) -> list[str]:
    """All lines, blank ones too; bytes that are no UTF-8 stay visible as such, so that their row is set apart."""
    out = []
    with streams.says_when_broken(path), streams.open_stream(path) as stream:
        while line := stream.readline(limits.LINE_BYTES):
            if len(line) == limits.LINE_BYTES and not line.endswith(b"\n"):
                raise DataError(f"A line of {path.name!r} is longer than {limits.LINE_BYTES} bytes.", "Divide it.")
            out.append(line.decode("utf-8", "surrogateescape").rstrip("\r\n"))
    if not out:
        raise DataError(f"{str(path)!r} is empty.", "Check that it was written to the end.")
    return out
