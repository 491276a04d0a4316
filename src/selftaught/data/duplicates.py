"""Duplicates: exact by what is stored, near by features that an encoder or a cheap descriptor gives, verified where that is possible."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ..core import Ragged, random
from . import alignment
from .dataset import Dataset
from .shingles import near_rows
from .sound_copies import sound_verifier, spectra

_BLOCK = 1024
_QUERY_PAIRS = 100_000_000
"""Pairs of pictures that a search without an encoder compares at most: about 10 seconds on two cores."""
_TEXTS = 20_000
"""Texts among which near duplicates are looked for."""
_SOUNDS = 2_000
"""Sounds among which near duplicates are looked for."""
_FAR_OFF = 2000.0
_SMALLEST = 16
"""Pictures with a shorter side hold too little to tell a copy from a likeness."""


@dataclass(frozen=True)
class Pairs:
    """(n,) rows `first` and `second` with a score in 0-1; within one set each pair once, first < second."""

    first: np.ndarray
    second: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def row_hashes(dataset: Dataset) -> np.ndarray:
    """(rows,) 16-byte hashes of the stored rows: equal after decoding, whatever their files were."""
    out = np.empty(len(dataset), dtype="V16")
    for start in range(0, len(dataset), _BLOCK):
        index = np.arange(start, min(start + _BLOCK, len(dataset)))
        rows = dataset.rows(index)
        for place, row in zip(index.tolist(), _each(rows), strict=True):
            out[place] = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
    return out


def _each(rows: np.ndarray | Ragged):
    if not isinstance(rows, Ragged):
        return iter(rows)
    bounds, values = rows.offsets.tolist(), rows.values.numpy()
    return (values[a:b] for a, b in itertools.pairwise(bounds))


def exact_duplicates(dataset: Dataset) -> np.ndarray:
    """(rows,) int64 cluster numbers: rows that are equal as stored share one."""
    return np.unique(row_hashes(dataset), return_inverse=True)[1].astype(np.int64)


def exact_between(a: Dataset, b: Dataset) -> Pairs:
    """Rows of a that are equal to rows of b, as stored; each row of a with one of b."""
    hashes, first = np.unique(row_hashes(b), return_index=True)
    asked = row_hashes(a)
    at = np.searchsorted(hashes, asked).clip(max=max(0, len(hashes) - 1))
    equal = np.flatnonzero(hashes[at] == asked) if len(hashes) else np.empty(0, np.int64)
    return Pairs(equal, first[at[equal]], np.ones(len(equal), np.float32))


Verify = Callable[[np.ndarray], np.ndarray]
"""verify(pairs (n, 2)) -> (n,) scores in 0-1; above 0.5 it is the same."""


def near_duplicates(
    a: np.ndarray | Tensor,
    b: np.ndarray | Tensor | None = None,
    *,
    k: int = 5,
    threshold: float = 0.95,
    verify: Verify | None = None,
) -> Pairs:
    """Pairs whose features lie close: cosine >= threshold among the k nearest of each row, then verified.

    a (N, D), b (M, D) features; b None searches within a.  With `verify` (for pictures `picture_verifier`) the threshold only
    says what is looked at, so set it low: what counts is its score.  Costs N * M * D multiply-adds, in blocks.
    """
    x = _unit(a)
    y = x if b is None else _unit(b)
    first, second, score = [], [], []
    for start in range(0, len(x), _BLOCK):
        cosine = x[start : start + _BLOCK] @ y.T
        if b is None:
            cosine[torch.arange(len(cosine)), torch.arange(start, start + len(cosine))] = -2
        value, place = cosine.topk(min(k, cosine.shape[1]), 1)
        row, column = (value >= threshold).nonzero(as_tuple=True)
        first.append(row + start)
        second.append(place[row, column])
        score.append(value[row, column])
    pairs = np.stack([torch.cat(first).numpy(), torch.cat(second).numpy()], 1)
    scores = torch.cat(score).numpy()
    if b is None:
        pairs = np.sort(pairs, 1)
    pairs, at = np.unique(pairs, axis=0, return_index=True)
    scores = scores[at]
    if verify is not None and len(pairs):
        scores = verify(pairs)
        pairs, scores = pairs[scores > 0.5], scores[scores > 0.5]
    return Pairs(pairs[:, 0], pairs[:, 1], scores)


def _unit(features: np.ndarray | Tensor) -> Tensor:
    x = torch.as_tensor(features).float()
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-12)


def clusters(rows: int, *pairs: Pairs) -> np.ndarray:
    """(rows,) int64: rows that are joined by pairs, however indirectly, have the same number.  For `splits.split(duplicates=)`."""
    first = np.concatenate([p.first for p in pairs] or [np.empty(0, np.int64)])
    second = np.concatenate([p.second for p in pairs] or [np.empty(0, np.int64)])
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(rows, rows))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def thumbnails(dataset: Dataset) -> Tensor:
    """(rows, 3, 32, 32) uint8 of a dataset of pictures."""
    parts = []
    for start in range(0, len(dataset), _BLOCK):
        view = dataset.fetch(np.arange(start, min(start + _BLOCK, len(dataset))))
        parts.append(alignment.thumbnails(view["pixels"]))
    return torch.cat(parts)


def picture_verifier(a: Tensor, b: Tensor | None = None) -> Verify:
    """Verifies pairs of rows of thumbnails a and b (None: a) by aligning them: for candidates that an encoder's features gave."""
    return lambda pairs: alignment.same_picture(a, a if b is None else b, pairs)


def near_pictures(a: Tensor, b: Tensor | None = None, *, k: int = 3, queries: Tensor | None = None) -> Pairs:
    """Near-duplicate pictures by thumbnails alone: re-encoded, resized, mirrored, cropped.

    a, b: thumbnails; b None searches within a; `queries`: rows of a that are asked (default: all).
    """
    found = [(alignment.candidates(a, b, k, queries), a, a if b is None else b, False)]
    if b is not None and queries is None:
        found.append((alignment.candidates(b, a, k), b, a, True))
    best: dict[tuple[int, int], float] = {}
    for pairs, crop, whole, swapped in found:
        scores = alignment.judge(crop, whole, pairs)
        for i, j, score in zip(pairs.crop.tolist(), pairs.whole.tolist(), scores.tolist(), strict=True):
            pair = (j, i) if swapped or (b is None and j < i) else (i, j)
            if score > 0.5:
                best[pair] = max(score, best.get(pair, 0.0))
    rows = np.array(sorted(best), np.int64).reshape(-1, 2)
    return Pairs(rows[:, 0], rows[:, 1], np.array([best[i, j] for i, j in rows.tolist()], np.float32))


def look_alikes(a: Tensor, b: Tensor | None = None, *, k: int = 5) -> list[Pairs]:
    """Candidates by the coarse look of whole thumbnails a and b (None: within a), as they are and mirrored: to be verified.

    What an encoder's features miss: a network need not find a picture and its mirror image alike.  Costs 224 multiply-adds a pair of pictures.
    """
    own, mirrored = _told(a), _told(a, mirrored=True)
    other = own if b is None else _told(b)
    plain = near_duplicates(own, None if b is None else other, k=k, threshold=0.0)
    found = near_duplicates(mirrored, other, k=k, threshold=0.0)
    if b is None:
        apart = found.first != found.second  # a picture that is its own mirror image is no pair
        rows = np.sort(np.stack([found.first, found.second], 1)[apart], 1)
        found = Pairs(rows[:, 0], rows[:, 1], found.score[apart])
    return [plain, found]


def _told(thumbs: Tensor, *, mirrored: bool = False) -> Tensor:
    """Descriptions with a large constant beside them, so that cosines rank as distances do: smooth pictures have hardly a direction."""
    told = alignment.describe(thumbs, mirrored=mirrored)
    return torch.cat([told, torch.full((len(told), 1), _FAR_OFF)], 1)


def near_texts(rows: Ragged, *, least: float = 0.8, shingle: int = 5) -> Pairs:
    """Token rows that share at least `least` of their runs of `shingle` tokens (see shingles.near_rows)."""
    pairs, scores = near_rows(rows, least=least, shingle=shingle)
    return Pairs(pairs[:, 0], pairs[:, 1], scores)


def near_sounds(dataset: Dataset, *, k: int = 3) -> Pairs:
    """Near copies among the rows of a dataset of sound (see sound_copies)."""
    found = spectra(dataset)
    middle, spread = found.mean(0), found.std(0) + 1e-6
    return near_duplicates((found - middle) / spread, k=k, threshold=-1.0, verify=sound_verifier(dataset))


@dataclass(frozen=True)
class Counts:
    """`exact`: rows that repeat an earlier one; `near`: further rows that nearly do (an estimate where `asked` < rows); None where
    this kind of data has no cheap measure."""

    exact: int
    near: int | None
    asked: int


def count_duplicates(dataset: Dataset, seed: int = 0) -> Counts:
    """How many rows are duplicates, without an encoder: for `look`.  Large sets are searched for a sample of rows."""
    exact = exact_duplicates(dataset)
    first = np.unique(exact, return_index=True)[1]
    repeated = len(dataset) - len(first)
    distinct = dataset.subset(np.sort(first))
    parts = dataset.fetch([0]).parts
    if "pixels" in parts and min(parts["pixels"].shape[-2:]) >= _SMALLEST:  # type: ignore[union-attr]
        asked = min(len(distinct), max(500, _QUERY_PAIRS // len(distinct)))
        queries = random.permutation(random.key(seed, "duplicates"), len(distinct))[:asked].sort().values
        pairs = near_pictures(thumbnails(distinct), queries=queries)
        whole = asked == len(distinct)
        near = _repeats(len(distinct), pairs) if whole else round(_touched(pairs, queries) / 2 * len(distinct) / asked)
        return Counts(repeated, near, asked)
    if "ids" in parts:
        asked = min(len(distinct), _TEXTS)
        held = distinct.subset(random.permutation(random.key(seed, "duplicates"), len(distinct))[:asked].sort().values)
        rows = held.rows(np.arange(asked))
        near = _repeats(asked, near_texts(rows)) if isinstance(rows, Ragged) else 0
        return Counts(repeated, round(near * len(distinct) / asked), asked)
    if "wave" in parts:
        asked = min(len(distinct), _SOUNDS)
        held = distinct.subset(random.permutation(random.key(seed, "duplicates"), len(distinct))[:asked].sort().values)
        return Counts(repeated, round(_repeats(asked, near_sounds(held)) * len(distinct) / asked), asked)
    return Counts(repeated, None, 0)


def _repeats(rows: int, pairs: Pairs) -> int:
    """Rows less clusters: how many could be left out without losing a picture."""
    return rows - int(clusters(rows, pairs).max(initial=-1)) - 1


def _touched(pairs: Pairs, queries: Tensor) -> int:
    return int(np.isin(queries.numpy(), np.concatenate([pairs.first, pairs.second])).sum())
