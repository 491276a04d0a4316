"""Which rows of unequal length stand together in a step: a random few, or where padding would waste much, rows of like length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..core import random

WASTE = 0.2
"""Share of padding up to which rows stand together at random: a random batch is the better sample."""
ROUGH = 0.2
"""Lengths are taken up to so much more or less, drawn anew each epoch, so that other rows meet and classes of one length do not always stand alone."""


@dataclass(frozen=True)
class Batches:
    """The steps of an epoch: each row stands in one of them, a pure function of seed, purpose and epoch."""

    lengths: np.ndarray | None
    """(N,) what each row takes; None where all take the same."""
    rows: int
    count: int
    """Steps of an epoch."""
    seed: int
    purpose: str
    alike: bool = False
    """Whether rows of like length stand together."""

    @classmethod
    def of(cls, lengths: np.ndarray | None, rows: int, count: int, *, seed: int, purpose: str) -> Batches:
        """Rows of like length together where in random batches more than WASTE would be padding."""
        mixed = cls(lengths, rows, count, seed, purpose)
        return cls(lengths, rows, count, seed, purpose, lengths is not None and mixed.padding(0) > WASTE)

    def epoch(self, number: int) -> list[np.ndarray]:
        """The numbers 0 to N - 1 of the rows of each step."""
        order = random.permutation(random.key(self.seed, self.purpose, number), self.rows).numpy()
        if not self.alike or self.lengths is None:
            return np.array_split(order, self.count)
        drawn = random.uniform(random.key(self.seed, self.purpose, "length", number), torch.arange(self.rows)).numpy()
        rough = self.lengths * (1 + ROUGH * (2 * drawn - 1))
        steps = np.array_split(order[np.argsort(rough[order], kind="stable")], self.count)
        turn = random.permutation(random.key(self.seed, self.purpose, "steps", number), self.count).tolist()
        return [steps[at] for at in turn]

    def padding(self, number: int) -> float:
        """The share of an epoch's places that is padding."""
        if self.lengths is None:
            return 0.0
        held = sum(len(rows) * int(self.lengths[rows].max()) for rows in self.epoch(number) if len(rows))
        return 1 - float(self.lengths.sum()) / max(1, held)

    def describe(self) -> str:
        """A sentence where rows are sorted, else ""."""
        if not self.alike:
            return ""
        mixed = Batches(self.lengths, self.rows, self.count, self.seed, self.purpose)
        return f"batches: rows of like length together, {self.padding(0):.0%} of padding instead of {mixed.padding(0):.0%}."
