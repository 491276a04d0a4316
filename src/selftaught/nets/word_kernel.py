"""Negative sampling over a corpus of ids, compiled: skip-gram, CBOW and skip-gram over subwords, as word2vec and fastText define them.

Source: Mikolov, Sutskever, Chen, Corrado & Dean 2013 (arXiv:1310.4546) and their word2vec.c; Bojanowski, Grave, Joulin & Mikolov 2017
(arXiv:1607.04606).  In this order: words are left out at random (rare ones always), then a window is laid over those that remain; its
half-width is drawn from 1 to `window`; the words around a centre predict it against negatives drawn by count^0.75, never the centre itself.

The words of one window share their centre's negatives, and all their scores are taken at once from the vectors as they stood before (Ji et
al. 2016, see word_block): with five negatives a step is a product with six rows.  Every score has its exact gradient: there is no
table of sigmoids, and nothing is clipped.

Every draw is a function of (key, place in the corpus), so that one thread gives the same bits wherever it is cut and begun again.  Several
threads write to the same rows without locks (Niu et al. 2011, Hogwild): what two of them write at one moment differs from run to run.

Legend: V words, W width (a multiple of LANES, zeros behind the dimensions), K negatives.  Addresses are int64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from .word_block import GROUP, LANES, combine, dots, prefetch, slopes, spread_difference, update

ALWAYS = 1 << 31
"""The threshold at which a word always stays."""
WIDEST = 400
"""The largest window: 1,000 rows are what a product of losses holds."""
AHEAD = 64
"""Centres whose negatives are drawn at once."""
_FACTORS = 1000
_LINE = 128  # bytes: two cache lines, which processors fetch together
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MUL1, _MUL2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Sampling(NamedTuple):
    """What words stay and are drawn by."""

    keep: np.ndarray  # (V,) uint32: a word stays where 31 random bits are below; 0 never, ALWAYS always
    bound: np.ndarray  # (V,) uint32 and
    other: np.ndarray  # (V,) int32: Walker's alias table of negatives
    common: np.ndarray  # (2,) int64: the two most frequent words


class Options(NamedTuple):
    """What a pass over the corpus is told."""

    window: int
    negatives: int
    rate: float  # of the first word; it falls linearly
    last_rate: float
    words: float  # in all epochs together, over which the rate falls


class Room(NamedTuple):
    """A thread's own memory."""

    kept: np.ndarray
    places: np.ndarray
    targets: np.ndarray
    sources: np.ndarray
    scores: np.ndarray
    hidden: np.ndarray
    lists: np.ndarray
    tally: np.ndarray  # loss, the sums and products of `slopes`, number of targets

    @property
    def loss(self) -> tuple[float, int]:
        """(sum of the targets' losses, number of targets) since it was made."""
        return float(self.tally[0]), int(self.tally[-1])


def _apart(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Zeros that share no cache line with anything else: threads that write beside one another would wait for each other at every write."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 2 * _LINE, np.uint8)
    first = -memory.ctypes.data % _LINE
    return memory[first : first + size].view(dtype).reshape(shape)


def room(longest: int, options: Options, width: int, pieces: int = 0) -> Room:
    """For units of up to `longest` words, and words of up to `pieces` subwords."""
    groups, ring = options.negatives // GROUP + 1, 2 * options.window + 1
    tally = _apart((2 + 2 * LANES,), np.float64)
    tally[1 + LANES : -1] = 1
    return Room(
        _apart((longest,), np.int64), _apart((longest,), np.int64), _apart((AHEAD * groups * GROUP,), np.int64), _apart((ring,), np.int64),
        _apart((ring, LANES), np.float32), _apart((2 * ring if pieces else 3, width), np.float32), _apart((max(2, pieces),), np.int64), tally,
    )  # fmt: skip


def sampling(counts: np.ndarray, *, sample: float, power: float = 0.75) -> Sampling:
    """The tables for words that occur `counts` (V,) times; those with a count of 0 are left out everywhere.  ValueError for fewer than two.

    A word of frequency f stays with probability (sqrt(f / sample) + 1) sample / f (word2vec.c); sample = 0 keeps all."""
    seen = counts > 0
    if seen.sum() < 2:
        raise ValueError("negatives need two words")
    share = np.ones(len(counts))
    if sample > 0:
        wanted = sample * counts.sum()
        share[seen] = np.minimum(1, (np.sqrt(counts[seen] / wanted) + 1) * wanted / counts[seen])
    keep = np.where(seen, np.ceil(share * ALWAYS), 0).astype(np.uint32)
    weight = np.where(seen, counts, 1).astype(np.float64) ** power * seen
    common = np.argsort(-counts, kind="stable")[:2].astype(np.int64)
    return Sampling(keep, *_alias(weight / weight.sum()), common)


def _alias(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Walker's table (Vose 1991): a uniform place is itself where 32 random bits are below its bound, else the other."""
    scaled = probability * len(probability)
    other = np.arange(len(probability), dtype=np.int32)
    small, large = list(np.flatnonzero(scaled < 1)), list(np.flatnonzero(scaled >= 1))
    while small and large:
        low, high = small.pop(), large[-1]
        other[low] = high
        scaled[high] -= 1 - scaled[low]
        if scaled[high] < 1:
            small.append(large.pop())
    left = np.array([*small, *large], np.int64)  # by rounding: they are 1, or must never come up
    scaled[left] = 1.0
    never = left[probability[left] == 0]
    scaled[never], other[never] = 0.0, probability.argmax()
    return np.minimum(scaled * 2.0**32, 2**32 - 1).astype(np.uint32), other


@njit(nogil=True, cache=True, inline="always")
def _mix(x):
    """splitmix64's finish (core.random)."""
    x = (x ^ (x >> np.uint64(30))) * _MUL1
    x = (x ^ (x >> np.uint64(27))) * _MUL2
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True)
def thin(ids, start, stop, place, keep, key, kept, places):
    """The words of ids[start:stop], the first at `place` of the corpus, that stay, into `kept`, and their places into `places`; returns how many."""
    n = 0
    for i in range(start, stop):
        word = np.int64(ids[i])
        bits = _mix(key + np.uint64(place) * _GOLDEN)
        if (bits >> np.uint64(33)) < np.uint64(keep[word]):
            kept[n] = word
            places[n] = place
            n += 1
        place += 1
    return n


@njit(nogil=True, cache=True)
def negatives_of(centre, place, key, bound, other, common, count, found):
    """`count` negatives of the centre at `place`, into `found`: never the centre itself."""
    state = _mix(key + np.uint64(place) * _GOLDEN)
    for k in range(count):
        word = centre
        for _ in range(16):
            state += _GOLDEN
            bits = _mix(state)
            at = ((bits >> np.uint64(32)) * np.uint64(bound.shape[0])) >> np.uint64(32)
            word = np.int64(at) if (bits & np.uint64(0xFFFFFFFF)) < np.uint64(bound[at]) else np.int64(other[at])
            if word != centre:
                break
        if word == centre:  # hardly another word occurs
            word = common[1] if common[0] == centre else common[0]
        found[k] = word


@njit(nogil=True, cache=True)
def half_width(place, key, window):
    """How far the window of the centre at `place` reaches: 1 to `window`."""
    bits = _mix((key ^ _MUL1) + np.uint64(place) * _GOLDEN)
    return 1 + np.int64((bits >> np.uint64(33)) % np.uint64(window))


@njit(nogil=True, cache=True)
def _choose(kept, places, first, stop, key, bound, other, common, outputs, size, negatives, targets):
    """Addresses of the rows of centres first..stop and of their negatives, into `targets`: some groups a centre, filled up with its own row."""
    width = (negatives // GROUP + 1) * GROUP
    at = 0
    for i in range(first, stop):
        negatives_of(kept[i], places[i], key ^ _MUL2, bound, other, common, negatives, targets[at + 1 :])
        for k in range(1, negatives + 1):
            targets[at + k] = outputs + targets[at + k] * size
        targets[at] = outputs + kept[i] * size
        for k in range(negatives + 1, width):
            targets[at + k] = targets[at]
        at += width


@njit(nogil=True, cache=True)
def _settle(tally):
    """The logarithms of the products move into the sum."""
    for lane in range(1, LANES + 1):
        tally[0] += tally[lane] + np.log(tally[LANES + lane])
        tally[lane], tally[LANES + lane] = 0.0, 1.0


@njit(nogil=True, cache=True)
def _against(sources, results, count, targets, negatives, blocks, rate, scores, lanes):
    """The centre and its negatives, group after group, against `count` rows."""
    for first in range(0, negatives + 1, GROUP):
        group = targets + 8 * first
        dots(sources, count, group, blocks, scores)  # type: ignore[call-arg]
        slopes(scores, count, np.int64(min(GROUP, negatives + 1 - first)), np.int64(first == 0), rate, lanes)
        update(sources, results, count, group, blocks, scores)


@njit(nogil=True, cache=True)
def train(ids, units, done, inputs, outputs, sampling, options, key, room, bag):
    """Trains on stretches of ids: units (N, 3) hold first, last + 1 and the place of the first in the corpus; the first unit's first is the
    `done`-th word of all epochs.

    inputs and outputs (V, W) float32 change; `key` is that of the epoch; `bag`: the mean of a window's words predicts its centre (CBOW;
    each takes its share of the mean's gradient), else each of them does (skip-gram).  The loss goes to `room.tally`."""
    size, blocks = inputs.shape[1] * 4, inputs.shape[1] // LANES
    source, target = inputs.ctypes.data, outputs.ctypes.data
    kept, places, tally = room.kept, room.places, room.tally
    sources, targets = room.sources.ctypes.data, room.targets.ctypes.data
    scores, lanes = room.scores.ctypes.data, tally[1:].ctypes.data
    mean, change, zero = room.hidden.ctypes.data, room.hidden.ctypes.data + size, room.hidden.ctypes.data + 2 * size
    room.lists[0], room.lists[1] = mean, change
    negatives, groups = options.negatives, options.negatives // GROUP + 1
    factors = 0
    for u in range(units.shape[0]):
        start, stop = units[u, 0], units[u, 1]
        rate = np.float32(max(options.last_rate, options.rate * (1 - done / options.words)))
        n = thin(ids, start, stop, units[u, 2], sampling.keep, key, kept, places)
        for i in range(n if n > 1 else 0):
            at = i % AHEAD
            if at == 0:
                _choose(
                    kept, places, i, min(n, i + AHEAD), key, sampling.bound, sampling.other, sampling.common, target, size, negatives,
                    room.targets,
                )  # fmt: skip
            if at + 1 < AHEAD and i + 1 < n:
                for k in range(negatives + 1):
                    prefetch(room.targets[(at + 1) * groups * GROUP + k], size)  # type: ignore[call-arg]
            if (
                i + options.window + 2 < n
            ):  # the word that the window reaches next: another thread may have written its row last
                prefetch(source + kept[i + options.window + 2] * size, size)  # type: ignore[call-arg]
            half = half_width(places[i], key, options.window)
            count = 0
            for j in range(max(0, i - half), min(n, i + half + 1)):
                if j != i:
                    room.sources[count] = source + kept[j] * size
                    count += 1
            mine = targets + at * groups * GROUP * 8
            rows = 1 if bag else count
            factors += rows * groups
            if factors > _FACTORS:
                _settle(tally)
                factors = rows * groups
            if bag:
                combine(sources, count, blocks, np.float32(1) / np.float32(count), mean)  # type: ignore[call-arg]
                combine(sources, 0, blocks, np.float32(0), change)
                _against(
                    room.lists.ctypes.data, room.lists.ctypes.data + 8, 1, mine, negatives, blocks, rate, scores, lanes
                )
                combine(room.lists.ctypes.data + 8, 1, blocks, np.float32(1) / np.float32(count), mean)  # type: ignore[call-arg]
                spread_difference(mean, zero, sources, count, blocks)
            else:
                _against(sources, sources, count, mine, negatives, blocks, rate, scores, lanes)
            tally[-1] += rows * (negatives + 1)
        done += stop - start
    _settle(tally)


@njit(nogil=True, cache=True)
def _enter(word, table, offsets, rows, size, blocks, lists, hidden, start):
    """A word's vector, the mean of its rows, into `hidden`, and what it is before training into `start`."""
    count = offsets[word + 1] - offsets[word]
    for k in range(count):
        lists[k] = table + np.int64(rows[offsets[word] + k]) * size
    combine(lists.ctypes.data, count, blocks, np.float32(1) / np.float32(count), hidden)  # type: ignore[call-arg]
    combine(lists.ctypes.data, count, blocks, np.float32(1) / np.float32(count), start)


@njit(nogil=True, cache=True)
def _leave(word, table, offsets, rows, size, blocks, lists, hidden, start):
    """What a word's vector has learned goes to each of its rows, whole (fastText)."""
    count = offsets[word + 1] - offsets[word]
    for k in range(count):
        lists[k] = table + np.int64(rows[offsets[word] + k]) * size
    spread_difference(hidden, start, lists.ctypes.data, count, blocks)  # type: ignore[call-arg]


@njit(nogil=True, cache=True)
def train_subwords(ids, units, done, inputs, outputs, sampling, options, key, room, offsets, rows):
    """`train` by skip-gram, where the vector of word w is the mean of the rows of inputs (V + buckets, W) that rows[offsets[w]:offsets[w + 1]] tell.

    A word's vector is made when the window reaches it and given back to its rows when the window has passed, so that each word costs its
    subwords once and not once a neighbour; in between it learns as its rows would."""
    size, blocks = inputs.shape[1] * 4, inputs.shape[1] // LANES
    table, target = inputs.ctypes.data, outputs.ctypes.data
    kept, places, tally, lists = room.kept, room.places, room.tally, room.lists
    sources, targets = room.sources.ctypes.data, room.targets.ctypes.data
    scores, lanes = room.scores.ctypes.data, tally[1:].ctypes.data
    window, ring = options.window, 2 * options.window + 1
    hidden, begun = room.hidden.ctypes.data, room.hidden.ctypes.data + ring * size
    negatives, groups = options.negatives, options.negatives // GROUP + 1
    factors = 0
    for u in range(units.shape[0]):
        start, stop = units[u, 0], units[u, 1]
        rate = np.float32(max(options.last_rate, options.rate * (1 - done / options.words)))
        n = thin(ids, start, stop, units[u, 2], sampling.keep, key, kept, places)
        entered = 0
        for i in range(n if n > 1 else 0):
            at = i % AHEAD
            if at == 0:
                _choose(
                    kept, places, i, min(n, i + AHEAD), key, sampling.bound, sampling.other, sampling.common, target, size, negatives,
                    room.targets,
                )  # fmt: skip
            while entered < min(n, i + window + 1):
                slot = entered % ring * size
                _enter(kept[entered], table, offsets, rows, size, blocks, lists, hidden + slot, begun + slot)
                entered += 1
            half = half_width(places[i], key, window)
            count = 0
            for j in range(max(0, i - half), min(n, i + half + 1)):
                if j != i:
                    room.sources[count] = hidden + j % ring * size
                    count += 1
            factors += count * groups
            if factors > _FACTORS:
                _settle(tally)
                factors = count * groups
            _against(sources, sources, count, targets + at * groups * GROUP * 8, negatives, blocks, rate, scores, lanes)
            tally[-1] += count * (negatives + 1)
            for j in range(max(0, i - window) if i >= window else 0, i - window + 1 if i + 1 < n else n):
                slot = j % ring * size
                _leave(kept[j], table, offsets, rows, size, blocks, lists, hidden + slot, begun + slot)
        done += stop - start
    _settle(tally)
