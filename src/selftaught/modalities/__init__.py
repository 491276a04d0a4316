"""Kinds of data, one file each; and the way from whatever a person names to a packed dataset of one kind."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from .. import data
from ..core import DataError, ModelError, RequestError
from ..core import find as finder
from ..core.errors import nearest
from ..data.names import named
from ..nets import files
from . import _trained
from ._trained import Trained
from ._windows import windows_of
from .guess import Guess

__all__ = ["Guess", "Trained", "find", "load", "names", "open_data", "open_trained", "sniff"]

_OTHER_FILES = {"canvas", "guess", "passages", "questions"}


def names() -> list[str]:
    """The modalities' names, in alphabetical order, without importing any."""
    return [name for name in finder.names(__name__) if name not in _OTHER_FILES]


def find(name: str) -> Any:
    """The class of a modality's name; RequestError tells the nearest."""
    wanted = finder.slug(name.lower())
    if wanted not in names():
        raise nearest(name, names(), "kind of data")
    return finder.find(__name__, wanted, object, "kind of data")


def sniff(source) -> list[tuple[Any, Guess]]:
    """(class, guess) of every modality that can take a column of `source`, the surest first."""
    found = [(cls, guess) for cls in map(find, names()) if (guess := cls.sniff(source)) is not None]
    return sorted(found, key=lambda pair: -pair[1].score)


def open_data(
    spec,
    *,
    modality=None,
    column: str | None = None,
    label: str | None = None,
    group: str | None = None,
    names: str | None = None,
    size: int | None = None,
    tokenizer: str | None = None,
    rate: int | None = None,
    memory: int | None = None,
    stream: bool | None = None,
    max_bad: float = 0.01,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> data.Dataset:
    """The dataset of a folder, file, `hf:NAME`, `digits`, or arrays and lists in memory; what was found goes to `say`.

    `modality` is a name, or a configured object (of `load`) whose settings are then kept; None takes what the content
    shows.  `column` names the payloads, `label` and `group` columns that must exist; `names` is a template for the rows' names whose fields become
    columns ("{label}_{speaker}_{take}", data/names.py); `size` is the modality's (side of
    pictures, tokens of a text, length of a series, milliseconds of sound), `tokenizer` that of texts, `rate` that of sounds in Hz.  The rest goes to `data.Dataset.open`.  Raises RequestError for names
    that do not exist, DataError for data that cannot be used.
    """
    if isinstance(spec, data.Dataset):
        return spec
    say = say or (lambda text: None)
    source = named(data.open_source(spec), names)
    if column is None and label is None and group is None and names is None:
        source = windows_of(source, size)
    for wanted in (label, group):
        if wanted is not None:
            source.need(wanted)
    kind, chosen, reason = _choose(source, modality, column, say)
    if hasattr(kind, "divide"):
        source = kind.divide(source, chosen)
    if modality is None or isinstance(modality, str):
        given = {k: v for k, v in {"tokenizer": tokenizer, "rate": rate}.items() if v is not None}
        for option, value in given.items():
            if option not in inspect.signature(kind.fit).parameters:
                raise RequestError(f"--{option} {value}: {kind.name} has no {option}.", "Leave it out.")
        fitted = kind.fit(source, chosen, size=size, memory=memory, **given)
    else:
        fitted = modality
    dataset = data.Dataset.open(
        source, chosen, fitted, stream=stream, max_bad=max_bad, threads=threads, progress=progress
    )
    lengths = dataset.lengths
    notes = [] if lengths is None else fitted.notes(lengths)
    say(f"{source.name}: {source.rows} rows of {kind.name}, column {chosen!r} ({reason}).")
    for note in (fitted.describe(), *dataset.notes, *notes, dataset.rejected.summary()):
        if note:
            say(note)
    return dataset


def _choose(source, modality, column: str | None, say: Callable[[str], None]) -> tuple[Any, str, str]:
    """(class of the modality, column, reason), of what was asked for or of what the content shows."""
    if column is not None:
        only = copy.copy(source)
        only.columns = {column: source.need(column)}
        source = only
    listed = ", ".join(f"{name!r} ({kind})" for name, kind in source.columns.items())
    if modality is not None:
        kind = find(modality) if isinstance(modality, str) else type(modality)
        guess = kind.sniff(source)
        if guess is None:
            raise RequestError(
                f"{source.name} holds no column of kind {kind.name!r}; it holds {listed}.",
                "Leave --modality out, or name another --column.",
            )
        return kind, guess.column, "as asked" if column else guess.reason
    found = sniff(source)
    if not found:
        raise DataError(
            f"{source.name} holds nothing that can be learned from: its columns are {listed}.",
            f"Kinds of data that are known: {', '.join(names())}.",
        )
    (kind, guess), *others = found
    for other, second in others:
        if second.column != guess.column:
            say(f"left aside: {other.name} in column {second.column!r} (--modality {other.name} takes it).")
    return kind, guess.column, "as asked" if column else guess.reason


def load(folder: str | Path) -> Any:
    """The modality object that was saved beside an encoder; ModelError where there is none that can be trusted."""
    name = files.read_json(Path(folder), "preprocessor.json").get("name")
    if not isinstance(name, str) or name not in names():
        raise ModelError(
            f"{str(folder)!r} is for data of kind {name!r}, which is not known here.", f"Known: {', '.join(names())}."
        )
    return find(name).load(folder)


def open_trained(name: str, modality: Any, *, wanted: Literal["auto", "features", "classes"] = "auto") -> Trained:
    """The trained network `name` as a distillation asks it (see _trained.open_trained)."""
    return _trained.open_trained(name, modality, load, wanted=wanted)
