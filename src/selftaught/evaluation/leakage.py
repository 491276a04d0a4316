"""Leakage: test rows of which training saw a copy, exact or near; found by encoder features, then verified on the input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import Encoder
from ..data import duplicates
from .embed import embed, raw
from .probe import Features
from .protocol import Problem

NEIGHBOURS = 5
"""Nearest training rows, by the encoder, of each test row that are verified."""
PICTURES, TEXTS = 7_000, 20_000
"""Rows up to which near duplicates are looked for before the split, without an encoder: a few seconds."""
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
    pictures = "pixels" in test.fetch(np.arange(1)).parts
    if pictures:
        verify = duplicates.picture_verifier(duplicates.thumbnails(test), duplicates.thumbnails(train))
    else:
        ours = raw(test)
        if ours.shape[1] < NARROW:
            return exact, near
        verify = _closer(ours, train, len(test))
    found = duplicates.near_duplicates(test_features, train_features, k=NEIGHBOURS, threshold=-1.0, verify=verify)
    near[found.first] = True
    return exact, near & ~exact


def _closer(ours: np.ndarray, train, rows: int) -> duplicates.Verify:
    """Scores pairs by how much closer they are, on the raw input, than the nearest rows usually are."""

    def verify(pairs: np.ndarray) -> np.ndarray:
        places, at = np.unique(pairs[:, 1], return_inverse=True)
        theirs = raw(train, rows=places)
        centre = theirs.mean(0)
        apart = np.array([np.linalg.norm(ours[i] - theirs[j]) for i, j in zip(pairs[:, 0], at, strict=True)])
        relative = apart / np.maximum(np.linalg.norm(ours - centre, axis=1)[pairs[:, 0]], 1e-12)
        least = np.full(rows, np.inf)
        np.minimum.at(least, pairs[:, 0], relative)
        usual = float(np.median(least[np.isfinite(least)]))
        return np.where(relative <= min(0.3, CLOSER * usual), 1.0, 0.0).astype(np.float32)

    return verify


def clusters(data, *, near: bool = True) -> np.ndarray:
    """(len(data),) int64: copies share a number, so that no split comes between them.

    Exact copies always; near ones of pictures and texts where the set is small enough for a search without an encoder.
    """
    exact = duplicates.exact_duplicates(data)
    parts = data.fetch(np.arange(1)).parts
    first = np.unique(exact, return_index=True)[1]
    pairs = None
    if near and "pixels" in parts and len(first) <= PICTURES:
        pairs = duplicates.near_pictures(duplicates.thumbnails(data.subset(first)))
    elif near and "ids" in parts and len(first) <= TEXTS:
        pairs = duplicates.near_texts(data.rows(first))
    if pairs is None or not len(pairs):
        return exact
    return duplicates.clusters(len(first), pairs)[exact]
