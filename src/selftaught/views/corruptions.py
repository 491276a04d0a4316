"""What happens to pictures between one camera and another, at stated strengths: noise, blur, JPEG, colour.

For tests of robustness, never for training.  Strengths are those of Hendrycks & Dietterich (2019, "Benchmarking neural network
robustness to common corruptions and perturbations"), severity 1 to 5: CIFAR-10-C's below 64 pixels, from there on ImageNet-C's, whose
blur is scaled from 224 pixels to the side.  Each transform takes pixels (B, C, H, W), gives uint8, and is a pure function of (seed, row).
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core import Draw, Transform, View
from .colour import blur
from .geometry import as_float

SEVERITIES = (1, 3, 5)
"""Of the five that there are."""
_SMALL, _LARGE = 64, 224  # pixels: where ImageNet-C's strengths begin, and the side that they were made for
_NOISE = {"small": (0.04, 0.06, 0.08, 0.09, 0.10), "large": (0.08, 0.12, 0.18, 0.26, 0.38)}
_BLUR = {"small": (0.4, 0.6, 0.7, 0.8, 1.0), "large": (1.0, 2.0, 3.0, 4.0, 6.0)}
_JPEG = {"small": (80, 65, 58, 50, 40), "large": (25, 18, 15, 10, 7)}
_SATURATE = {
    "small": ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),
    "large": ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)),
}
_CONTRAST = {"small": (0.75, 0.5, 0.4, 0.3, 0.15), "large": (0.4, 0.3, 0.2, 0.1, 0.05)}


def corruptions(side: int, channels: int) -> dict[str, dict[int, Transform]]:
    """{name: {severity: transform}} for pictures of `side` pixels: noise, blur, jpeg (1 or 3 channels), colour (saturation; contrast where
    pictures are not RGB)."""
    scale = "small" if side < _SMALL else "large"
    shrink = 1.0 if scale == "small" else side / _LARGE
    at = lambda table, s: table[scale][s - 1]  # noqa: E731
    found: dict[str, dict[int, Transform]] = {
        "noise": {s: Noise(at(_NOISE, s)) for s in SEVERITIES},
        "blur": {s: Blurred(at(_BLUR, s) * shrink) for s in SEVERITIES},
    }
    if channels in (1, 3):
        found["jpeg"] = {s: Jpeg(at(_JPEG, s)) for s in SEVERITIES}
    found["colour"] = {s: Saturated(*at(_SATURATE, s)) if channels == 3 else Flat(at(_CONTRAST, s)) for s in SEVERITIES}
    return found


def _stored(pixels: Tensor) -> Tensor:
    """uint8 of float pixels in 0-1, as a file would hold them."""
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of deviation `sigma` on pixels in 0-1."""

    sigma: float

    def __call__(self, view: View, draw: Draw) -> View:
        pixels = as_float(view["pixels"]).float()
        return view.with_parts(pixels=_stored(pixels + self.sigma * draw.normal("noise", *pixels.shape[1:])))


@dataclass(frozen=True)
class Blurred:
    """A Gaussian blur of `sigma` pixels, cut off after four of them."""

    sigma: float

    def __call__(self, view: View, draw: Draw) -> View:
        pixels = as_float(view["pixels"]).float()
        radius = min(math.ceil(4 * self.sigma), min(pixels.shape[2:]) - 1)
        return view.with_parts(pixels=_stored(blur(pixels, pixels.new_full((len(pixels),), self.sigma), radius)))


@dataclass(frozen=True)
class Jpeg:
    """Written as JPEG of `quality` and read again."""

    quality: int

    def __call__(self, view: View, draw: Draw) -> View:
        rows = _stored(as_float(view["pixels"])).permute(0, 2, 3, 1).cpu().numpy()
        again = np.stack([self._again(row) for row in rows]).reshape(rows.shape)
        return view.with_parts(pixels=torch.from_numpy(again).permute(0, 3, 1, 2).to(view.device))

    def _again(self, row: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(row[..., 0] if row.shape[2] == 1 else row).save(file, "JPEG", quality=self.quality)
        return np.asarray(Image.open(file))


@dataclass(frozen=True)
class Saturated:
    """The saturation s of HSV becomes factor s + shift, held within 0 to 1.  RGB only."""

    factor: float
    shift: float

    def __call__(self, view: View, draw: Draw) -> View:
        pixels = as_float(view["pixels"]).float()
        value, chroma = pixels.amax(1, keepdim=True), pixels.amax(1, keepdim=True) - pixels.amin(1, keepdim=True)
        # A colour is value (1 - saturation x tooth); a grey has the hue 0, which is red.
        red = pixels.new_tensor([0.0, 1.0, 1.0])[:, None, None].expand_as(pixels)
        tooth = torch.where(chroma > 0, (value - pixels) / chroma.clamp_min(1e-12), red)
        saturation = (self.factor * chroma / value.clamp_min(1e-12) + self.shift).clamp(0, 1)
        return view.with_parts(pixels=_stored(value * (1 - saturation * tooth)))


@dataclass(frozen=True)
class Flat:
    """Contrast: each channel's distance from its mean over the picture, times `factor`."""

    factor: float

    def __call__(self, view: View, draw: Draw) -> View:
        pixels = as_float(view["pixels"]).float()
        mean = pixels.mean((2, 3), keepdim=True)
        return view.with_parts(pixels=_stored(mean + self.factor * (pixels - mean)))
