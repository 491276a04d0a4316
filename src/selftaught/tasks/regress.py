"""Regression: one number a row."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import random
from ..core.task import Task


class Regress(Task):
    """One number a row: linear head, squared error on standardised targets; R2, MAE and RMSE.

    Split rule: tenths of the number in proportion.  The budget of a few-label draw is the number of rows in all.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "number"
    aliases: ClassVar = ("regression",)
    mean: float = 0.0
    """Mean of the training targets."""
    scale: float = 1.0
    """Standard deviation of the training targets."""
    metric: str = "r2"
    """What decides: R2 over the rows that are scored."""

    @property
    def outputs(self) -> int:
        return 1

    def head(self, dim: int) -> nn.Module:
        head = nn.Linear(dim, 1)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(outputs.device.type, enabled=False):
            wanted = (targets.double() - self.mean) / self.scale  # fp64 first: a large mean would eat the digits
            return F.mse_loss(outputs.float()[:, 0], wanted.float())

    def encode(self, targets: np.ndarray) -> np.ndarray:
        return (targets - self.mean) / self.scale

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return np.asarray(outputs, dtype=np.float64)[:, 0] * self.scale + self.mean

    def items(self, guesses: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        spread = (targets - targets.mean()) ** 2
        return spread - (targets - guesses) ** 2, spread

    def metrics(self, guesses: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        gained, spread = self.items(guesses, targets)
        error = targets - guesses
        return {
            "r2": float(gained.sum() / spread.sum()) if spread.sum() else 0.0,
            "mae": float(np.abs(error).mean()),
            "rmse": float(np.sqrt((error**2).mean())),
        }

    def draws(self, labels, within: np.ndarray, budget: int, count: int, seed: int) -> list[np.ndarray]:
        rows = torch.from_numpy(np.ascontiguousarray(within))
        keys = (random.key(seed, "draw of numbers", k) for k in range(count))
        return [np.sort(within[torch.argsort(random.bits(key, rows), stable=True)[:budget].numpy()]) for key in keys]
