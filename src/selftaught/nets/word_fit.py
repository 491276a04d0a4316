"""Word vectors from a packed corpus: counting, the passes over it in pieces and threads, and what a checkpoint of them holds.

One thread gives the same vectors wherever it is interrupted; several write to one table without locks, and do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core import Kept, RequestError, random
from . import word_files
from . import word_kernel as kernel
from .subwords import Subwords
from .word_corpus import Corpus, Piece
from .word_vectors import WordVectors

State = dict[str, Tensor]

PIECE = 1 << 21
"""Words between two states that are handed out."""
MOST_EPOCHS = 100.0
"""Passes that a budget in minutes buys at most."""
USUAL_EPOCHS = 5.0
LAST_RATE = 1e-4
"""Of the last word."""
TRIAL_SECONDS = 0.5
"""How long the calibration trains, at least."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be fitted; plain data."""

    way: Literal["skip-gram", "cbow", "subwords"]
    vocabulary: int
    specials: int
    dimensions: int = 100
    window: int = 5
    negatives: int = 5
    lr: float = 0.025
    sample: float = 1e-3
    min_count: int = 5
    epochs: float | None = None
    minutes: float | None = None
    threads: int = 1
    seed: int = 0
    subwords: Subwords | None = None
    smoothing: float = 0.0
    start: str | None = None

    def __post_init__(self):
        limits = {
            "dimensions": (1, 4096), "window": (1, kernel.WIDEST), "negatives": (1, 100), "lr": (0, 10), "sample": (0, 1),
            "min_count": (1, 1 << 40), "threads": (1, 1024), "smoothing": (0, 1),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise RequestError(f"{name} = {value} is not accepted.", f"Give a number from {low} to {high:,}.")
        if self.epochs is not None and not 0 <= self.epochs < 1e6:
            raise RequestError(f"epochs = {self.epochs} is no number of passes.", "Give a number that is not negative.")

    @property
    def width(self) -> int:
        """Numbers in a stored row: the dimensions, and zeros up to whole registers."""
        return -(-self.dimensions // kernel.LANES) * kernel.LANES


class Tables(NamedTuple):
    """What does not change while a corpus is fitted."""

    sampling: kernel.Sampling
    options: kernel.Options
    offsets: np.ndarray | None  # of subwords' rows
    rows: np.ndarray | None
    pieces: int  # the most that a word has


def tables(plan: Plan, counts: np.ndarray, horizon: float, words: list[str] | None) -> Tables:
    """The tables for a corpus with these `counts` that is passed for `horizon` words; `words` by id where subwords are asked for."""
    sampling = kernel.sampling(counts, sample=plan.sample)
    options = kernel.Options(
        plan.window, plan.negatives, float(plan.lr), float(min(plan.lr, LAST_RATE)), max(1.0, horizon)
    )
    if plan.subwords is None:
        return Tables(sampling, options, None, None, 0)
    assert words is not None
    known = [word if counts[i] else "" for i, word in enumerate(words)]
    ends, buckets = plan.subwords.table(known)
    own = np.arange(len(words))
    offsets = ends + np.arange(len(ends))
    rows = np.insert(buckets + np.int32(plan.vocabulary), ends[:-1], own).astype(np.int32)
    return Tables(sampling, options, offsets, rows, int(np.diff(offsets).max()))


def begin(plan: Plan) -> State:
    """Vectors before training: inputs uniform, as word2vec and fastText begin, outputs zero."""
    rows = plan.vocabulary + (plan.subwords.buckets if plan.subwords else 0)
    bound = 1 / plan.dimensions if plan.subwords else 0.5 / plan.dimensions
    inputs = torch.zeros(rows, plan.width)
    key = random.key(plan.seed, "word vectors")
    for some in torch.arange(rows).split(1 << 14):
        inputs[some, : plan.dimensions] = bound * (2 * random.uniform(key, some, (plan.dimensions,)) - 1)
    nothing = torch.zeros((), dtype=torch.float64)
    return {
        "inputs": inputs, "outputs": torch.zeros(plan.vocabulary, plan.width), "done": torch.tensor(0), "loss": nothing.clone(),
        "targets": nothing.clone(), "losses": torch.zeros(0, dtype=torch.float64),
    }  # fmt: skip


@dataclass
class Pass:
    """Trains `state` in place on pieces of a corpus."""

    plan: Plan
    tables: Tables
    state: State

    def run(self, piece: Piece, epoch: int, done: int) -> None:
        """One piece, of which the first is the `done`-th word of all; its losses are added to the state's.

        Threads take the next stretch when they have finished one; on one thread stretches follow each other, to the same bits
        however pieces are cut."""
        threads = self.plan.threads
        waiting = iter(piece.shares(1 if threads == 1 else 8 * threads))
        longest = int((piece.units[:, 1] - piece.units[:, 0]).max())
        key = np.uint64(random.key(self.plan.seed, "words", epoch))
        rooms = [kernel.room(longest, self.tables.options, self.plan.width, self.tables.pieces) for _ in range(threads)]

        def work(room: kernel.Room) -> None:
            for units, before in waiting:
                self._train(piece.ids, units, float(done + before), key, room)

        if threads == 1:
            work(rooms[0])
        else:
            with ThreadPoolExecutor(threads) as pool:
                for finished in [pool.submit(work, room) for room in rooms]:
                    finished.result()
        for room in rooms:
            loss, targets = room.loss
            self.state["loss"] += loss
            self.state["targets"] += targets

    def _train(self, ids: np.ndarray, units: np.ndarray, done: float, key: np.uint64, room: kernel.Room) -> None:
        inputs, outputs = self.state["inputs"].numpy(), self.state["outputs"].numpy()
        fixed, given = self.tables, (ids, units, done, inputs, outputs, self.tables.sampling, self.tables.options, key)
        if self.plan.way == "subwords":
            kernel.train_subwords(*given, room, fixed.offsets, fixed.rows)
        else:
            kernel.train(*given, room, self.plan.way == "cbow")


class Fitting:
    """The fit of one plan: what the methods cbow, skip-gram and fasttext share.

    words: gives the words by id, asked only where subwords are fitted.  `news` collects sentences to be said and figures to be written down."""

    def __init__(self, plan: Plan, words: Callable[[], list[str]]):
        self.plan, self.words = plan, words
        self.news: list[str | dict[str, float]] = []

    def run(self, data, state: State | None) -> Iterator[tuple[State, float]]:
        """Yields (state, fraction of the words) after every piece; goes on from a yielded state."""
        began = time.perf_counter()
        self.corpus = Corpus.of(data, self.plan.vocabulary, self.plan.specials, self.plan.min_count)
        spelled = self.words() if self.plan.subwords else None
        self.state = {k: v.clone() for k, v in state.items()} if state else self._begun()
        if "horizon" not in self.state:
            self.state["horizon"] = torch.tensor(self._horizon(began, spelled), dtype=torch.float64)
        horizon, done = float(self.state["horizon"]), int(self.state["done"])
        passing = Pass(self.plan, tables(self.plan, self.corpus.counts, horizon, spelled), self.state)
        while True:
            if done < horizon:
                since, epoch = time.perf_counter(), done // self.corpus.words
                piece = self.corpus.read(self._documents(done, horizon))
                passing.run(piece, epoch, done)
                done += len(piece.ids)
                self.state["done"] += len(piece.ids)
                if done % self.corpus.words == 0 or done >= horizon:
                    self._close(epoch, len(piece.ids) / (time.perf_counter() - since))
            yield {k: v.clone() for k, v in self.state.items()}, min(1.0, done / horizon) if horizon else 1.0
            if done >= horizon:
                return

    def told(self) -> list[str | dict[str, float]]:
        """The news since it was last asked."""
        news, self.news = self.news, []
        return news

    def _begun(self) -> State:
        """The state before training, with the vectors of `start` where there are any: of other widths they are refused."""
        state, plan = begin(self.plan), self.plan
        if plan.start is None:
            return state
        names, vectors = word_files.read(plan.start)
        if vectors.shape[1] != plan.dimensions:
            raise RequestError(
                f"{plan.start} holds vectors of {vectors.shape[1]} dimensions, not {plan.dimensions}.",
                f"Say --dimensions {vectors.shape[1]}.",
            )
        place = {name: i for i, name in enumerate(names)}
        ours = self.words()
        known = [i for i in range(plan.specials, len(ours)) if ours[i] in place and self.corpus.counts[i]]
        state["inputs"][known, : plan.dimensions] = torch.from_numpy(vectors[[place[ours[i]] for i in known]])
        self.news.append(
            f"begins with the vectors of {plan.start} for {len(known):,} of {int((self.corpus.counts > 0).sum()):,} words."
        )
        return state

    def _documents(self, done: int, horizon: float) -> np.ndarray:
        """The next documents of this epoch: about PIECE words, no more than are left until the horizon."""
        epoch, within = divmod(done, self.corpus.words)
        order = random.permutation(random.key(self.plan.seed, "documents", epoch), len(self.corpus.lengths)).numpy()
        ends = np.cumsum(self.corpus.lengths[order])
        first = int(np.searchsorted(ends, within, side="right"))
        last = int(np.searchsorted(ends, within + min(PIECE, horizon - done), side="left"))
        return order[first : last + 1]

    def _close(self, epoch: int, speed: float) -> None:
        """Ends an epoch: its mean loss a target goes to the log."""
        loss, targets = float(self.state["loss"]), float(self.state["targets"])
        mean = loss / max(1.0, targets)
        self.state["losses"] = torch.cat([self.state["losses"], torch.tensor([mean], dtype=torch.float64)])
        self.state["loss"].zero_()
        self.state["targets"].zero_()
        self.news.append({"loss": mean, "epoch": epoch + 1, "targets": targets, "words_per_second": round(speed)})

    def _horizon(self, began: float, spelled: list[str] | None) -> float:
        """Words in all epochs; minutes are worth what a short trial says, and what has passed since `began` counts towards them."""
        plan, words = self.plan, self.corpus.words
        if plan.epochs is not None or plan.minutes is None:
            epochs = USUAL_EPOCHS if plan.epochs is None else plan.epochs
            self.news.append(f"{epochs:g} epochs of {words:,} words{self._threads()}")
            return epochs * words
        speed = self._speed(spelled)
        left = max(0.0, 60 * plan.minutes - (time.perf_counter() - began))
        epochs = min(MOST_EPOCHS, left * speed / words)
        self.news.append(
            f"{plan.minutes:g} minutes: {epochs:.2f} epochs of {words:,} words, at {speed:,.0f} words a second here{self._threads()}"
        )
        return epochs * words

    def _threads(self) -> str:
        if self.plan.threads == 1:
            return " on one thread: a seed gives the same vectors again."
        return f" on {self.plan.threads} threads without locks: a seed gives like vectors, not the same (--workers 1 does)."

    def _speed(self, spelled: list[str] | None) -> float:
        """Words a second, from a trial on a copy; compiling comes first and does not count."""
        size, trial = 2000, begin(self.plan)
        passing = Pass(self.plan, tables(self.plan, self.corpus.counts, self.corpus.words, spelled), trial)
        order = self._documents(0, float(PIECE))
        ends = np.cumsum(self.corpus.lengths[order])
        while True:
            piece = self.corpus.read(order[: int(np.searchsorted(ends, size)) + 1])
            since = time.perf_counter()
            passing.run(piece, 0, 0)
            passed = time.perf_counter() - since
            if size > 2000 and (passed > TRIAL_SECONDS or size > ends[-1]):
                return len(piece.ids) / passed
            size *= 10 if size == 2000 else 2

    def kept(self) -> Kept:
        """The encoder: a vector for each word that occurred often enough, and the subwords' for others."""
        plan, inputs = self.plan, self.state["inputs"]
        encoder = WordVectors(
            vocabulary=plan.vocabulary, width=plan.dimensions, specials=plan.specials, smoothing=plan.smoothing,
            buckets=plan.subwords.buckets if plan.subwords else 0, **self._lengths(),
        )  # fmt: skip
        counts = torch.from_numpy(self.corpus.counts)
        vectors = inputs[: plan.vocabulary, : plan.dimensions]
        if plan.subwords:
            fixed = tables(plan, self.corpus.counts, 1.0, self.words())
            assert fixed.rows is not None
            assert fixed.offsets is not None
            rows, offsets = torch.from_numpy(fixed.rows).long(), torch.from_numpy(fixed.offsets)
            vectors = torch.nn.functional.embedding_bag(rows, inputs, offsets[:-1], mode="mean")[:, : plan.dimensions]
            met = torch.zeros(len(inputs), dtype=torch.bool)
            met[rows[torch.repeat_interleave(counts > 0, offsets.diff())]] = True
            encoder.get_buffer("subwords").copy_((inputs * met[:, None])[plan.vocabulary :, : plan.dimensions])
        with torch.no_grad():
            encoder.embedding.weight.copy_(vectors * (counts > 0)[:, None])
        encoder.get_buffer("frequency").copy_(counts / counts.sum())
        return Kept(encoder)

    def _lengths(self) -> dict[str, int]:
        found = self.plan.subwords
        return {"shortest": found.shortest, "longest": found.longest} if found else {}
