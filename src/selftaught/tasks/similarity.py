"""Similarity: how alike the two texts (rows) of a pair are, as a number; by the cosine of their representations, and by a probe of the pair.

Data: a table with two columns of payloads and one of numbers (STS: columns sentence1, sentence2, score).  The cosine needs no label; the
probe is a ridge regression on |u - v| and u * v of the two representations (Conneau et al. 2017, InferSent; Conneau & Kiela 2018, SentEval).
Figures: Spearman's rank correlation, which decides, and Pearson's.

selftaught evaluate RUN pairs.csv --task similarity asks whether pretraining helped; selftaught finetune RUN pairs.csv --task similarity --column sentence1,sentence2
--labels score trains the encoder itself until the cosine is the number, scaled to 0 to 1 (Reimers & Gurevych 2019, Sentence-BERT, arXiv 1908.10084, its regression
objective); selftaught predict MODEL pairs.csv gives each pair's number and cosine, and selftaught export MODEL --to sentence-transformers hands the encoder over.
When finetuning fails: a few hundred pairs, which teach their own words; numbers that are no likeness (a question and its answer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core.task import Task
from ..measures.correlation import pearson, spearman


class Similarity(Task):
    """A number for a pair of rows: cosine, and ridge regression on |u - v| and u * v."""

    version: ClassVar[int] = 1
    wants: ClassVar = "pair"
    aliases: ClassVar = ("sts", "pairs", "textual-similarity")
    mean: float = 0.0
    """Mean of the training targets."""
    scale: float = 1.0
    """Standard deviation of the training targets."""
    first: str = ""
    """Column of the first texts that was learned from."""
    second: str = ""
    """Column of the second ones."""
    low: float = 0.0
    """The number that a cosine of 0 stands for: the least of the training targets."""
    high: float = 1.0
    """The number that a cosine of 1 stands for: the greatest."""
    metric: str = "spearman"
    """What decides: the rank correlation with the targets."""

    @property
    def outputs(self) -> int:
        return 1

    def head(self, dim: int) -> nn.Module:
        """Nothing: the cosine of two representations has no parameters."""
        return nn.Identity()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of cosines (B,) against the targets, scaled so that `low` is 0 and `high` is 1."""
        with torch.autocast(outputs.device.type, enabled=False):
            wanted = (targets.double() - self.low) / (self.high - self.low)
            return F.mse_loss(outputs.float(), wanted.float())

    def number(self, cosines: np.ndarray) -> np.ndarray:
        """The numbers that cosines (N,) stand for, in the unit of the targets."""
        return self.low + np.asarray(cosines, np.float64) * (self.high - self.low)

    def features(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(N, 2 D) of two representations (N, D): |u - v| and u * v, which do not depend on the order of the pair."""
        return np.concatenate([np.abs(first - second), first * second], 1)

    def cosine(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(N,) float64, to twelve decimals, so that rounding breaks no ties; 0 where either is the zero vector."""
        u, v = first.astype(np.float64), second.astype(np.float64)
        length = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
        return np.round((u * v).sum(1) / np.where(length > 0, length, 1), 12)

    def encode(self, targets: np.ndarray) -> np.ndarray:
        return (targets - self.mean) / self.scale

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return np.asarray(outputs, dtype=np.float64)[:, 0] * self.scale + self.mean

    def metrics(self, guesses: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        return self.tally(guesses, targets).figures()

    def tally(self, guesses: Any, targets: Any) -> Correlated:
        return Correlated(np.asarray(guesses, np.float64), np.asarray(targets, np.float64))


@dataclass(frozen=True)
class Correlated:
    """Guesses and targets (N,) of pairs: a correlation is no ratio of sums, so it is worked out anew where pairs are resampled."""

    guesses: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) Spearman's correlation for `weights` (R, N), how often each pair counts."""
        if weights is None or len(weights) <= 64:
            return spearman(self.guesses, self.targets, weights)
        return np.concatenate([self.value(some) for some in np.array_split(weights, -(-len(weights) // 64))])

    def figures(self, classes=()) -> dict[str, float]:
        """spearman and pearson."""
        return {
            "spearman": float(spearman(self.guesses, self.targets)[0]),
            "pearson": float(pearson(self.guesses, self.targets)[0]),
        }
