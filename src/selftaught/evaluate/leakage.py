"""Leakage: test rows of which training saw a copy, exact or near; found by encoder features, then verified on the input."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from .. import measures
from ..core import Encoder
from .embed import embed, raw
from .probe import Features
from .protocol import Problem

NEIGHBOURS = 3
"""Nearest training rows of each test row that are verified."""
CLOSER = 0.35
"""A near duplicate is this much closer, on the raw input, than the usual nearest row: chance puts one there once in 0.35^D."""
_NARROW = 8  # raw inputs of fewer dimensions lie close by chance: only exact copies are counted there


@dataclass(frozen=True)
class Leaks:
    """(N,) bool over the test rows: an exact copy, or a near one, is among the training rows; pretraining saw the row itself."""

    exact: np.ndarray
    near: np.ndarray
    seen: np.ndarray


def search(problem: Problem, features: Features, pretraining, encoder: Encoder, all_seen: bool) -> Leaks:
    """Copies of test rows among the probe's rows and, where it is given, in the dataset `pretraining`.

    `features` of `encoder` on both; `all_seen`: the data evaluated are those of pretraining, so that it saw every test row.
    Cost: one matrix product of test with training features; where `pretraining` is given, one pass of the encoder over it.
    """
    exact, near = copies(problem.test, features.test, problem.pool, features.pool)
    seen = np.full(len(problem.targets), all_seen)
    if pretraining is not None:
        more, close = copies(problem.test, features.test, pretraining, embed(encoder, pretraining))
        seen, exact, near = seen | more, exact | more, near | close
    return Leaks(exact, near & ~exact, seen)


def copies(test, test_features: np.ndarray, train, train_features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(exact, near) (N,) bool: which rows of `test` have a copy in `train`."""
    exact = np.isin(_hashes(test), _hashes(train))
    similarity = measures.nearest(
        torch.from_numpy(test_features), torch.from_numpy(train_features), min(NEIGHBOURS, len(train))
    )
    pairs = np.stack([np.repeat(np.arange(len(test)), similarity[1].shape[1]), similarity[1].flatten().numpy()], 1)
    near = np.zeros(len(test), dtype=bool)
    near[pairs[_same(test, train, pairs), 0]] = True
    return exact, near & ~exact


def clusters(data) -> np.ndarray | None:
    """(len(data),) int64: rows with equal content share a number; None where all differ."""
    _, where, count = np.unique(_hashes(data), return_inverse=True, return_counts=True)
    return None if count.max() == 1 else where.astype(np.int64)


def _hashes(data, block: int = 1024) -> np.ndarray:
    """(len(data),) 16 bytes of each stored row."""
    out = []
    for start in range(0, len(data), block):
        rows = data.rows(np.arange(start, min(start + block, len(data))))
        if isinstance(rows, np.ndarray):
            out += [hashlib.blake2b(r.tobytes(), digest_size=16).digest() for r in rows]
        else:
            values, offsets = rows.values.numpy(), rows.offsets.tolist()
            out += [hashlib.blake2b(values[a:b].tobytes(), digest_size=16).digest() for a, b in pairwise(offsets)]
    return np.array(out, dtype="S16")


def _same(test, train, pairs: np.ndarray) -> np.ndarray:
    """(P,) bool: whether the rows of each pair are near copies on the raw input."""
    places, at = np.unique(pairs[:, 1], return_inverse=True)
    ours, theirs = raw(test), raw(train, rows=places)
    if ours.shape[1] < _NARROW:
        return np.zeros(len(pairs), dtype=bool)
    centre = theirs.mean(0)
    size = np.linalg.norm(ours - centre, axis=1)
    apart = np.array([np.linalg.norm(ours[i] - theirs[j]) for i, j in zip(pairs[:, 0], at, strict=True)])
    relative = apart / np.maximum(size[pairs[:, 0]], 1e-12)
    least = np.full(len(ours), np.inf)
    np.minimum.at(least, pairs[:, 0], relative)
    return relative <= min(0.3, CLOSER * float(np.median(least)))
