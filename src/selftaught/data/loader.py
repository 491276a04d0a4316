"""The sampler, a pure function of (seed, epoch, position), and the loader that fetches ahead of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..core import RequestError, View, random
from .dataset import Dataset

Step: TypeAlias = tuple[int, Tensor, dict[str, View]]
PARTNERS = ("one", "next", "other document", "same group")


class Sampler:
    """Which rows a step sees: place `k * batch + i` of epoch e is place i of step e * per_epoch + k.

    Every row at most once an epoch; the rest, shorter than a batch, is left out of that epoch (another rest each epoch).
    Costs 16 bytes a row and one sort an epoch.
    """

    def __init__(self, rows: int, batch: int, seed: int):
        if batch < 1 or batch > rows:
            raise RequestError(
                f"A batch of {batch} rows cannot be drawn from {rows}.",
                f"Set the batch to a number from 1 to {rows} (--set recipe.batch=N).",
            )
        self.rows, self.batch, self.seed = rows, batch, seed
        self.per_epoch = rows // batch
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def order(self, epoch: int) -> Tensor:
        """(rows,) int64: the permutation of an epoch."""
        held, order = self._epoch, self._order
        if held != epoch:
            order = random.permutation(random.key(self.seed, "sampler", epoch), self.rows)
            self._order, self._epoch = order, epoch
        return order

    def places(self, step: int) -> Tensor:
        """(batch,) int64: the places in the dataset that a step sees."""
        epoch, k = divmod(step, self.per_epoch)
        return self.order(epoch)[k * self.batch : (k + 1) * self.batch]


class Partners:
    """For each row another one: the next of its group, one of another group, one of the same group.

    Groups are documents, clips, patients; without them the whole set is one document for "next", and every row is its
    own for "other document".  The last row of a group is followed by its first; a row alone in its group is its own
    partner.  A pure function of (seed, step, row id).
    """

    def __init__(self, rows: int, groups: np.ndarray | None):
        self.rows, self.grouped = rows, groups is not None
        codes = np.zeros(rows, np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
        self._by_group = torch.from_numpy(np.argsort(codes, kind="stable"))
        counts = np.bincount(codes, minlength=1)
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._first, self._count = torch.from_numpy(first[codes]), torch.from_numpy(counts[codes])
        rank = np.empty(rows, np.int64)
        rank[self._by_group.numpy()] = np.arange(rows)
        self._rank = torch.from_numpy(rank) - self._first

    def follows(self, places: Tensor) -> Tensor:
        """(B,) bool: whether the "next" row really is the next one; the last of a group is followed by its first."""
        return self._rank[places] + 1 < self._count[places]

    def of(self, kind: str, places: Tensor, draw: Tensor) -> Tensor:
        """(B,) places of the partners; `draw` (B,) int64 random bits, one a row."""
        bits = (draw >> 1) & ((1 << 62) - 1)
        first, count, rank = self._first[places], self._count[places], self._rank[places]
        if kind == "next":
            return self._by_group[first + (rank + 1) % count]
        if kind == "same group":
            step = 1 + bits % (count - 1).clamp_min(1)
            return self._by_group[first + (rank + step * (count > 1)) % count]
        if not self.grouped:
            return (places + 1 + bits % (self.rows - 1)) % self.rows
        others = self.rows - count
        at = bits % others.clamp_min(1)
        return self._by_group[torch.where(at < first, at, at + count) % self.rows]


class Loader:
    """Batches for ever: `(step, index, {rows: raw view})`, a pure function of (seed, step), from `start_step` on.

    `index` (B,) int64 are stable row ids (`dataset.ids`); `rows` names what is fetched for each of them: "one" is the row
    itself, "next", "other document" and "same group" are partner rows, by `groups` (len(dataset),)
    or, where None, by what looks like a group in the data.  The view of "next" has the param "follows" (B,) bool, False where the
    row is the last of its group (its partner is then the first).  `batch` counts over
    all ranks; rank r gets the r-th contiguous slice.  `threads` fetch whole steps ahead and change no batch; 0 fetches in
    the caller's thread.  Beginning at a later step reads nothing before it.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        threads: int | None = None,
        start_step: int = 0,
        rows: Sequence[str] = ("one",),
        groups: np.ndarray | None = None,
    ):
        if batch % world or not 0 <= rank < world:
            raise RequestError(
                f"A batch of {batch} rows cannot be cut for {world} processes.", "Use a multiple of the processes."
            )
        for kind in rows:
            if kind not in PARTNERS:
                raise ValueError(f"rows {kind!r}; accepted: {PARTNERS}")
        if groups is None and set(rows) - {"one"}:
            groups = dataset.groups()
        if "same group" in rows and groups is None:
            raise RequestError(
                "Rows of the same group are asked for, and the data have no groups.", "Name the column with --groups."
            )
        if groups is not None and "next" in rows and len(np.unique(groups)) == len(groups):
            raise RequestError(
                "The next row of each group is asked for, and every row is alone in its group.",
                "Name the column of the document that rows belong to (--group), or leave it out where rows are documents.",
            )
        if groups is not None and "other document" in rows and len(np.unique(groups)) < 2:
            raise RequestError(
                "Rows of another document are asked for, and there is one only.", "Give several documents."
            )
        if "other document" in rows and len(dataset) < 2:
            raise RequestError("Rows of another document are asked for, and there is one row.", "Give more data.")
        self.dataset, self.start_step = dataset, start_step
        self.sampler = Sampler(len(dataset), batch, seed)
        self.threads = 1 if threads is None else threads
        self._slice = slice(rank * (batch // world), (rank + 1) * (batch // world))
        self._seed, self._rows = seed, tuple(dict.fromkeys(rows))
        self._partners = Partners(len(dataset), groups) if set(self._rows) - {"one"} else None
        self._ids = torch.from_numpy(np.ascontiguousarray(dataset.ids))
        self._live: list[Generator[Step]] = []
        self._began: float | None = None
        self._waited = 0.0

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch."""
        return self.sampler.per_epoch

    @property
    def wait(self) -> float:
        """The share of the time since the first batch was asked for that the consumer spent waiting for data, in 0-1."""
        if self._began is None:
            return 0.0
        return min(1.0, self._waited / max(1e-9, time.perf_counter() - self._began))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads of every iteration that was begun."""
        while self._live:
            self._live.pop().close()

    def step(self, step: int) -> Step:
        """One step's batch of this rank, fetched now."""
        return self._fetch(step, self.sampler.places(step)[self._slice])

    def _fetch(self, step: int, places: Tensor) -> Step:
        ids = self._ids[places]
        views = {}
        for kind in self._rows:
            asked = places
            if self._partners is not None and kind != "one":
                asked = self._partners.of(kind, places, random.bits(random.key(self._seed, step, kind), ids))
            views[kind] = self.dataset.fetch(asked)
            if self._partners is not None and kind == "next":
                views[kind] = replace(views[kind], params={"follows": self._partners.follows(places)})
        return step, ids, views

    def __iter__(self) -> Iterator[Step]:
        self._live.append(self._timed())
        return self._live[-1]

    def _timed(self) -> Generator[Step]:
        fetched = self._in_turn() if self.threads < 1 else self._ahead()
        try:
            while True:
                asked = time.perf_counter()
                self._began = asked if self._began is None else self._began
                item = next(fetched)
                self._waited += time.perf_counter() - asked
                yield item
        finally:
            fetched.close()

    def _in_turn(self) -> Generator[Step]:
        step = self.start_step
        while True:
            yield self.step(step)
            step += 1

    def _ahead(self) -> Generator[Step]:
        pending: deque[Future[Step]] = deque()
        step = self.start_step
        with ThreadPoolExecutor(self.threads, "loader") as pool:
            try:
                while True:
                    while len(pending) < self.threads + 1:
                        places = self.sampler.places(step)[self._slice]  # here, so that an epoch is sorted once
                        pending.append(pool.submit(self._fetch, step, places))
                        step += 1
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
