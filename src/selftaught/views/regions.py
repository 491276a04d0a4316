"""Views that move what is known of a picture's parts with its pixels: a crop of the canvas's own aspect, and a mirror image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core import Draw, Ragged, View
from .geometry import ATTEMPTS, as_float, draw_boxes, resized_crop

VISIBLE = 0.3
"""An object of which a crop leaves a smaller share is no longer looked for."""


@dataclass(frozen=True)
class RegionCrop:
    """A window of at least `least` of the area, of about the canvas's aspect, resized to the canvas, mirrored with probability `flip`.

    Moves the parts "objects" (Ragged of left, top, right, bottom, class) and "mask" (B, H, W) with "pixels".  `least` = 1 mirrors only.
    """

    least: float = 0.4
    bend: float = 1.15
    """The window's aspect may differ from the canvas's by so much."""
    flip: float = 0.5
    purpose: str = "regions"

    def __call__(self, view: View, draw: Draw) -> View:
        pixels = view["pixels"]
        high, wide = pixels.shape[2:]
        uniform = draw.uniform(self.purpose, 2 * ATTEMPTS + 3)
        flips = uniform[:, -1] < self.flip
        whole = torch.tensor([0, 0, high, wide], device=pixels.device).expand(len(pixels), -1)
        windows = whole
        if self.least < 1:
            ratio = (wide / high / self.bend, wide / high * self.bend)
            windows = draw_boxes(uniform[:, :-1], high, wide, (self.least, 1.0), ratio)
        moved = as_float(pixels) if self.least >= 1 else resized_crop(pixels, windows, (high, wide))
        moved = torch.where(flips[:, None, None, None], moved.flip(3), moved)
        parts: dict[str, Tensor | Ragged] = {**view.parts, "pixels": moved}
        if "mask" in parts:
            parts["mask"] = move_masks(view["mask"], windows, flips)
        if "objects" in parts:
            parts["objects"] = move_objects(view.parts["objects"], windows, flips, (high, wide))  # type: ignore[arg-type]
        return replace(view, parts=parts, params={**view.params, "boxes": windows.float(), "flips": flips})

    def describe(self, channels: int = 3) -> str:
        crop = f"crop of at least {self.least:.0%} of the area, " if self.least < 1 else ""
        return f"{crop}mirrored at {self.flip:g}, with objects and masks"


def move_masks(masks: Tensor, windows: Tensor, flips: Tensor) -> Tensor:
    """(B, H, W) of each row's window (top, left, height, width), by nearest neighbour, mirrored where `flips` (B,)."""
    high, wide = masks.shape[1:]
    down = (torch.arange(high, device=masks.device) + 0.5) / high
    across = (torch.arange(wide, device=masks.device) + 0.5) / wide
    across = torch.where(flips[:, None], across.flip(0), across)
    rows = (windows[:, :1] + down * windows[:, 2:3]).long().clamp_max(high - 1)
    columns = (windows[:, 1:2] + across * windows[:, 3:]).long().clamp_max(wide - 1)
    return masks[torch.arange(len(masks), device=masks.device)[:, None, None], rows[:, :, None], columns[:, None, :]]


def move_objects(objects: Ragged, windows: Tensor, flips: Tensor, size: tuple[int, int]) -> Ragged:
    """Objects in pixels of the new canvas: clipped, those of which less than VISIBLE is left dropped."""
    high, wide = size
    owner = torch.repeat_interleave(torch.arange(len(objects), device=windows.device), objects.lengths)
    boxes, rest = objects.values[:, :4], objects.values[:, 4:]
    window = windows[owner].to(boxes.dtype)
    scale = torch.stack([wide / window[:, 3], high / window[:, 2]] * 2, 1)
    moved = (boxes - window[:, [1, 0, 1, 0]]) * scale
    limit = boxes.new_tensor([wide, high, wide, high])
    mirrored = torch.stack([wide - moved[:, 2], moved[:, 1], wide - moved[:, 0], moved[:, 3]], 1)
    moved = torch.where(flips[owner][:, None], mirrored, moved)
    clipped = torch.minimum(moved.clamp_min(0), limit)
    area = lambda b: (b[:, 2:] - b[:, :2]).clamp_min(0).prod(1)  # noqa: E731
    kept = area(clipped) > VISIBLE * area(moved).clamp_min(1e-9)
    counts = torch.bincount(owner[kept], minlength=len(objects))
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Ragged(torch.cat([clipped, rest], 1)[kept], offsets)
