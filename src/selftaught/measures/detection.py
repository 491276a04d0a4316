"""Average precision of found objects as COCO computes it, with a weight for every picture, so that pictures can be resampled.

Source: Lin et al. 2014 (COCO) and its evaluation code: the ten overlaps 0.50, 0.55, ..., 0.95, at most 100 objects a picture and class, greedy
matching from the surest on, precision made monotone and read at the 101 recalls 0, 0.01, ..., 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100
"""Objects of a class that count in a picture: the surest."""
_HELD = 1 << 22


@dataclass(frozen=True)
class Objects:
    """The objects of one picture: boxes (n, 4) float64 as left, top, right, bottom; classes (n,) int64; scores (n,), 1 for true ones;
    crowd (n,) bool: a region of many, in which whatever is found counts neither way."""

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    crowd: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    @classmethod
    def of(cls, boxes, classes, scores=None, crowd=None) -> Objects:
        """From anything array-like; scores default to 1, crowd to False."""
        found = np.asarray(boxes, np.float64).reshape(-1, 4)
        ones = np.ones(len(found)) if scores is None else np.asarray(scores, np.float64)
        many = np.zeros(len(found), bool) if crowd is None else np.asarray(crowd, bool)
        return cls(found, np.asarray(classes, np.int64).reshape(-1), ones, many)

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: np.ndarray) -> Objects:
        """Some of them, in the order of `index`."""
        return Objects(self.boxes[index], self.classes[index], self.scores[index], self.crowd[index])


def overlaps(first: np.ndarray, second: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """(n, m) intersection over union of boxes (n, 4) and (m, 4); over the first box's own area where the second is a crowd."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(b[:, 2:] - b[:, :2], 0, None), axis=1) for b in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    if crowd is not None:
        union = np.where(crowd[None], areas[0][:, None], union)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def suppress(boxes: np.ndarray, scores: np.ndarray, limit: float = 0.6) -> np.ndarray:
    """Places of the boxes that stay, the surest first: one that overlaps a surer kept one by more than `limit` goes (greedy NMS)."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(int(first))
        order = rest[overlaps(boxes[first : first + 1], boxes[rest])[0] <= limit]
    return np.array(kept, np.int64)


@dataclass(frozen=True)
class Matched:
    """What was found in N pictures, compared with what is there: hits and ignored (D, 10) bool at each overlap, scores, classes and
    pictures (D,), in the order of the pictures; truths (N, K): true objects by picture and class, crowds left out."""

    scores: np.ndarray
    classes: np.ndarray
    pictures: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    truths: np.ndarray

    def __len__(self) -> int:
        return len(self.truths)

    def precision(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R, 10, K) average precision; NaN for a class without a true object.  `weights` (R, N): how often each picture counts."""
        weights = np.ones((1, len(self))) if weights is None else weights
        out = np.full((len(weights), len(OVERLAPS), self.truths.shape[1]), np.nan)
        for k in range(self.truths.shape[1]):
            own = np.flatnonzero(self.classes == k)
            own = own[np.argsort(-self.scores[own], kind="stable")]
            block = max(1, _HELD // max(1, len(own)))
            for start in range(0, len(weights), block):
                some = weights[start : start + block]
                out[start : start + block, :, k] = self._of_class(own, some, some @ self.truths[:, k])
        return out

    def _of_class(self, own: np.ndarray, weights: np.ndarray, total: np.ndarray) -> np.ndarray:
        """(R, 10) of one class, whose found objects are `own`, the surest first."""
        often = weights[:, self.pictures[own]]
        out = np.full((len(weights), len(OVERLAPS)), np.nan)
        for t in range(len(OVERLAPS)):
            right = np.cumsum(often * self.hits[own, t], axis=1)
            wrong = np.cumsum(often * ~(self.hits[own, t] | self.ignored[own, t]), axis=1)
            precision = right / np.maximum(right + wrong, np.spacing(1))
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            recall = right / np.maximum(total, np.spacing(1))[:, None]
            for r in np.flatnonzero(total > 0):
                at = np.searchsorted(recall[r], RECALLS, side="left")
                held = precision[r][np.minimum(at, len(own) - 1)] if len(own) else np.zeros(len(RECALLS))
                out[r, t] = np.where(at < len(own), held, 0.0).mean()
        return out

    def value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) mAP: the mean over overlaps and the classes that have true objects; 0 where there are none."""
        found = self.precision(weights)
        known = ~np.isnan(found)
        return np.where(known, found, 0).sum((1, 2)) / np.maximum(known.sum((1, 2)), 1)

    def figures(self, classes: Sequence[str]) -> dict[str, float]:
        """mAP, AP50, AP75 and each class's AP (absent classes are left out)."""
        found = self.precision()[0]
        seen = ~np.isnan(found[0])
        mean = lambda rows: float(rows[..., seen].mean()) if seen.any() else 0.0  # noqa: E731
        named = {f"AP {classes[k]}": float(found[:, k].mean()) for k in np.flatnonzero(seen).tolist()}
        return {"mAP": mean(found), "AP50": mean(found[0]), "AP75": mean(found[5]), **named}


def match(found: Sequence[Objects], truths: Sequence[Objects], classes: int) -> Matched:
    """Compares what was found in each picture with what is there.

    Greedy: the surest takes the true box of its class that it overlaps most, if by enough; what finds none is ignored where it lies in a
    crowd.  Cost: detections x true boxes of a class, picture by picture.
    """
    if len(found) != len(truths):
        raise ValueError(f"{len(found)} pictures were searched, {len(truths)} are known")
    parts = []
    counts = np.zeros((len(truths), classes), np.int64)
    for number, (mine, true) in enumerate(zip(found, truths)):
        counts[number] = np.bincount(true.classes[~true.crowd], minlength=classes)
        for k in np.unique(mine.classes):
            some = mine.take(np.flatnonzero(mine.classes == k))
            some = some.take(np.argsort(-some.scores, kind="stable")[:MOST])
            hits, ignored = _match_one(some, true.take(np.flatnonzero(true.classes == k)))
            where = np.full(len(some), number)
            parts.append((some.scores, some.classes, where, hits, ignored))
    if not parts:
        none = np.zeros((0, len(OVERLAPS)), bool)
        return Matched(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), none, none, counts)
    scores, kinds, where, hits, ignored = (np.concatenate(column) for column in zip(*parts))
    return Matched(scores, kinds, where, hits, ignored, counts)


def _match_one(found: Objects, true: Objects) -> tuple[np.ndarray, np.ndarray]:
    """(hits, ignored) (n, 10) bool of one picture and class; `found` the surest first."""
    hits = np.zeros((len(found), len(OVERLAPS)), bool)
    ignored = np.zeros_like(hits)
    shared = overlaps(found.boxes, true.boxes, true.crowd)
    single, crowd = shared[:, ~true.crowd], shared[:, true.crowd]
    count = single.shape[1]
    free = np.ones((len(OVERLAPS), count), bool)
    enough = np.minimum(OVERLAPS, 1 - 1e-10)
    for d in range(len(found)):
        if count:
            open_to = np.where(free & (single[d] >= enough[:, None]), single[d], -1.0)
            best = (
                count - 1 - np.argmax(open_to[:, ::-1], axis=1)
            )  # of equal overlaps the last, as COCO's code takes it
            hits[d] = open_to[np.arange(len(OVERLAPS)), best] >= 0
            free[np.flatnonzero(hits[d]), best[hits[d]]] = False
        if crowd.shape[1]:
            ignored[d] = ~hits[d] & (crowd[d].max() >= enough)
    return hits, ignored
