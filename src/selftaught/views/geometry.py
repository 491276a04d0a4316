"""Where a view looks: resized crop, mirror, rotation, and the clean view of evaluation.

Every transform is plain data, called with (view, draw); its parameters differ by row and come only from the draw, so that
a row's view depends on (seed, step, view, row) and on nothing that stands beside it.  What each does on fixed parameters
is what torchvision's function of that name does on float images; the functions below take those parameters.

Legend: B rows, C channels, H x W the picture that comes in, h x w the picture that goes out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Draw, View

Size = int | tuple[tuple[float, int], ...]
"""A side in pixels, or a schedule ((0.0, 16), (0.4, 24), ...): from that share of the horizon on, that side."""

ATTEMPTS = 10  # torchvision's RandomResizedCrop tries as many shapes before it falls back to the middle


def side_at(size: Size, progress: float) -> int:
    """The side in pixels at `progress` in 0-1 of the horizon."""
    if isinstance(size, int):
        return size
    return [side for start, side in size if start <= progress][-1]


def largest(size: Size) -> int:
    """The largest side that a schedule reaches."""
    return size if isinstance(size, int) else max(side for _, side in size)


def check_size(size: Size) -> None:
    """Raises ValueError unless `size` is a side, or a schedule that begins at 0 and rises in time."""
    steps = ((0.0, size),) if isinstance(size, int) else tuple(size)
    starts = [start for start, _ in steps]
    if not steps or starts[0] != 0 or starts != sorted(starts) or any(side < 1 for _, side in steps):
        raise ValueError(f"size {size!r} is neither a side in pixels nor a schedule ((0.0, side), (start, side), ...)")


def say_size(size: Size) -> str:
    if isinstance(size, int):
        return f"{size} px"
    return ", ".join(f"{side} px" + (f" from {start:.0%}" if start else "") for start, side in size)


def as_float(pixels: Tensor) -> Tensor:
    """Pixels as floating point in 0-1: uint8 is divided by 255, floating point passes."""
    return pixels if pixels.is_floating_point() else pixels.float().div_(255)


def channels_last(pixels: Tensor) -> Tensor:
    """(B, C, H, W) as contiguous (B, H, W, C): the same memory for rows of a packed store and for views, else a copy."""
    return pixels.permute(0, 2, 3, 1).contiguous()


def compiled(pixels: Tensor) -> bool:
    """Whether the loops of kernels.py serve these pixels; else the same is computed by tensor expressions."""
    return pixels.device.type == "cpu" and pixels.dtype in (torch.uint8, torch.float32) and not pixels.requires_grad


def weights(start: Tensor, length: Tensor, size: int, out: int, *, antialias: bool = True) -> Tensor:
    """(B, out, size) float: row o holds the shares of `size` input pixels in output o of the window start, length (B,).

    A triangle as wide as the reduction (antialias), or as one pixel (plain bilinear); nothing outside the window counts.
    """
    pixel = torch.arange(size, device=start.device, dtype=length.dtype) + 0.5 - start[:, None, None]
    scale = (length / out)[:, None, None]
    centre = scale * (torch.arange(out, device=start.device, dtype=length.dtype)[:, None] + 0.5)
    support = scale.clamp_min(1) if antialias else torch.ones_like(scale)
    weight = (1 - (pixel - centre).abs() / support).clamp_min(0)
    weight = weight * ((pixel > 0) & (pixel < length[:, None, None]))
    return weight / weight.sum(2, keepdim=True)


def resized_crop(
    pixels: Tensor, boxes: Tensor, size: int | tuple[int, int], *, flip: Tensor | None = None, antialias: bool = True
) -> Tensor:
    """(B, C, h, w) float in 0-1: the window `boxes` (B, 4) int64 (top, left, height, width) of each row, resized.

    torchvision's resized_crop(img[b], *boxes[b], size, antialias=antialias) on float images, then hflip where
    `flip` (B,) bool.  Integer pixels give float32; nothing is rounded.  Raises ValueError for a window outside the
    picture.  Cost: about (height x W x C) + h x w x C multiply-adds a row and tap on the processor, two batched matrix
    products elsewhere.
    """
    h, w = (size, size) if isinstance(size, int) else size
    rows, channels, height, width = pixels.shape
    corner, extent = boxes[:, :2], boxes[:, 2:]
    limit = torch.tensor([height, width], device=boxes.device)
    if rows and bool(((corner < 0) | (extent < 1) | (corner + extent > limit)).any()):
        raise ValueError(f"a crop window lies outside the {height} x {width} picture")
    if compiled(pixels):
        from . import kernels

        out = torch.empty(rows, h, w, channels)
        mirror = np.zeros(rows, bool) if flip is None else flip.numpy()
        window = boxes.contiguous().numpy()
        unit = np.float32(1 if pixels.is_floating_point() else 1 / 255)
        kernels.over_rows(
            kernels.resized_crop, out.numpy(), channels_last(pixels).numpy(), window, mirror, antialias, unit
        )
        return out.permute(0, 3, 1, 2)
    pixels = as_float(pixels)
    box = boxes.to(pixels.dtype)
    rows_of = weights(box[:, 0], box[:, 2], height, h, antialias=antialias)
    columns = weights(box[:, 1], box[:, 3], width, w, antialias=antialias)
    if flip is not None:
        columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    lines = rows_of @ pixels.permute(0, 2, 3, 1).reshape(rows, height, width * channels)
    lines = lines.view(rows, h, width, channels).permute(0, 2, 1, 3).reshape(rows, width, h * channels)
    out = (columns @ lines).view(rows, w, h, channels)
    return out.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)


def draw_boxes(
    uniform: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """(B, 4) int64 windows from `uniform` (B, 2 x ATTEMPTS + 2) in [0, 1): torchvision's RandomResizedCrop.get_params.

    The share of the area is uniform in `scale`, the logarithm of width / height uniform in `ratio`; the first of ten
    shapes that fits is taken, else the largest central window within `ratio`.
    """
    area = height * width * (scale[0] + (scale[1] - scale[0]) * uniform[:, :ATTEMPTS])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * uniform[:, ATTEMPTS : 2 * ATTEMPTS])
    w = torch.round(torch.sqrt(area * aspect)).long()
    h = torch.round(torch.sqrt(area / aspect)).long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)  # of equal values argmax takes the first
    middle_w = min(width, max(1, round(height * ratio[1]))) if width / height > ratio[1] else width
    middle_h = min(height, max(1, round(width / ratio[0]))) if width / height < ratio[0] else height
    found = fits.any(1)
    h = torch.where(found, h.gather(1, first).squeeze(1), middle_h)
    w = torch.where(found, w.gather(1, first).squeeze(1), middle_w)
    top = torch.where(found, (uniform[:, -2] * (height - h + 1)).long(), (height - middle_h) // 2)
    left = torch.where(found, (uniform[:, -1] * (width - w + 1)).long(), (width - middle_w) // 2)
    return torch.stack([top, left, h, w], 1)


@dataclass(frozen=True)
class ResizedCrop:
    """A window of random area and aspect, resized to a square and mirrored with probability `flip`.

    torchvision's RandomResizedCrop and RandomHorizontalFlip in one pass.  Writes params "boxes" (B, 4) float32 (top,
    left, height, width in pixels of what came in) and "flips" (B,) bool.
    """

    size: Size
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    antialias: bool = True
    purpose: str = "crop"

    def __post_init__(self):
        check_size(self.size)

    def __call__(self, view: View, draw: Draw) -> View:
        pixels = view["pixels"]
        uniform = draw.uniform(self.purpose, 2 * ATTEMPTS + 3)
        boxes = draw_boxes(uniform[:, :-1], pixels.shape[2], pixels.shape[3], self.scale, self.ratio)
        flips = uniform[:, -1] < self.flip
        side = side_at(self.size, draw.progress)
        cropped = resized_crop(pixels, boxes, side, flip=flips if self.flip else None, antialias=self.antialias)
        params = {**view.params, "boxes": boxes.float(), "flips": flips}
        return View(view.modality, view.role, {**view.parts, "pixels": cropped}, params)

    def describe(self, channels: int = 3) -> str:
        text = f"crop of {self.scale[0]:.0%} to {self.scale[1]:.0%} of the area to {say_size(self.size)}"
        return text + (f", mirrored at {self.flip:g}" if self.flip else "")


@dataclass(frozen=True)
class Flip:
    """Mirrors left and right with probability `p`.  Writes param "flips" (B,) bool."""

    p: float = 0.5
    purpose: str = "flip"

    def __call__(self, view: View, draw: Draw) -> View:
        flips = draw.uniform(self.purpose) < self.p
        pixels = torch.where(flips[:, None, None, None], view["pixels"].flip(3), view["pixels"])
        return View(view.modality, view.role, {**view.parts, "pixels": pixels}, {**view.params, "flips": flips})

    def describe(self, channels: int = 3) -> str:
        return f"mirrored at {self.p:g}"


def quarter_turns(pixels: Tensor, turns: Tensor) -> Tensor:
    """Each row turned anticlockwise by `turns` (B,) int64 quarters: torch.rot90, exact, any dtype; square pictures only."""
    if pixels.shape[2] != pixels.shape[3]:
        raise ValueError(f"quarter turns need square pictures, not {pixels.shape[2]} x {pixels.shape[3]}")
    out = pixels.clone()
    for quarter in (1, 2, 3):
        rows = (turns % 4 == quarter).nonzero().squeeze(1)
        out[rows] = torch.rot90(pixels[rows], quarter, (2, 3))
    return out


def rotate(pixels: Tensor, degrees: Tensor, *, nearest: bool = False) -> Tensor:
    """(B, C, H, W) float in 0-1: each row turned anticlockwise about its centre by `degrees` (B,), zero outside.

    torchvision's rotate(img, degrees, interpolation=BILINEAR or NEAREST, fill=0) on float images.
    """
    pixels = as_float(pixels)
    height, width = pixels.shape[2:]
    angle = torch.deg2rad(degrees.to(pixels.dtype))
    cosine, sine, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    # affine_grid speaks in halves of each side: the sides' ratio keeps the turn a turn in pixels
    across = torch.stack([cosine, -sine * height / width, zero], 1)
    down = torch.stack([sine * width / height, cosine, zero], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(pixels.shape), align_corners=False)
    mode = "nearest" if nearest else "bilinear"
    return F.grid_sample(pixels, grid, mode=mode, padding_mode="zeros", align_corners=False)


@dataclass(frozen=True)
class Rotate:
    """Turns each row by an angle uniform in `degrees`, in the plane, zero outside.  Writes param "degrees" (B,)."""

    degrees: tuple[float, float] = (-10.0, 10.0)
    purpose: str = "rotate"

    def __call__(self, view: View, draw: Draw) -> View:
        low, high = self.degrees
        angle = low + (high - low) * draw.uniform(self.purpose)
        turned = rotate(view["pixels"], angle)
        return View(view.modality, view.role, {**view.parts, "pixels": turned}, {**view.params, "degrees": angle})

    def describe(self, channels: int = 3) -> str:
        return f"turned by {self.degrees[0]:g} to {self.degrees[1]:g} degrees"


def central(pixels: Tensor, side: int) -> Tensor:
    """(B, C, side, side): the shorter side resized to `side` and the middle cut out; the very pixels where the size matches."""
    height, width = pixels.shape[2:]
    if height == width == side:
        return pixels
    short = min(height, width)
    whole = (side * height // short, side * width // short)  # torchvision's Resize truncates the longer side
    box = torch.tensor([[0, 0, height, width]], device=pixels.device).expand(len(pixels), -1)
    resized = resized_crop(pixels, box, whole)
    top, left = round((whole[0] - side) / 2), round((whole[1] - side) / 2)
    return resized[:, :, top : top + side, left : left + side]


@dataclass(frozen=True)
class Plain:
    """The clean view of evaluation: shorter side to `size`, middle cut out; identity where the size matches already."""

    size: int

    def __call__(self, view: View, draw: Draw | None = None) -> View:
        return view.with_parts(pixels=central(view["pixels"], self.size))

    def describe(self, channels: int = 3) -> str:
        return f"the middle at {self.size} px"


@dataclass(frozen=True)
class Trim:
    """Cuts `margin`, a share of each side, rounded to pixels, off every rim: frames, captions and scan lines tell which way is up."""

    margin: float

    def __post_init__(self):
        if not 0 <= self.margin < 0.5:
            raise ValueError(f"a margin of {self.margin} leaves nothing")

    def __call__(self, view: View, draw: Draw | None = None) -> View:
        height, width = view["pixels"].shape[2:]
        down, across = round(self.margin * height), round(self.margin * width)
        return view.with_parts(pixels=view["pixels"][:, :, down : height - down, across : width - across])

    def describe(self, channels: int = 3) -> str:
        return f"without a rim of {self.margin:.0%}"
