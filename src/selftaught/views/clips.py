"""Stretches of sound, and the way from waves to log-mel energies.  What a row becomes depends on the row and its draw, never on padding."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..core import Draw, View
from ..nets.mel import FULL, LogMel
from .spans import places, stretch


def as_wave(wave: Tensor) -> Tensor:
    """Floats in -1..1 of int16; floats as they are."""
    return wave if wave.is_floating_point() else wave.float() / FULL


@dataclass(frozen=True)
class Clip:
    """A stretch of `share` (lowest, highest) of each sound, at most `context` samples; `head`: its beginning.

    {"wave": (B, L) float32, "length"}; params "start" and "span" say which samples.
    """

    context: int
    share: tuple[float, float] = (1.0, 1.0)
    head: bool = False
    least: int = 800

    def __call__(self, view: View, draw: Draw) -> View:
        wave, length = view["wave"], view["length"]
        start, span = stretch(length, draw, share=self.share, longest=self.context, least=self.least, head=self.head)
        place, inside = places(start, span, wave.shape[1])
        cut = as_wave(wave.gather(1, place)).masked_fill(~inside, 0.0)
        return View(view.modality, view.role, {"wave": cut, "length": span}, {"start": start, "span": span})

    def describe(self) -> str:
        """One line in words."""
        low, high = self.share
        what = "the beginning" if self.head else "a stretch"
        return f"{what} of each sound" if low == high == 1 else f"{what} of {low:.0%} to {high:.0%} of each sound"


@dataclass(frozen=True)
class ToMel:
    """Waves become log-mel energies: {"mel": (B, T, bands), "length": (B,) frames}."""

    front: LogMel

    def __call__(self, view: View, draw: Draw) -> View:
        wave = view["wave"]
        mel, frames = self.front.to(wave.device)(wave, view["length"])
        return View(view.modality, view.role, {"mel": mel, "length": frames}, view.params)

    def describe(self) -> str:
        """One line in words."""
        return f"{self.front.bands} log-mel bands every {1000 * self.front.hop / self.front.rate:.0f} ms"
