"""What happens to the colours of a view: jitter, grey, solarise, blur.

On fixed parameters each function is torchvision's of that name on float images, clamps between the operations included;
parameters differ by row.  Pictures that are not RGB (one channel, or more than three) have no hue, saturation or
greyness: those parts are left out, `describe(channels)` says so, and contrast pivots on the mean over all channels.

Transforms called with `own` may overwrite the pixels they are given: Compose says so of memory that it made itself, which
saves a copy, and on a processor the page faults of new memory, at every step.

Legend: B rows, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Draw, View
from .geometry import as_float, channels_last, compiled

LUMA = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale
JITTERS = ("brightness", "contrast", "saturation", "hue")


def _column(factor: Tensor, pixels: Tensor) -> Tensor:
    return factor.to(pixels.dtype)[:, None, None, None]


def luma(pixels: Tensor) -> Tensor:
    """(B, 1, H, W): 0.2989 R + 0.587 G + 0.114 B; the mean over channels where there are not three."""
    if pixels.shape[1] != 3:
        return pixels.mean(1, keepdim=True)
    red, green, blue = pixels.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def _blend(pixels: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    factor = _column(factor, pixels)
    return (factor * pixels + (1 - factor) * other).clamp(0, 1)


def brightness(pixels: Tensor, factor: Tensor) -> Tensor:
    """(B, C, H, W) in 0-1: pixels x factor (B,), clamped."""
    return _blend(pixels, 0.0, factor)


def contrast(pixels: Tensor, factor: Tensor) -> Tensor:
    """Away from or towards the mean of the picture's luma by factor (B,), clamped."""
    return _blend(pixels, luma(pixels).mean((2, 3), keepdim=True), factor)


def saturation(pixels: Tensor, factor: Tensor) -> Tensor:
    """Away from or towards each pixel's luma by factor (B,), clamped.  RGB only."""
    return _blend(pixels, luma(pixels), factor)


def hue(pixels: Tensor, shift: Tensor) -> Tensor:
    """The hue of HSV turned by shift (B,) in -0.5 to 0.5 of the circle.  RGB only.

    A colour is value - chroma x tooth(hue + n), with n = 5, 3, 1 sixths of the circle for R, G, B: the same numbers as
    going to HSV and back through its six cases.
    """
    red, green, blue = pixels.unbind(1)
    value, low = pixels.amax(1), pixels.amin(1)
    chroma = value - low
    per = 1 / torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sixths = torch.where(
        value == red,
        (green - blue) * per,
        torch.where(value == green, 2 + (blue - red) * per, 4 + (red - green) * per),
    )
    sixths = sixths + 6 * shift.to(pixels.dtype)[:, None, None]

    def channel(n: int) -> Tensor:
        place = torch.remainder(sixths + n, 6)
        return value - chroma * torch.minimum(place, 4 - place).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], 1)


_OPERATIONS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (brightness, contrast, saturation, hue)


def jitter(
    pixels: Tensor, factors: Tensor, order: Tensor, chosen: Tensor | None = None, *, own: bool = False
) -> Tensor:
    """(B, C, H, W) float in 0-1: the four operations with `factors` (B, 4: brightness, contrast, saturation, hue).

    `order` (B, 4) int64 is each row's permutation of 0..3, as torchvision's ColorJitter draws one; rows outside `chosen`
    (B,) bool stay as they are; `own` lets the result overwrite the input.  Cost: 3 microseconds a row of 24 x 24 x 3 on
    one core.
    """
    own = own or not pixels.is_floating_point()
    pixels = as_float(pixels)
    chosen = torch.ones(len(pixels), dtype=torch.bool, device=pixels.device) if chosen is None else chosen
    if pixels.shape[1] == 3 and compiled(pixels):
        from . import kernels

        source = channels_last(pixels)
        out = source if own else torch.empty_like(source)
        flat = (len(source), source.shape[1] * source.shape[2], 3)
        numbers = factors.float().contiguous().numpy(), order.contiguous().numpy(), chosen.numpy()
        kernels.over_rows(kernels.jitter, out.view(flat).numpy(), source.view(flat).numpy(), *numbers)
        return out.permute(0, 3, 1, 2)
    operations = _OPERATIONS if pixels.shape[1] == 3 else _OPERATIONS[:2]
    out = pixels if own else pixels.clone()
    for place in range(4):
        for number, operation in enumerate(operations):
            rows = ((order[:, place] == number) & chosen).nonzero().squeeze(1)
            if len(rows):
                out[rows] = operation(out[rows], factors[rows, number])
    return out


@dataclass(frozen=True)
class Jitter:
    """Brightness, contrast, saturation and hue at random strengths, with probability `p`: torchvision's ColorJitter.

    A strength s draws its factor from max(0, 1 - s) to 1 + s, a hue strength its shift from -s to s.  `order` "random"
    permutes the four by row as torchvision does (it costs nothing here); "fixed" keeps the order of their names.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    p: float = 0.8
    order: Literal["random", "fixed"] = "random"
    purpose: str = "jitter"

    def __post_init__(self):
        if min(self.brightness, self.contrast, self.saturation, self.hue) < 0 or self.hue > 0.5:
            raise ValueError("the strengths of a jitter are not negative, and the hue's is at most 0.5")

    def factors(self, uniform: Tensor) -> Tensor:
        """(B, 4) factors from (B, 4) numbers in [0, 1)."""
        strengths = (self.brightness, self.contrast, self.saturation)
        low = uniform.new_tensor([*(max(0.0, 1 - s) for s in strengths), -self.hue])
        high = uniform.new_tensor([*(1 + s for s in strengths), self.hue])
        return low + (high - low) * uniform

    def __call__(self, view: View, draw: Draw, *, own: bool = False) -> View:
        uniform = draw.uniform(self.purpose, 9)
        order = torch.argsort(uniform[:, 5:], dim=1, stable=True)
        if self.order == "fixed":
            order = torch.arange(4, device=uniform.device).expand(len(uniform), -1)
        chosen = uniform[:, 4] < self.p
        return view.with_parts(pixels=jitter(view["pixels"], self.factors(uniform[:, :4]), order, chosen, own=own))

    def describe(self, channels: int = 3) -> str:
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        known = JITTERS if channels == 3 else JITTERS[:2]
        text = ", ".join(f"{name} {s:g}" for name, s in zip(known, strengths, strict=False))
        left_out = "" if channels == 3 else f"; saturation and hue left out: {channels} channels are not RGB"
        return f"jitter at {self.p:g} ({text}{left_out})"


def _on_rows(pixels: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor], own: bool) -> Tensor:
    """`change` applied to the rows of `chosen` (B,) bool only: worth it where few are chosen."""
    own = own or not pixels.is_floating_point()
    rows = chosen.nonzero().squeeze(1)
    last = as_float(pixels).permute(0, 2, 3, 1)  # the layout of views: selecting rows of it copies whole blocks
    changed = change(last.index_select(0, rows).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
    out = last.index_copy_(0, rows, changed) if own else last.index_copy(0, rows, changed)
    return out.permute(0, 3, 1, 2)


def grey(pixels: Tensor) -> Tensor:
    """Each pixel's luma in all three channels: torchvision's rgb_to_grayscale(num_output_channels=3).  RGB only."""
    return luma(pixels).expand_as(pixels)


@dataclass(frozen=True)
class Grey:
    """Takes the colour out with probability `p`; pictures that are not RGB stay as they are."""

    p: float = 0.2
    purpose: str = "grey"

    def __call__(self, view: View, draw: Draw, *, own: bool = False) -> View:
        if view["pixels"].shape[1] != 3:
            return view
        return view.with_parts(pixels=_on_rows(view["pixels"], draw.uniform(self.purpose) < self.p, grey, own))

    def describe(self, channels: int = 3) -> str:
        return f"grey at {self.p:g}" if channels == 3 else f"grey left out: {channels} channels are not RGB"


def solarise(pixels: Tensor, threshold: float = 0.5) -> Tensor:
    """1 - value where the value reaches the threshold: of uint8 values, those from 128 on."""
    return torch.where(pixels >= threshold, 1 - pixels, pixels)


@dataclass(frozen=True)
class Solarise:
    """Inverts what is brighter than the threshold, with probability `p` (BYOL's second view: 0.2)."""

    p: float = 0.2
    threshold: float = 0.5
    purpose: str = "solarise"

    def __call__(self, view: View, draw: Draw, *, own: bool = False) -> View:
        chosen = draw.uniform(self.purpose) < self.p
        return view.with_parts(pixels=_on_rows(view["pixels"], chosen, lambda x: solarise(x, self.threshold), own))

    def describe(self, channels: int = 3) -> str:
        return f"solarised above {self.threshold:g} at {self.p:g}"


def blur(pixels: Tensor, sigma: Tensor, radius: int, chosen: Tensor | None = None) -> Tensor:
    """(B, C, H, W) float: a Gaussian of `sigma` (B,) pixels over 2 radius + 1 of them, borders mirrored.

    torchvision's gaussian_blur(img, 2 radius + 1, sigma).  Raises ValueError where the radius reaches across the picture.
    """
    pixels = as_float(pixels)
    rows, channels, height, width = pixels.shape
    if radius >= min(height, width):
        raise ValueError(f"a blur of radius {radius} does not fit into {height} x {width} pixels")
    chosen = torch.ones(rows, dtype=torch.bool, device=pixels.device) if chosen is None else chosen
    if compiled(pixels):
        from . import kernels

        source = channels_last(pixels)
        out = torch.empty_like(source)
        widths = sigma.float().contiguous().numpy()
        kernels.over_rows(kernels.blur, out.numpy(), source.numpy(), widths, chosen.numpy(), radius)
        return out.permute(0, 3, 1, 2)
    offset = torch.arange(-radius, radius + 1, device=pixels.device, dtype=pixels.dtype)
    weight = torch.exp(-0.5 * (offset / sigma.to(pixels.dtype)[:, None]) ** 2)
    weight = (weight / weight.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # (B x C, 2 radius + 1)
    planes = F.pad(pixels, [radius] * 4, mode="reflect").reshape(1, rows * channels, height + 2 * radius, -1)
    planes = F.conv2d(planes, weight[:, None, :, None], groups=rows * channels)
    planes = F.conv2d(planes, weight[:, None, None, :], groups=rows * channels)
    return torch.where(chosen[:, None, None, None], planes.view_as(pixels), pixels)


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur with probability `p`: sigma uniform in pixels, over a tenth of the side (SimCLR's rule).

    The kernel has 2 (side // 20) + 1 pixels, so that pictures under 20 pixels stay as they are.
    """

    p: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    purpose: str = "blur"

    def __call__(self, view: View, draw: Draw) -> View:
        pixels = view["pixels"]
        radius = min(pixels.shape[2:]) // 20
        if radius == 0:
            return view.with_parts(pixels=as_float(pixels))
        uniform = draw.uniform(self.purpose, 2)
        sigma = self.sigma[0] + (self.sigma[1] - self.sigma[0]) * uniform[:, 0]
        return view.with_parts(pixels=blur(pixels, sigma, radius, uniform[:, 1] < self.p))

    def describe(self, channels: int = 3) -> str:
        return f"blur at {self.p:g} (sigma {self.sigma[0]:g} to {self.sigma[1]:g} px)"
