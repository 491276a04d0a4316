"""A dataset: rows of one modality by number, with their names, labels and groups, packed or decoded as they are asked for."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..core import DataError, Ragged, RequestError, View
from . import cache
from .arrays import Arrays, plain_list
from .bad import Bad, Rejected
from .encoded import Encoded, encode
from .fingerprint import of_parts
from .label_sets import make_label_columns, make_label_sets
from .labels import Labels, make_labels
from .sniff import guess_group, guess_label
from .source import Source
from .store import Progress, Store, estimate, in_memory, pack


class Dataset:
    """Rows of one modality.  Made by `Dataset.open`, `Dataset.from_arrays`, or `modalities.open_data`.

    A row's id is its place among the usable rows of the whole set; it stays with the row in every subset (`ids`).
    `fetch`, `names` and `Labels.values` go by place in this dataset, 0 to len - 1.
    """

    def __init__(self, modality, source: Source, column: str, held: Store | Encoded, ids: np.ndarray | None = None):
        self.modality = modality
        self.source = source
        self.column = column
        self.ids: np.ndarray = np.arange(len(held)) if ids is None else ids
        """(len,) int64: the stable id of each row."""
        self.notes: list[str] = list(source.notes)
        """Sentences on what was taken and how it is held, to be said aloud."""
        self._held = held
        self._values: dict[str, np.ndarray] = {}

    @classmethod
    def open(
        cls,
        source: Source,
        column: str,
        modality,
        *,
        stream: bool | None = None,
        max_bad: float = 0.01,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> Dataset:
        """Packs a column of a source (or opens what was packed before) and sets bad rows apart.

        `stream`: True leaves rows encoded and decodes them ahead in threads; None does so where the disk has no room for
        the packed rows; False insists on packing.  Either way every row is decoded once before training, so that bad rows
        are known.  Rows that are in memory already stay there, where they take at most a quarter of it.  Raises DataError where more than the share `max_bad` of the rows is bad, or the disk is full.
        """
        source.need(column)
        note, needed = "", estimate(source, column, modality)
        small = source.resident and not stream and needed <= cache.memory_bytes() // 4
        if stream is None and not small:
            free = cache.free_bytes(cache.cache_folder())
            stream = needed > free
            if stream:
                note = f"left encoded: packed, the data need {cache.say_bytes(needed)}, and {cache.say_bytes(free)} are free"
        held: Store | Encoded
        if small:
            held = in_memory(source, column, modality, threads=threads, progress=progress)
        elif stream:
            held = encode(source, column, modality, threads=threads, progress=progress)
        else:
            held = pack(source, column, modality, threads=threads, progress=progress)
        held.rejected.check(max_bad)
        dataset = cls(modality, source, column, held)
        dataset.notes += [note] * bool(note)
        return dataset

    @classmethod
    def from_arrays(
        cls,
        rows: np.ndarray | Sequence,
        modality,
        *,
        labels: np.ndarray | Sequence | None = None,
        columns: dict[str, Any] | None = None,
        max_bad: float = 0.01,
    ) -> Dataset:
        """A dataset in memory: images (N, H, W[, C]) uint8, a list of texts, or a list of arrays; with optional columns."""
        more = dict(columns or {}) | ({} if labels is None else {"label": labels})
        more = {name: plain_list(held) for name, held in more.items()}
        source = Arrays("data in memory", {"data": rows, **more})
        if "data" not in source.columns:
            raise RequestError(
                f"These rows cannot be used: {'; '.join(source.notes)}.", "Give images, texts or series."
            )
        if source.columns["data"] == "category":
            source.columns["data"] = "text"
        held = in_memory(source, "data", modality)
        held.rejected.check(max_bad)
        return cls(modality, source, "data", held)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def columns(self) -> dict[str, str]:
        """{name: kind} of the source's columns."""
        return dict(self.source.columns)

    @property
    def rejected(self) -> Rejected:
        """The rows set apart: dicts {"row", "name", "reason"}; `.summary()`, `.kinds()`, `.write(path)`."""
        return self._held.rejected

    @property
    def streamed(self) -> bool:
        """Whether rows are decoded as they are asked for."""
        return isinstance(self._held, Encoded)

    @property
    def lengths(self) -> np.ndarray | None:
        """(len,) int64: the lengths of packed rows that differ in it; None for rows of one shape, or streamed ones."""
        if isinstance(self._held, Encoded) or self._held.offsets is None:
            return None
        return np.diff(self._held.offsets)[self.ids]

    @property
    def fingerprint(self) -> str:
        """A hash of the content, the modality's settings and the rows of this (sub)set."""
        whole = len(self) == len(self._held) and bool((self.ids == np.arange(len(self))).all())
        part = "all" if whole else hashlib.blake2b(self.ids.tobytes(), digest_size=16).hexdigest()
        return of_parts(self.source.fingerprint(), self.column, self.modality.config(), part)

    def fetch(self, index: np.ndarray | Tensor | Sequence[int]) -> View:
        """The raw view of the rows `index`, in that order."""
        return self.modality.collate(self.rows(index))

    def rows(self, index: np.ndarray | Tensor | Sequence[int]) -> np.ndarray | Ragged:
        """The stored rows `index`: (n, *shape), or Ragged tensors."""
        return self._held.take(self.ids[_places(index, len(self))])

    def names(self, index: np.ndarray | Tensor | Sequence[int] | None = None) -> list[str]:
        """Where rows lie: file names, or "file:row"."""
        places = np.arange(len(self)) if index is None else _places(index, len(self))
        return [self.source.row_name(row) for row in self._rows_of_source(places).tolist()]

    def payload(self, place: int):
        """The row as it lies in the source: bytes, str or array.  For thumbnails and neighbours, not for training."""
        row = self._rows_of_source(_places([place], len(self)))
        found = next(self.source.payloads(self.column, row))
        if isinstance(found, Bad):
            raise DataError(f"{self.names([place])[0]} can no longer be read: {found.reason}.", "Put the data back.")
        return found

    def locate(self, ids: np.ndarray | Tensor) -> np.ndarray:
        """The places in this dataset of rows with these ids (`index` of a batch); KeyError where one is not in it."""
        ids = np.asarray(ids)
        order = np.argsort(self.ids, kind="stable")
        at = np.searchsorted(self.ids, ids, sorter=order).clip(max=len(order) - 1)
        places = order[at]
        if not (self.ids[places] == ids).all():
            raise KeyError("some of these rows are not in this dataset")
        return places

    def subset(self, index: np.ndarray | Tensor | Sequence[int]) -> Dataset:
        """The rows `index` as a dataset of their own; nothing is copied, and ids stay."""
        out = Dataset(self.modality, self.source, self.column, self._held, self.ids[_places(index, len(self))])
        out.notes, out._values = self.notes, self._values
        return out

    def values(self, column: str) -> np.ndarray:
        """(len,) of a small column: int64, float64 (NaN where missing) or object (str, None where missing)."""
        return self._whole(column)[self._rows_of_source(np.arange(len(self)))]

    def labels(self, column: str | None = None, kind: Literal["class", "number", "set"] | None = None) -> Labels:
        """The labels of these rows; classes are those of the whole set, so that subsets agree on codes.

        `column` None takes what looks like a label (`guess_label`; say it aloud).  kind "set": a row may have several, listed in
        the column, or in columns of 0 and 1 (`column` "a,b,c" or "tag_*"); a column of lists is read so without being asked.
        Raises RequestError where there is no such column, DataError where it cannot serve as labels.
        """
        if column is None:
            guess = guess_label(self.source)
            if guess is None:
                listed = ", ".join(self.source.of_kind("category", "integer", "number", "labels")) or "none"
                raise RequestError(
                    f"No column of {self.name} looks like a label.",
                    f"Name one with --labels; columns that could be: {listed}.",
                )
            column = guess[0]
        if kind == "set" or self.columns.get(column) == "labels":
            return self._label_sets(column).take(self.ids)
        whole = make_labels(self._whole(column)[self._held.kept], column, kind)
        return whole.take(self.ids)

    def _label_sets(self, column: str) -> Labels:
        kept = self._held.kept
        if column not in self.columns and (named := self._matching(column)):
            return make_label_columns({name: self._whole(name)[kept] for name in named})
        if self.source.need(column) in ("image", "sound", "binary"):
            raise RequestError(f"Column {column!r} holds payloads, not labels.", "Name another column.")
        return make_label_sets(self.source.sets(column)[kept], column)

    def _matching(self, spec: str) -> list[str]:
        """The columns that "a,b,c" or "tag_*" means; none where a part of it is no column."""
        found = [fnmatch.filter(self.columns, part.strip()) for part in spec.split(",")]
        return list(dict.fromkeys(name for names in found for name in names)) if all(found) else []

    def groups(self, column: str | None = None, *, but: str | None = None) -> np.ndarray | None:
        """(len,) int64: which rows belong together (patient, speaker, document); rows without a group are their own.

        `column` None takes what looks like a group, other than the column `but` (what is to be told apart is no group); None where nothing does.
        """
        if column is None:
            guess = guess_group(self.source, but)
            if guess is None:
                return None
            column = guess[0]
        values = self._whole(column)[self._held.kept]
        names = [f"\x00{i}" if v is None or v != v else str(v) for i, v in enumerate(values.tolist())]
        return np.unique(names, return_inverse=True)[1].astype(np.int64)[self.ids]

    def _whole(self, column: str) -> np.ndarray:
        kind = self.source.need(column)
        if kind not in ("category", "integer", "number", "text"):
            raise RequestError(
                f"Column {column!r} holds {kind} payloads, not labels or groups.", "Name another column."
            )
        if column not in self._values:
            self._values[column] = self.source.values(column)
        return self._values[column]

    def source_rows(self, places: np.ndarray | None = None) -> np.ndarray:
        """Which rows of the source these places (default: all) are: rows that were set apart leave gaps."""
        return self._rows_of_source(np.arange(len(self)) if places is None else _places(places, len(self)))

    def _rows_of_source(self, places: np.ndarray) -> np.ndarray:
        return self._held.kept[self.ids[places]]


def _places(index: np.ndarray | Tensor | Sequence[int] | Iterable[int], rows: int) -> np.ndarray:
    places = index.cpu().numpy() if isinstance(index, torch.Tensor) else np.asarray(index)
    if places.dtype == bool:
        places = np.flatnonzero(places)
    places = places.astype(np.int64, copy=False)
    if len(places) and (places.min() < 0 or places.max() >= rows):
        raise IndexError(f"rows {places.min()} to {places.max()} asked of {rows}")
    return places
