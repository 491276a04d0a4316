"""Whole clips as a network is given them while it is trained: their log-mel energies are worked out once, where it reads such."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..core import Ragged, View
from ..data import cache
from ..nets.listening import LONGEST

AT_ONCE = 32
"""Clips that are heard together where nothing is learned from them."""


@dataclass
class Feed:
    """The clips `rows` (places) of a dataset of sounds, by their number among these."""

    sounds: Any
    rows: np.ndarray
    device: torch.device
    mels: Ragged | None = None
    """(frames, bands) of each, where they are held."""

    @classmethod
    @torch.no_grad()
    def of(cls, encoder, sounds, rows: np.ndarray, device: torch.device) -> Feed:
        """Holds log-mel energies where the encoder reads such, no clip is heard in stretches, and they take at most an eighth of the memory."""
        found, lengths = cls(sounds, rows, device), sounds.lengths
        if getattr(encoder, "reads", "") != "mel" or lengths is None or not len(rows):
            return found
        front = sounds.modality.front
        if lengths[rows].max() > LONGEST * front.rate or lengths[rows].sum() / front.hop * front.bands * 4 > cache.memory_bytes() // 8:  # fmt: skip
            return found
        front, parts = front.to(device), [torch.empty(0)] * len(rows)
        for some in found.by_length():
            view = sounds.fetch(rows[some]).to(device)
            mel, frames = front(view["wave"], view["length"])
            for number, row, count in zip(some.tolist(), mel, frames.tolist()):
                parts[number] = row[:count].clone()
        offsets = torch.tensor([0, *np.cumsum([len(p) for p in parts]).tolist()], device=device)
        found.mels = Ragged(torch.cat(parts), offsets)
        return found

    def by_length(self, batch: int = AT_ONCE) -> Iterator[np.ndarray]:
        """Numbers, `batch` at a time: clips of like length together."""
        lengths = self.sounds.lengths
        order = np.arange(len(self.rows)) if lengths is None else np.argsort(lengths[self.rows], kind="stable")
        for start in range(0, len(order), batch):
            yield order[start : start + batch]

    def view(self, numbers: np.ndarray) -> View:
        """The whole clips of these numbers: waves, or log-mel energies with the front end's floor behind the end."""
        if self.mels is None:
            return self.sounds.fetch(self.rows[numbers]).to(self.device)
        some = self.mels.take(torch.from_numpy(numbers).to(self.device))
        mel, _ = some.pad(self.sounds.modality.front.floor_log)
        return View("sound", parts={"mel": mel, "length": some.lengths})
