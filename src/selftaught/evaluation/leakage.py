"""Leakage: test rows of which training saw a copy, exact or near; found by encoder features, then verified on the input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..core import Encoder, random
from ..data import duplicates
from ..data.sound_copies import sound_verifier
from .embed import embed, raw
from .probe import Features
from .protocol import Problem

NEIGHBOURS = 5
"""Nearest training rows of each test row that are candidates."""
BLOCK, BARREN = 256, 8
"""Candidates are verified from the most similar on, so many at a time; the search ends after so many blocks without a copy."""
SEARCH = 2e11
"""Multiply-adds that a search before the split may cost: a few seconds."""
PROJECTED = 256
"""Dimensions in which candidates of wider features are looked for."""
DETAIL = 32
"""Pixels of a side from which pictures can be aligned (copies may be mirrored or cropped); smaller ones look alike too easily."""
CLOSER, NARROW = 0.35, 8
"""Where nothing better is known of the kind of data, a near duplicate is this much closer on the raw input than the usual nearest
row; chance puts a stranger there once in 0.35^-D, so inputs of fewer than NARROW dimensions are searched for exact copies only."""


@dataclass(frozen=True)
class Leaks:
    """(N,) bool over the test rows: an exact copy, or a near one, is among the training rows; pretraining saw the row itself."""

    exact: np.ndarray
    near: np.ndarray
    seen: np.ndarray


def search(
    problem: Problem, features: Features, pretraining, encoder: Encoder, all_seen: bool, device: str = "cpu"
) -> Leaks:
    """Copies of test rows among the probe's rows and, where it is given, in the dataset `pretraining`.

    `features` of `encoder` on both; `all_seen`: the data evaluated are those of pretraining, so that it saw every test row.
    Cost: one product of test with training features, and of five candidates a test row a closer look; where `pretraining` is
    given, one pass of the encoder over it.
    """
    seen = np.full(len(problem.targets), all_seen)
    exact, near = copies(problem.test, features.test, problem.pool, features.pool)
    if pretraining is not None:
        test, there = (features.test, embed(encoder, pretraining, device=device))
        if features.test.shape[1] != there.shape[1]:  # another layer was probed
            test = embed(encoder, problem.test, device=device)
        more, close = copies(problem.test, test, pretraining, there)
        seen, exact, near = seen | more, exact | more, near | close
    return Leaks(exact, near & ~exact, seen)


def copies(test, test_features: np.ndarray, train, train_features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(exact, near) (N,) bool: which rows of `test` have a copy in `train`."""
    exact, near = np.zeros(len(test), dtype=bool), np.zeros(len(test), dtype=bool)
    exact[duplicates.exact_between(test, train).first] = True
    asked = np.flatnonzero(~exact)
    if len(asked):
        rest = test.subset(asked)
        pairs = _near(rest, test_features[asked], train, train_features)
        near[asked[pairs.first]] = True
    return exact, near


def clusters(data, *, near: bool = True) -> np.ndarray:
    """(len(data),) int64: copies share a number, so that no split comes between them.

    Exact copies always; near ones by the raw input (re-encoded, resized, slightly changed), where the set is small enough.
    """
    exact = duplicates.exact_duplicates(data)
    first = np.unique(exact, return_index=True)[1]
    if not near or len(first) < 2:
        return exact
    distinct = data.subset(first)
    width = raw(distinct, rows=np.arange(1)).shape[1]
    if len(first) ** 2 * width > SEARCH:
        return exact
    pairs = _near(distinct, raw(distinct), None, None)
    return duplicates.clusters(len(first), pairs)[exact]


def _near(a, a_features: np.ndarray, b, b_features: np.ndarray | None) -> duplicates.Pairs:
    """Near copies between `a` and `b` (None: within a): the most similar pairs first, each verified on the input.

    Similar by the features; pictures also by their coarse look, mirrored too, which features need not see.
    """
    middle = a_features.mean(0) if b_features is None else b_features.mean(0)
    second = None if b_features is None else _projected(b_features, middle)
    found = [duplicates.near_duplicates(_projected(a_features, middle), second, k=NEIGHBOURS, threshold=0.0)]
    parts = a.fetch(np.arange(1)).parts
    pixels = parts.get("pixels")
    verify: duplicates.Verify | None
    if pixels is not None and min(pixels.shape[2:]) >= DETAIL:
        ours, theirs = duplicates.thumbnails(a), None if b is None else duplicates.thumbnails(b)
        verify = duplicates.picture_verifier(ours, theirs)
        found += duplicates.look_alikes(ours, theirs, k=NEIGHBOURS)
    elif "wave" in parts:
        verify = sound_verifier(a, b)
    else:
        verify = _closer(raw(a), a if b is None else b) if raw(a, rows=np.arange(1)).shape[1] >= NARROW else None
    kept = [_verified(pairs, verify) for pairs in found] if verify else []
    return duplicates.Pairs(
        *(
            np.concatenate([getattr(p, f) for p in kept] or [np.empty(0, np.int64)])
            for f in ("first", "second", "score")
        )
    )


def _verified(found: duplicates.Pairs, verify: duplicates.Verify) -> duplicates.Pairs:
    """The pairs that are copies, looked at from the most similar on until there are no more for a while."""
    order = np.argsort(-found.score, kind="stable")
    kept, barren = [], 0
    for start in range(0, len(order), BLOCK):
        some = order[start : start + BLOCK]
        same = verify(np.stack([found.first[some], found.second[some]], 1)) > 0.5
        kept.append(some[same])
        barren = 0 if same.any() else barren + 1
        if barren == BARREN:
            break
    chosen = np.concatenate(kept) if kept else np.empty(0, np.int64)
    return duplicates.Pairs(found.first[chosen], found.second[chosen], found.score[chosen])


def _projected(features: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Centred; wide features on random directions, which keep what is close close (Johnson & Lindenstrauss)."""
    width = features.shape[1]
    if width <= 2 * PROJECTED:
        return features - middle
    onto = random.normal(random.key("projection"), torch.arange(width), (PROJECTED,)).numpy()
    return features @ onto - middle @ onto


def _closer(ours: np.ndarray, theirs) -> duplicates.Verify:
    """Scores pairs by how much closer they are, on the raw input, than strangers are to their nearest row."""
    sample = raw(theirs, rows=np.unique(np.linspace(0, len(theirs) - 1, 1024).astype(np.int64)))
    centre = sample.mean(0)
    size = np.maximum(np.linalg.norm(ours - centre, axis=1), 1e-12)
    few = np.unique(np.linspace(0, len(ours) - 1, 256).astype(np.int64))
    apart = np.sqrt(np.maximum((ours[few] ** 2).sum(1)[:, None] + (sample**2).sum(1) - 2 * ours[few] @ sample.T, 0))
    apart = apart / size[few, None]
    apart[apart < 1e-3] = np.inf  # the row itself, or an exact copy
    usual = float(np.median(apart.min(1)))
    bound = min(0.3, CLOSER * usual) if np.isfinite(usual) else 0.0

    def verify(pairs: np.ndarray) -> np.ndarray:
        places, at = np.unique(pairs[:, 1], return_inverse=True)
        other = raw(theirs, rows=places)
        gap = np.linalg.norm(ours[pairs[:, 0]] - other[at], axis=1) / size[pairs[:, 0]]
        return (gap <= bound).astype(np.float32)

    return verify
