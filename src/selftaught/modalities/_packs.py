"""Texts as packed sequences: what language models train on, so that no step is spent on padding."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch

from ..core import Ragged, View, random
from ..data import packing
from ..views.text import BEGIN, END, PACKED, PAD


class Packed:
    """Sequences of a dataset's texts, with the length and `fetch` of a dataset; ids number the sequences.

    A raw view has role "packed" and the parts ids (B, context) int64, valid; where documents cannot see one another ("isolated") also
    segment, 1, 2, ... within a sequence and 0 where it is empty, and position, from 0 in each.  Marks stand in it already.
    """

    def __init__(self, dataset: Any, way: str, plan: packing.Plan, join: int | None):
        self.dataset, self.modality, self.way, self.plan, self.join = dataset, dataset.modality, way, plan, join
        self.ids = np.arange(len(plan))

    @classmethod
    def of(cls, dataset: Any, way: str, seed: int) -> Packed:
        """Lines of one document (column "document") follow one another with a line break between them, where the tokenizer has one."""
        modality = dataset.modality
        lengths = dataset.lengths
        if lengths is None:
            lengths = np.array([len(r) for r in _rows_of(dataset.rows(np.arange(len(dataset))))], np.int64)
        documents = dataset.values("document") if "document" in dataset.columns else None
        breaks = [int(i) for i in modality.bpe.encode("\n", add_special_tokens=False).ids if i >= modality.specials]
        join = breaks[0] if len(breaks) == 1 and documents is not None else None
        order = random.permutation(random.key(seed, "packing"), len(dataset)).numpy()
        made = packing.plan(
            lengths, modality.context, way, documents=documents, join=int(join is not None), order=order
        )
        return cls(dataset, way, made, join)

    def __len__(self) -> int:
        return len(self.plan)

    @property
    def fingerprint(self) -> str:
        """A hash of the rows and of where they stand."""
        digest = hashlib.blake2b(self.plan.spans.tobytes(), digest_size=16)
        digest.update(self.plan.pieces.tobytes())
        return f"{self.dataset.fingerprint}-{self.way}-{digest.hexdigest()}"

    def describe(self) -> str:
        """One line in words."""
        apart = "documents do not see one another" if self.way == "isolated" else "documents follow one another"
        return (
            f"packed: {len(self.dataset)} texts in {len(self)} sequences of {self.plan.context} tokens, {self.plan.filled:.1%} filled; {apart} "
            "(--packing isolated, bos_bestfit or none)"
        )

    def groups(self, column: str | None = None) -> None:
        """Sequences have none: their documents may be of several groups."""
        return None

    def fetch(self, index: np.ndarray | torch.Tensor) -> View:
        """The raw view of the sequences `index`, in that order."""
        index, plan = np.asarray(index, np.int64), self.plan
        ids = np.full((len(index), plan.context), PAD, np.int64)
        segment, position = np.zeros_like(ids), np.zeros_like(ids)
        row, number = _members(plan.piece_of, index)
        place, length, ends = plan.pieces[number].T
        flat, step = _runs(row * plan.context + place, length)
        ids.reshape(-1)[flat] = PAD if self.join is None else self.join
        position.reshape(-1)[flat] = step
        segment.reshape(-1)[flat] = np.repeat(number - plan.piece_of[index][row] + 1, length)
        ids[row, place] = BEGIN
        ids[row[ends > 0], (place + length - 1)[ends > 0]] = END
        row, number = _members(plan.span_of, index)
        source, first, count, place = plan.spans[number].T
        rows, which = np.unique(source, return_inverse=True)
        held = _ragged(self.dataset.rows(rows))
        values, _ = _runs(held.offsets.numpy()[which] + first, count)
        flat, _ = _runs(row * plan.context + place, count)
        ids.reshape(-1)[flat] = held.values.numpy()[values]
        parts: dict[str, torch.Tensor | Ragged] = {"ids": torch.from_numpy(ids), "valid": torch.from_numpy(segment > 0)}
        if self.way == "isolated":
            parts |= {"segment": torch.from_numpy(segment), "position": torch.from_numpy(position)}
        return View(self.modality.name, PACKED, parts)


def _members(offsets: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row of the batch, number) of everything that belongs to the sequences `index`."""
    counts = offsets[index + 1] - offsets[index]
    number, _ = _runs(offsets[index], counts)
    return np.repeat(np.arange(len(index)), counts), number


def _runs(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(start, start + 1, ... of each run one after the other; the place within each run)."""
    total = int(counts.sum())
    step = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(starts, counts) + step, step


def _ragged(rows: np.ndarray | Ragged) -> Ragged:
    if isinstance(rows, Ragged):
        return rows
    offsets = torch.arange(0, rows.size + 1, rows.shape[1] if rows.size else 1)
    return Ragged(torch.from_numpy(rows.reshape(-1)), offsets)


def _rows_of(rows: np.ndarray | Ragged) -> list:
    held = _ragged(rows)
    return [held.values[a:b] for a, b in zip(held.offsets[:-1], held.offsets[1:], strict=True)]
