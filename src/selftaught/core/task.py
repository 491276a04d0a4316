"""Task: what a representation is to be good for.  One file under tasks/ holds one downstream task."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch.nn as nn
from torch import Tensor

from . import module


class Task:
    """Head, loss, metric and split rule of a downstream task.  Subclasses are dataclasses of plain data, like methods.

    `version` moves when the same data would give other figures.  Targets are numpy arrays: int64 classes 0..K-1 or float64
    numbers; a row without a label never reaches a task.  Outputs are what the head gives: (N, outputs).
    """

    version: ClassVar[int] = 1
    wants: ClassVar[Literal["class", "number", "nothing"]] = "class"
    """What kind of label it learns from."""
    aliases: ClassVar[tuple[str, ...]] = ()
    metric: Any
    """Name of the figure that decides: higher is better."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        module.adopt(cls)

    @property
    def outputs(self) -> int:
        """Width of the head's output."""
        raise NotImplementedError

    def head(self, dim: int) -> nn.Module:
        """(B, dim) -> (B, outputs)."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch, in fp32."""
        raise NotImplementedError

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """(N,) predicted targets."""
        raise NotImplementedError

    def items(self, outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(numerator (N,), denominator (N,)) of which `metric` is the ratio of sums: what a paired bootstrap resamples.

        The denominator depends on the targets alone, so that two models share it.
        """
        raise NotImplementedError

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Every figure of this task, `metric` first."""
        raise NotImplementedError

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """(N,) int64: what a split must keep in proportion (classes; bins of a number)."""
        raise NotImplementedError

    def draw(self, targets: np.ndarray, budget: int, key: int) -> np.ndarray:
        """Positions of a few-label draw of `budget` labels, a pure function of (targets, budget, key), in ascending order.

        A larger budget with the same key contains the smaller.
        """
        raise NotImplementedError
