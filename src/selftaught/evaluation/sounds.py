"""What sounds are set against beside the usual controls: statistics of log-mel energies, and random filters on them, each with a linear read-out.

The raw input of sound is a third: log-mel energies in eight stretches of time (`Sound.raw`).  All are probed as an encoder's features are.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Draw, Facts, random
from ..nets.mel import LogMel
from ..nets.sound import within

SPELLED = {
    "log-mel": "mean and deviation of log-mel energies with a linear read-out",
    "random-filters": "random filters on log-mel energies with a linear read-out",
}
NAMES = tuple(SPELLED)
FILTERS, FRAMES, BANDS = 256, 10, 40
"""Random filters; each reaches over so many frames of 10 ms, and over all of so many mel bands."""
SEEDS = 3
"""Draws of the filters, at most."""
BATCH = 256
_LEAST = 1e-3


def is_sound(dataset) -> bool:
    """Whether these rows are sounds."""
    return getattr(dataset.modality, "name", "") == "sound"


def statistics(mel: Tensor, frames: Tensor) -> Tensor:
    """(B, 2 F): mean and deviation over the true frames of (B, T, F)."""
    keep = within(mel.shape[1], frames)[..., None].to(mel.dtype)
    count = frames.clamp_min(1)[:, None].to(mel.dtype)
    mean = (mel * keep).sum(1) / count
    spread = ((mel - mean[:, None]).square() * keep).sum(1) / count
    return torch.cat([mean, spread.sqrt()], 1)


def filtered(mel: Tensor, frames: Tensor, filters: Tensor) -> Tensor:
    """(B, 2 K): mean and maximum over time of ReLU(mel * filters), filters (K, F, n), wherever a filter lies inside the sound (shorter ones: once, zeros behind)."""
    width = filters.shape[2]
    mel = F.pad(mel.masked_fill(~within(mel.shape[1], frames)[..., None], 0.0), (0, 0, 0, max(0, width - mel.shape[1])))
    found = F.conv1d(mel.transpose(1, 2), filters).relu()
    places = (frames - width + 1).clamp_min(1)
    found = found.masked_fill(~within(found.shape[2], places)[:, None], 0.0)
    return torch.cat([found.sum(2) / places[:, None], found.amax(2)], 1)


class Heard:
    """One of the controls of sounds; `key` draws the filters.  `features(dataset, rows)` are what the probe reads."""

    def __init__(self, name: str, key: int, sample):
        """`sample`: the dataset whose bands' means and deviations the filters see (the probe's pool; no labels)."""
        self.name, self.front = name, LogMel(sample.modality.rate, BANDS)
        filters = random.normal(key, torch.arange(FILTERS), (BANDS, FRAMES)) / (BANDS * FRAMES) ** 0.5
        rows = np.unique(np.linspace(0, len(sample) - 1, min(len(sample), 2 * BATCH)).astype(np.int64))
        held = [mel[n, :count] for mel, frames in self._mels(sample, rows) for n, count in enumerate(frames.tolist())]
        every = torch.cat(held).double()
        self.shift, self.scale = every.mean(0).float(), every.std(0).clamp_min(_LEAST).float()
        self.filters = filters

    def _mels(self, dataset, rows: np.ndarray):
        """(mel, frames) of clean views, a batch at a time."""
        plain = dataset.modality.plain(Facts(rows=len(dataset), modality=dataset.modality))
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            view = plain(dataset.fetch(some), Draw(torch.from_numpy(dataset.ids[some])))
            yield self.front(view["wave"], view["length"])

    def features(self, dataset, rows: np.ndarray | None = None) -> np.ndarray:
        """(N, D) float32 of the rows at these places (default: all)."""
        rows, out = np.arange(len(dataset)) if rows is None else rows, []
        for mel, frames in self._mels(dataset, rows):
            if self.name == "log-mel":
                out.append(statistics(mel, frames))
            else:
                out.append(filtered((mel - self.shift) / self.scale, frames, self.filters))
        return torch.cat(out).numpy()
