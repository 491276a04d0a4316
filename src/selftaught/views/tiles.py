"""Pictures cut into tiles for pretext tasks about their arrangement, with the papers' shortcuts closed.

What would give the arrangement away without looking at the picture: lines and textures that go on across a border (so tiles have a
gap and a jitter of their own), the colour fringes of a lens, which point away from the middle (so channels are shifted at random, and some rows are grey), and
brightness that changes slowly over the picture (so each tile has its own mean and deviation taken out).  Doersch et al. 2015, section 3.1 and 4;
Noroozi & Favaro 2016, section 4.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import Draw, RequestError
from .geometry import as_float

KEPT = 0.85
"""Share of a cell's side that a tile may have at most: the rest is gap and jitter."""
SHIFT = 1
"""Pixels by which a channel may be shifted, either way."""
GREY = 0.3
"""Share of rows that are seen without colour."""
FLAT = 0.02
"""Deviation, in 0-1, below which a tile is not made steeper."""


def tile_side(side: int, grid: int) -> int:
    """Side of a tile: the largest multiple of 4 within 85 % of a cell.  Raises RequestError where there is none."""
    found = int(KEPT * (side // grid)) // 4 * 4
    if found < 4:
        raise RequestError(
            f"Pictures of {side} pixels are too small for {grid} x {grid} tiles.",
            "Give --size, or take another method.",
        )
    return found


def cut(pixels: Tensor, grid: int, corner: Tensor, shift: Tensor) -> Tensor:
    """(B, T, C, s, s) tiles of pixels (B, C, H, W) in row order, T = grid^2.

    corner (B, T, 2) int64: place of a tile's corner within its cell; shift (B, T, C, 2) int64 is added for each channel (what would leave
    the picture is taken at its rim).
    """
    rows, channels, height, width = pixels.shape
    s = tile_side(min(height, width), grid)
    cell = torch.tensor([height // grid, width // grid], device=pixels.device)
    place = torch.stack(torch.meshgrid(*[torch.arange(grid, device=pixels.device)] * 2, indexing="ij"), -1).flatten(
        0, 1
    )
    start = (place * cell + corner)[:, :, None] + shift  # (B, T, C, 2)
    along = torch.arange(s, device=pixels.device)
    down = (start[..., 0, None] + along).clamp(0, height - 1)  # (B, T, C, s)
    across = (start[..., 1, None] + along).clamp(0, width - 1)
    index = (down[..., None] * width + across[..., None, :]).transpose(1, 2).flatten(2)  # (B, C, T s s)
    return pixels.flatten(2).gather(2, index).view(rows, channels, grid * grid, s, s).transpose(1, 2)


def tiles(pixels: Tensor, grid: int, draw: Draw, mean: tuple[float, ...], std: tuple[float, ...]) -> list[Tensor]:
    """grid^2 tensors (B, C, s, s), the tiles in row order, each with mean and deviation put to `mean` and `std` channel by channel."""
    pixels = as_float(pixels)
    channels, side = pixels.shape[1], min(pixels.shape[2:])
    count, slack = grid * grid, side // grid - tile_side(side, grid)
    corner = draw.integers("corner", slack + 1, count, 2)
    shift = draw.integers("shift", 2 * SHIFT + 1, count, channels, 2) - SHIFT
    grey = (draw.uniform("grey") < GREY)[:, None, None, None, None]
    found = cut(pixels, grid, corner, shift)
    found = torch.where(grey, found.mean(2, keepdim=True), found)
    centred = found - found.mean((3, 4), keepdim=True)
    scale = centred.square().mean((3, 4), keepdim=True).sqrt().clamp_min(FLAT)
    to_mean, to_std = (found.new_tensor(v)[:, None, None] for v in (mean, std))
    return list((centred / scale * to_std + to_mean).unbind(1))
