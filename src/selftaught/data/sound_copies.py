"""Near copies of sounds: the same recording re-encoded, louder or quieter, turned over, a little longer or shorter, with some noise.

Candidates are told by their spectra over the first seconds; a pair is the same where one, shifted against the other, is nearly a multiple of it.
Another utterance of the same word by the same speaker is not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

RATE = 4000
"""Hz at which sounds are compared, about: codecs leave that band alone."""
SECONDS = 4
ALIKE = 0.9
"""Correlation from which two sounds are one."""
_FRAME, _BLOCK = 256, 64
_QUIET = 1e-6


def compared(dataset, places: np.ndarray) -> Tensor:
    """(n, L) float32 at about RATE of the first SECONDS of rows of sound, without offset, 0 behind the end."""
    view, rate = dataset.fetch(places), dataset.modality.rate
    wave = view["wave"][:, : SECONDS * rate].float() / 32768
    length = view["length"].clamp_max(wave.shape[1])
    inside = torch.arange(wave.shape[1]) < length[:, None]
    wave = (wave - wave.sum(1, keepdim=True) / length[:, None]) * inside
    step = max(1, rate // RATE)
    return F.avg_pool1d(F.pad(wave, (0, -wave.shape[1] % step))[:, None], step)[:, 0]


def spectra(dataset) -> np.ndarray:
    """(rows, 64) float32: mean and deviation over time of the log power in 32 bands, whatever the level."""
    out = []
    for start in range(0, len(dataset), _BLOCK):
        wave = compared(dataset, np.arange(start, min(start + _BLOCK, len(dataset))))
        frames = F.pad(wave, (0, max(0, _FRAME - wave.shape[1]))).unfold(1, _FRAME, _FRAME // 2)
        power = torch.fft.rfft(frames * torch.hann_window(_FRAME)).abs().square()[..., 1:]
        bands = power.unflatten(-1, (32, -1)).mean(-1)
        there = (bands.sum(-1, keepdim=True) > _QUIET * bands.sum(-1, keepdim=True).amax(1, keepdim=True)).float()
        log = (bands + _QUIET * bands.amax((1, 2), keepdim=True) + 1e-20).log()
        count = there.sum(1).clamp_min(1)
        mean = (log * there).sum(1) / count
        spread = ((log - mean[:, None]).square() * there).sum(1).div(count).sqrt()
        out.append(torch.cat([mean - mean.mean(1, keepdim=True), spread], 1))
    return torch.cat(out).numpy()


def sound_verifier(a, b=None) -> Callable[[np.ndarray], np.ndarray]:
    """verify(pairs (n, 2)) -> (n,) for places in the datasets of sound a and b (None: a): above 0.5 where they are one recording."""

    def verify(pairs: np.ndarray) -> np.ndarray:
        found = [_correlation(a, a if b is None else b, pairs[i : i + _BLOCK]) for i in range(0, len(pairs), _BLOCK)]
        value = np.concatenate(found) if found else np.empty(0, np.float32)
        return np.where(value >= ALIKE, value, value / 2)

    return verify


def _correlation(a, b, pairs: np.ndarray) -> np.ndarray:
    """(n,) the largest magnitude, over shifts, of the correlation of each pair."""
    first, second = compared(a, pairs[:, 0]), compared(b, pairs[:, 1])
    size = next_fast_len(first.shape[1] + second.shape[1], real=True)
    product = torch.fft.rfft(first, size) * torch.fft.rfft(second, size).conj()
    scale = (first.square().sum(1) * second.square().sum(1)).sqrt().clamp_min(1e-12)
    return (torch.fft.irfft(product, size).abs().amax(1) / scale).numpy()
