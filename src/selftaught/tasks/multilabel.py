"""Multi-label classification: which of K classes a row has, any number of them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .. import measures
from ..core import random
from ..core.task import Task

HEAVIEST = 20.0
"""What a positive of a rare class counts for, at most."""


class Multilabel(Task):
    """A sigmoid for each class, binary cross-entropy; label-ranking average precision, mAP, micro and macro F1.

    Targets are (N, K) of 0 and 1.  The figure that decides is the label-ranking average precision: how far up each row's own
    classes come among all of them.  It is a mean over rows, so that two models can be compared row by row, and it needs no
    threshold.  mAP is no mean over rows (one row moves the precision of all below it), so it has no paired bootstrap; it stands beside.
    Rows of no class train and count in mAP and F1; they have no ranking.

    Split rule: rows in proportion to the rarest class that they have.  The budget of a few-label draw is the number of rows in all.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "set"
    aliases: ClassVar = ("multi-label", "tagging")
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the outputs."""
    metric: str = "ranking precision"
    """What decides: label-ranking average precision."""
    threshold: float = 0.5
    """The probability from which on a class is given; chosen on validation rows."""
    weights: tuple[float, ...] = ()
    """What a positive of each class counts for in the loss; empty: 1."""

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def head(self, dim: int) -> nn.Module:
        head = nn.Linear(dim, self.outputs)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(outputs.device.type, enabled=False):
            weights = torch.tensor(self.weights, device=outputs.device) if self.weights else None
            return F.binary_cross_entropy_with_logits(outputs.float(), targets.float(), pos_weight=weights)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """(N, K) probabilities: rankings need them, and `given` makes sets of them."""
        return measures.sigmoid(np.asarray(outputs, dtype=np.float64))

    def given(self, guesses: np.ndarray) -> np.ndarray:
        """(N, K) bool: the classes whose probability reaches the threshold."""
        return guesses >= self.threshold

    def items(self, guesses: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weight = (targets == 1).any(1).astype(np.float64)
        return measures.label_ranking(guesses, targets == 1) * weight, weight

    def metrics(self, guesses: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        truth, given = targets == 1, self.given(guesses)
        gained, weight = self.items(guesses, targets)
        hits, both = (truth & given).sum(0), truth.sum(0) + given.sum(0)
        each, seen = measures.average_precision(guesses, truth), truth.any(0)
        f1 = 2 * hits / np.maximum(both, 1)
        return {
            self.metric: float(gained.sum() / max(weight.sum(), 1.0)),
            "map": float(each[seen].mean()) if seen.any() else 0.0,
            "micro f1": float(2 * hits.sum() / max(both.sum(), 1)),
            "macro f1": float(f1[both > 0].mean()) if (both > 0).any() else 0.0,
        }

    def best_threshold(self, guesses: np.ndarray, targets: np.ndarray) -> float:
        """The threshold with the best micro F1 on rows that were not trained on; between two of their probabilities."""
        order = np.argsort(-guesses, axis=None, kind="stable")
        ranked, truth = guesses.ravel()[order], (targets == 1).ravel()[order]
        if not truth.any():
            return self.threshold
        f1 = 2 * truth.cumsum() / (np.arange(1, len(truth) + 1) + truth.sum())
        last = np.append(ranked[1:] < ranked[:-1], True)
        best = int(np.argmax(np.where(last, f1, -1.0)))
        below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
        return float((ranked[best] + below) / 2)

    def draws(self, labels, within: np.ndarray, budget: int, count: int, seed: int) -> list[np.ndarray]:
        rows = torch.from_numpy(np.ascontiguousarray(within))
        keys = (random.key(seed, "draw of sets", k) for k in range(count))
        return [np.sort(within[torch.argsort(random.bits(key, rows), stable=True)[:budget].numpy()]) for key in keys]


def positive_weights(targets: np.ndarray) -> tuple[float, ...]:
    """What positives of each class must count for to weigh as much as its negatives: from 1 to `HEAVIEST`.  targets (N, K)."""
    positive = (targets == 1).sum(0)
    ratio = (len(targets) - positive) / np.maximum(positive, 1)
    return tuple(float(w) for w in np.clip(ratio, 1.0, HEAVIEST).round(6))
