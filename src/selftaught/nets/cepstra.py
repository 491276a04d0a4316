"""Cepstra: the shape of the spectrum in a few numbers a frame, and how it moves."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
from torch import Tensor

from .mel import LogMel

COEFFICIENTS, BANDS, REACH = 13, 23, 2
"""Kaldi's: 13 coefficients of 23 bands; slopes are fitted over two frames to either side."""


def slopes(x: Tensor, length: Tensor) -> Tensor:
    """(B, T, F) the slope of a line through each frame and its neighbours in the row; the row's first and last frame stand for what lies beyond."""
    place = torch.arange(x.shape[1], device=x.device)
    last = (length - 1).clamp_min(0)[:, None]
    rise = torch.zeros_like(x)
    for n in range(1, REACH + 1):
        ahead, back = torch.minimum(place + n, last), torch.minimum((place - n).clamp_min(0), last)
        rise = rise + n * (x.gather(1, _wide(ahead, x)) - x.gather(1, _wide(back, x)))
    return rise / (2 * sum(n * n for n in range(1, REACH + 1)))


def _wide(place: Tensor, x: Tensor) -> Tensor:
    return place[..., None].expand(-1, -1, x.shape[2])


class Cepstra(nn.Module):
    """Waves -> (B, T, 39): 13 mel cepstra, their slopes and the slopes of these, a frame of `window` seconds every `hop` samples.

    The cosine transform (orthonormal, type II) of 23 log-mel energies; no liftering, since whoever clusters them standardises.  No parameters, and
    nothing in the state.  Frame t begins at sample t hop; what lies behind a clip's end is silence.
    """

    cosines: Tensor
    width = 3 * COEFFICIENTS

    def __init__(self, rate: int, hop: int, window: float = 0.025):
        super().__init__()
        self.front = LogMel(rate, BANDS, window=max(window, hop / rate), hop=hop / rate)
        if self.front.hop != hop:
            raise ValueError(
                f"frames every {self.front.hop} samples, where {hop} are wanted: labels would not meet frames"
            )
        angle = torch.outer(
            torch.arange(BANDS, dtype=torch.float64) + 0.5, torch.arange(COEFFICIENTS, dtype=torch.float64)
        )
        cosines = (math.pi / BANDS * angle).cos() * math.sqrt(2 / BANDS)
        cosines[:, 0] /= math.sqrt(2)
        self.register_buffer("cosines", cosines.float(), persistent=False)

    def forward(self, wave: Tensor, length: Tensor) -> Tensor:
        mel, frames = self.front(wave, length)
        still = mel @ self.cosines.to(mel.dtype)
        moving = slopes(still, frames)
        return torch.cat([still, moving, slopes(moving, frames)], 2)

    def spec(self) -> dict:
        """What they are, as plain data."""
        return {
            "kind": "mel cepstra with slopes", "rate": self.front.rate, "hop": self.front.hop, "window": self.front.window, "bands": BANDS,
            "coefficients": COEFFICIENTS, "dimensions": self.width,
        }  # fmt: skip
