"""Classification: which of K classes a row belongs to."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core.task import Task
from ..data import splits


class Classify(Task):
    """One class a row: linear head, cross-entropy; accuracy, balanced accuracy and F1.

    Split rule: every class in proportion.  Few-label draws are balanced over classes; a class with fewer rows than the
    budget gives all it has.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "class"
    aliases: ClassVar = ("classification",)
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of their codes."""
    metric: Literal["accuracy", "balanced accuracy"] = "accuracy"
    """What decides; balanced accuracy weights every class alike."""
    smoothing: float = 0.0
    """Label smoothing of the loss."""

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def head(self, dim: int) -> nn.Module:
        head = nn.Linear(dim, self.outputs)
        nn.init.zeros_(head.weight)  # a head at zero says nothing yet, and needs no random numbers
        nn.init.zeros_(head.bias)
        return head

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(outputs.device.type, enabled=False):
            return F.cross_entropy(outputs.float(), targets.long(), label_smoothing=self.smoothing)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return outputs.argmax(1).astype(np.int64)

    def items(self, guesses: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weight = self.weights(targets)
        return weight * (guesses == targets), weight

    def weights(self, targets: np.ndarray) -> np.ndarray:
        """(N,) what a row counts for: 1, or for balanced accuracy the inverse of its class's share (mean 1)."""
        if self.metric == "accuracy":
            return np.ones(len(targets))
        count = np.bincount(targets, minlength=self.outputs)
        return len(targets) / (np.count_nonzero(count) * count[targets])

    def metrics(self, guesses: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        hits = np.bincount(targets[guesses == targets], minlength=self.outputs)
        true, said = (np.bincount(x, minlength=self.outputs) for x in (targets, guesses))
        seen = true > 0
        f1 = 2 * hits / np.maximum(true + said, 1)
        figures = {
            "accuracy": float((guesses == targets).mean()),
            "balanced accuracy": float((hits[seen] / true[seen]).mean()),
            "f1": float(f1[(true + said) > 0].mean()),
        }
        return {self.metric: figures[self.metric], **figures}

    def draws(self, labels, within: np.ndarray, budget: int, count: int, seed: int) -> list[np.ndarray]:
        codes = labels.values[within]
        many = np.bincount(codes, minlength=self.outputs)[codes] >= budget
        scarce = within[~many]
        if not many.any():
            return [np.sort(scarce)] * count
        drawn = splits.draws(labels, budget, count, seed, within=within[many])
        return [np.sort(np.concatenate([rows, scarce])) for rows in drawn]
