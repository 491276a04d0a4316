"""Two datasets of one modality as one: rows with labels and rows without, for what trains on both."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..core import Ragged, View


class Joined:
    """The rows of `first`, then those of `second`; both must hold rows as one modality packs them.

    Ids of the second are moved past those of the first, so that no two rows share their random numbers.
    """

    def __init__(self, first, second):
        self.first, self.second, self.modality = first, second, first.modality
        start = int(first.ids.max()) + 1 if len(first) else 0
        self.ids: np.ndarray = np.concatenate([first.ids, second.ids + start])

    def __len__(self) -> int:
        return len(self.ids)

    def fetch(self, index: np.ndarray | Tensor) -> View:
        """The raw view of the rows `index`, in that order."""
        return self.modality.collate(self.rows(index))

    def rows(self, index: np.ndarray | Tensor) -> np.ndarray | Ragged:
        """The stored rows `index`."""
        index = np.asarray(index)
        here = index < len(self.first)
        parts = [
            d.rows(i) for d, i in ((self.first, index[here]), (self.second, index[~here] - len(self.first))) if len(i)
        ]
        back = np.empty(len(index), np.int64)
        back[np.concatenate([np.flatnonzero(here), np.flatnonzero(~here)])] = np.arange(len(index))
        if not isinstance(parts[0], Ragged):
            return np.concatenate(parts)[back]
        lengths = torch.cat([torch.zeros(1, dtype=torch.int64), *(p.lengths for p in parts)])
        return Ragged(torch.cat([p.values for p in parts]), lengths.cumsum(0)).take(torch.from_numpy(back))
