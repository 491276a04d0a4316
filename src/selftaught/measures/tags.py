"""Strict scores of tagged words: a span counts with the right type and both borders right; counted sentence by sentence.

Spans are those of IOB2 (Tjong Kim Sang & Veenstra 1999) and nothing else: B-x begins, I-x goes on where a span of x is open.  An I-x without one is no
span, so that I-Phone, I-Phone is not the entity of B-Phone, I-Phone; lenient scripts say it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

OUTSIDE = "O"
Span = tuple[str, int, int]
"""Type, first word, word after the last."""


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans of one sentence of IOB2 tags, in order; tags that are no part of one are none."""
    out: list[Span] = []
    kind, start = "", -1
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, name = tag.partition("-")
        if start >= 0 and not (mark == "I" and name == kind):
            out.append((kind, start, place))
            start = -1
        if mark == "B":
            kind, start = name, place
    return out


def is_valid(tags: Sequence[str]) -> bool:
    """Whether every I-x goes on with a span of x."""
    before = OUTSIDE
    for tag in tags:
        if tag.startswith("I-") and before not in (tag, f"B-{tag[2:]}"):
            return False
        before = tag
    return True


@dataclass(frozen=True)
class Spans:
    """Spans (or words) of N sentences and K types: rightly found, found, and true; each (N, K) int64.  `metric` names F1 over all types."""

    hits: np.ndarray
    said: np.ndarray
    truth: np.ndarray
    metric: str = "span F1"

    def __len__(self) -> int:
        return len(self.hits)

    def value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) 2 hits / (said + true), summed over types; 0 where there is neither.  `weights` (R, N): how often each sentence counts."""
        weights = np.ones((1, len(self))) if weights is None else weights
        hits, said, truth = (weights @ part.sum(1) for part in (self.hits, self.said, self.truth))
        return 2 * hits / np.maximum(said + truth, 1)

    def figures(self, classes: Sequence[str]) -> dict[str, float]:
        """The figure that decides, precision and recall over all types, and each type's three (types that are neither true nor said are left out)."""
        hits, said, truth = (part.sum(0) for part in (self.hits, self.said, self.truth))
        out = {self.metric: float(self.value()[0])}
        if self.metric == "span F1":
            out |= {"precision": _share(hits.sum(), said.sum()), "recall": _share(hits.sum(), truth.sum())}
        for k in np.flatnonzero(said + truth).tolist():
            out[f"F1 {classes[k]}"] = _share(2 * hits[k], said[k] + truth[k])
            out[f"precision {classes[k]}"] = _share(hits[k], said[k])
            out[f"recall {classes[k]}"] = _share(hits[k], truth[k])
        return out


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0


def count_spans(guesses: Sequence[Sequence[str]], truths: Sequence[Sequence[str]], types: Sequence[str]) -> Spans:
    """Spans of IOB2 tags compared sentence by sentence.  Raises ValueError where sentences differ in length."""
    place = {name: k for k, name in enumerate(types)}
    hits, said, truth = (np.zeros((len(truths), len(types)), np.int64) for _ in range(3))
    for row, (guess, true) in enumerate(zip(guesses, truths, strict=True)):
        if len(guess) != len(true):
            raise ValueError(f"{len(guess)} tags for {len(true)} words")
        mine, known = set(spans(guess)), set(spans(true))
        for part, some in ((hits, mine & known), (said, mine), (truth, known)):
            for name, _, _ in some:
                part[row, place[name]] += 1
    return Spans(hits, said, truth)


def count_words(guesses: Sequence[np.ndarray], truths: Sequence[np.ndarray], classes: int) -> Spans:
    """Codes of words compared one by one (part of speech): F1 over all classes is then the accuracy.  Words of truth -1 do not count."""
    matrices = []
    for guess, true in zip(guesses, truths, strict=True):
        known = true >= 0
        flat = np.bincount(true[known] * classes + guess[known], minlength=classes * classes)
        matrices.append(flat.reshape(classes, classes))
    whole = np.stack(matrices) if matrices else np.zeros((0, classes, classes), np.int64)
    return Spans(np.diagonal(whole, axis1=1, axis2=2).copy(), whole.sum(1), whole.sum(2), "accuracy")


def likeliest(logp: np.ndarray, tags: Sequence[str]) -> tuple[np.ndarray, bool]:
    """((n,) codes, repaired): the likeliest sequence of `tags` (K,) in which every I-x goes on with a span of x, for logp (n, K).

    The best tag of every word where those make such a sequence, else Viterbi's (1967) best one among them."""
    best = logp.argmax(1)
    if is_valid([tags[k] for k in best]):
        return best, False
    allowed = np.array([[not (b.startswith("I-") and a not in (b, f"B-{b[2:]}")) for b in tags] for a in tags])
    bar = np.where(allowed, 0.0, -np.inf)
    score = logp[0] + np.where([t.startswith("I-") for t in tags], -np.inf, 0.0)
    back = np.zeros(logp.shape, np.int64)
    for n in range(1, len(logp)):
        reached = score[:, None] + bar
        back[n] = reached.argmax(0)
        score = reached.max(0) + logp[n]
    codes = np.zeros(len(logp), np.int64)
    codes[-1] = score.argmax()
    for n in range(len(logp) - 1, 0, -1):
        codes[n - 1] = back[n, codes[n]]
    return codes, True
