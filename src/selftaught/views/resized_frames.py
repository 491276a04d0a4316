"""A random part of log-mel frames, in time and pitch, brought back to the size of the whole."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core import Draw, View
from .spectrogram import FLOOR, between, changed


@dataclass(frozen=True)
class ResizedFrames:
    """A window of `bands` (lowest, highest) of the bands and of `time` of the row's true length, anywhere in it, stretched to the whole: BYOL-A's random
    resize crop (Niizumi et al. 2021, section III-B).

    Pitch and tempo change together with what is cut off.  A window longer than the row stands anywhere around it, with silence where nothing is; one of more than
    all bands is all of them.  Straight lines between frames and between bands; lengths stay."""

    bands: tuple[float, float] = (0.6, 1.5)
    time: tuple[float, float] = (0.6, 1.5)
    floor: float = FLOOR
    purpose: str = "window"

    def __call__(self, view: View, draw: Draw) -> View:
        mel, length = view["mel"], view["length"]
        number = draw.uniform(self.purpose, 4)
        low, high = self.bands
        share = (low + (high - low) * number[:, 0]).clamp_max(1.0)
        first = (1 - share) * mel.shape[2] * number[:, 1]
        band = torch.arange(mel.shape[2], device=mel.device)
        mel_ = mel @ between(first[:, None] + (band + 0.5) * share[:, None] - 0.5, mel.shape[2]).to(mel.dtype)
        low, high = self.time
        share = low + (high - low) * number[:, 2]
        whole = max(1.0, high) * length
        first = (whole - share * length) * number[:, 3] - (whole - length) / 2
        step = torch.arange(mel.shape[1], device=mel.device)
        return changed(
            view, at(mel_, first[:, None] + (step + 0.5) * share[:, None] - 0.5, length, self.floor), self.floor
        )

    def describe(self) -> str:
        """One line in words."""
        return f"a window of {self.bands[0]:.0%} or more of the bands and {self.time[0]:.0%} to {self.time[1]:.0%} of the time, stretched to the whole"


def at(mel: Tensor, place: Tensor, length: Tensor, floor: float) -> Tensor:
    """(B, T, F): each row (B, T', F) read at the fractional frames `place` (B, T); the floor more than half a frame beyond its first and last."""
    last = (length - 1)[:, None]
    inside = (place >= -0.5) & (place <= last + 0.5)
    place = torch.minimum(place.clamp_min(0.0), last.to(place.dtype))
    before = place.floor().long()
    after = torch.minimum(before + 1, last)
    row = torch.arange(len(mel), device=mel.device)[:, None]
    read = torch.lerp(mel[row, before], mel[row, after], (place - before).to(mel.dtype)[..., None])
    return read.masked_fill(~inside[..., None], floor)
