"""Labels of stretches of time: from seconds to frames and back, and how many frames and how many events are right.

An event is found where one of the same label begins within the collar and ends within the collar or half the true length, whichever is more (as
sed_eval has it: Mesaros, Heittola & Virtanen 2016); each is matched once, as many as can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .tags import Spans

COLLAR = 0.2
"""Seconds by which an event may begin too early or too late."""
LENGTH_SHARE = 0.5
"""Of its length, by which a long event may end too early or too late."""


@dataclass(frozen=True)
class Segments:
    """Stretches of one clip: (n, 2) first and last second, (n,) int64 codes of their labels."""

    times: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)


def covered(segments: Segments, count: int, stride: float, classes: int) -> np.ndarray:
    """(count, classes) how much of every frame [t stride, (t + 1) stride) the segments of each label cover, 0 to 1."""
    edges = np.arange(count + 1) * stride
    out = np.zeros((count, classes))
    for (first, last), code in zip(segments.times, segments.codes):
        a, b = np.searchsorted(edges, [first, last], side="right") - 1
        some = slice(max(0, a), min(count, b + 1))
        inside = np.minimum(edges[1:][some], last) - np.maximum(edges[:-1][some], first)
        out[some, code] += np.maximum(inside, 0) / stride
    return np.minimum(out, 1.0)


def one_each(share: np.ndarray) -> np.ndarray:
    """(T,) codes of (T, K) shares: 0 where no label covers more than what is left over, else 1 + the label that covers most."""
    rest = 1 - np.minimum(share.sum(1, keepdims=True), 1.0)
    return np.concatenate([rest + 1e-9, share], 1).argmax(1)


def runs(on: np.ndarray, stride: float) -> Segments:
    """The stretches of (T, K) bool in which a label stays on, by time and then by label."""
    found = []
    for code in range(on.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], on[:, code], [False]]).astype(np.int8)))
        found += [(a, b, code) for a, b in edges.reshape(-1, 2).tolist()]
    found.sort()
    times = np.array([[a * stride, b * stride] for a, b, _ in found]).reshape(-1, 2)
    return Segments(times, np.array([code for _, _, code in found], np.int64))


def matched(guess: Segments, truth: Segments, classes: int, collar: float = COLLAR) -> np.ndarray:
    """(classes,) int64: the events of each label that are found."""
    out = np.zeros(classes, np.int64)
    if not len(guess) or not len(truth):
        return out
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    slack = np.maximum(collar, LENGTH_SHARE * (truth.times[:, 1] - truth.times[:, 0])) + 1e-9
    begins = np.abs(guess.times[:, None, 0] - truth.times[None, :, 0]) <= collar + 1e-9
    ends = np.abs(guess.times[:, None, 1] - truth.times[None, :, 1]) <= slack
    alike = begins & ends & (guess.codes[:, None] == truth.codes[None])
    partner = maximum_bipartite_matching(csr_array(alike), perm_type="row")  # the guess of each truth, or -1
    np.add.at(out, truth.codes[partner >= 0], 1)
    return out


@dataclass(frozen=True)
class FrameCounts:
    """Counts of N clips: `frames` and `events` with what is right, said and true of each label, and (N, 2) frames that are right altogether and all frames."""

    frames: Spans
    events: Spans
    right: np.ndarray

    @classmethod
    def of(cls, guesses: Sequence[np.ndarray], truths: Sequence[np.ndarray], said: Sequence[Segments], true: Sequence[Segments], classes: int, collar: float = COLLAR) -> FrameCounts:  # fmt: skip
        """guesses, truths: (T, classes) bool of each clip; said, true: its events."""
        rows = lambda parts: np.array(list(parts), np.int64).reshape(len(guesses), classes)  # noqa: E731
        both = list(zip(guesses, truths, strict=True))
        frames = Spans(rows((g & t).sum(0) for g, t in both), rows(g.sum(0) for g in guesses), rows(t.sum(0) for t in truths), "frame F1")  # fmt: skip
        counted = lambda some: rows(np.bincount(s.codes, minlength=classes) for s in some)  # noqa: E731
        hits = rows(matched(g, t, classes, collar) for g, t in zip(said, true, strict=True))
        right = np.array([[(g == t).all(1).sum(), len(g)] for g, t in both], np.int64).reshape(-1, 2)
        return cls(frames, Spans(hits, counted(said), counted(true), "event F1"), right)

    def __len__(self) -> int:
        return len(self.right)

    def value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) F1 over the frames of all labels, for `weights` (R, N)."""
        return self.frames.value(weights)

    def figures(self, classes: Sequence[str]) -> dict[str, float]:
        """Frame F1, the share of frames that are right, event F1, and both for each label."""
        out = {
            "frame F1": float(self.value()[0]),
            "frame accuracy": float(self.right[:, 0].sum() / max(1, self.right[:, 1].sum())),
            "event F1": float(self.events.value()[0]),
        }
        hits, said, truth = (part.sum(0) for part in (self.frames.hits, self.frames.said, self.frames.truth))
        found, given, there = (part.sum(0) for part in (self.events.hits, self.events.said, self.events.truth))
        for k in np.flatnonzero(said + truth).tolist():
            out[f"frame F1 {classes[k]}"] = float(2 * hits[k] / (said[k] + truth[k]))
            out[f"event F1 {classes[k]}"] = float(2 * found[k] / max(1, given[k] + there[k]))
        return out
