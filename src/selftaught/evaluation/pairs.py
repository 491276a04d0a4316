"""Opening pairs: two columns side by side with their numbers, and a split in which no text stands on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import modalities
from ..core import DataError, RequestError
from ..core.listener import Listener
from ..data import Aligned, Labels, open_source, splits
from ..data.sniff import guess_label
from ..data.source import Source
from ..tasks.similarity import Similarity
from .protocol import HELD_OUT, VALIDATION
from .statistics import units

LEAST = 10
"""Labelled pairs on each side of the split, at least."""


@dataclass(frozen=True)
class PairProblem:
    """A task of pairs with its split: `pool` holds the labelled pairs that are not tested."""

    task: Similarity
    pool: Aligned
    labels: np.ndarray  # float64, of the pool
    train: np.ndarray  # places in the pool
    validation: np.ndarray
    test: Aligned
    targets: np.ndarray
    groups: np.ndarray | None
    """(test rows,) pairs that share a text: they are resampled together (where there are several such)."""
    repeated: int
    """Test pairs of which the pool holds a text (where the test set is one's own)."""
    notes: tuple[str, ...] = ()


def open_pairs(
    spec, columns: Sequence[str], modality, listener: Listener, max_bad: float = 0.01, flag: str = "--columns first second"
) -> Aligned:  # fmt: skip
    """The two columns of `spec` (named, or the two that hold texts), packed as `modality` has it; `flag` is how a remedy says to name them."""
    if isinstance(spec, Aligned):
        return spec
    source = spec if isinstance(spec, Source) else open_source(spec)
    if not columns:
        columns = source.of_kind("text")
        if len(columns) != 2:
            raise RequestError(
                f"{source.name} has {len(columns)} columns of texts ({', '.join(columns) or 'none'}); a pair takes two.",
                f"Name them: {flag}.",
            )
    if len(columns) != 2 or columns[0] == columns[1]:
        raise RequestError(f"{', '.join(columns)}: these name no pair.", f"Name two columns: {flag}.")
    for name in columns:
        source.need(name)
    kind = modality if modality is not None else modalities.find("text").fit(source, columns[0])
    listener.say(f"{source.name}: {source.rows} pairs, columns {columns[0]!r} and {columns[1]!r}.")
    return Aligned.open(source, dict(zip(("first", "second"), columns, strict=True)), kind, max_bad=max_bad)


def prepare(
    data: Aligned, test: Aligned | None, labels: str | np.ndarray | None, seed: int, group: str | None = None
) -> PairProblem:  # fmt: skip
    """The split of `data` into training, validation and (without a `test` of one's own) test pairs.

    Pairs that share a text with one another, through however many others, or a value of the column `group`, stay on one side.  Raises DataError where a side has fewer than ten
    labelled pairs."""
    known = _numbers(data, labels)
    tied = _tied(data, group)
    parts = {"train": 1 - VALIDATION, "validation": VALIDATION}
    if test is None:
        parts = {name: share * (1 - HELD_OUT) for name, share in parts.items()} | {"test": HELD_OUT}
    where = splits.split(len(data), parts, seed=seed, groups=tied)
    where = {name: rows[known.known[rows]] for name, rows in where.items()}
    repeated = 0
    if test is None:
        tested, truth = data.subset(where["test"]), known.values[where["test"]]
    else:
        theirs = _numbers(test, known.column if isinstance(labels, str | type(None)) else labels)
        tested, truth = test.subset(theirs.known), theirs.values[theirs.known]
        seen = np.unique(np.concatenate([data.contents(role) for role in data.parts]).astype(str))
        found = [np.isin(tested.contents(role).astype(str), seen) for role in tested.parts]
        repeated = int(np.logical_or(*found).sum())
    pool = np.sort(np.concatenate([where["train"], where["validation"]]))
    place = np.full(len(data), -1)
    place[pool] = np.arange(len(pool))
    few = [n for n, rows in {**where, "test": truth}.items() if len(rows) < LEAST]
    if few:
        raise DataError(f"The {few[0]} side holds fewer than {LEAST} labelled pairs.", "Give more labelled pairs.")
    task = _task(known.values[where["train"]], [part.column for part in data.parts.values()])
    notes = [f"labels: column {known.column!r}, {int(known.known.sum())} of {len(known)} pairs have a number."]
    return PairProblem(
        task, data.subset(pool), known.values[pool], place[where["train"]], place[where["validation"]], tested, truth,
        units(_tied(tested, group), notes.append, group or "text"), repeated, tuple(notes),
    )  # fmt: skip


def _task(values: np.ndarray, columns: Sequence[str]) -> Similarity:
    """The task of these training numbers."""
    made = {"mean": float(values.mean()), "scale": float(values.std()) or 1.0}
    return Similarity(**made, low=float(values.min()), high=float(values.max()), first=columns[0], second=columns[1])  # type: ignore[call-arg]


def _tied(data: Aligned, group: str | None) -> np.ndarray:
    """(rows,) pairs with one number belong together: they share a text, or the value of a column that was named."""
    shared = shared_texts([data.contents(role) for role in data.parts])
    return shared if group is None else splits.units(len(data), shared, data.first.groups(group))


def shared_texts(contents: list[np.ndarray]) -> np.ndarray:
    """(rows,) int64: rows have one number where they share a text, directly or through others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = len(contents[0])
    _, code = np.unique(np.concatenate(contents).astype(str), return_inverse=True)
    texts = int(code.max()) + 1
    row = np.tile(np.arange(rows), len(contents))
    graph = coo_array((np.ones(len(row)), (row, rows + code)), shape=(rows + texts, rows + texts))
    return connected_components(graph, directed=False)[1][:rows].astype(np.int64)


def _numbers(data: Aligned, labels: str | np.ndarray | None) -> Labels:
    if labels is None:
        guess = guess_label(data.first.source)
        labels = guess[0] if guess else None
    if isinstance(labels, str | type(None)):
        return data.labels(labels, "number")
    values = np.asarray(labels, np.float64)
    if values.shape != (len(data),):
        raise RequestError(f"{len(values)} labels for {len(data)} pairs.", "Give one number a pair.")
    return Labels(values, None)
