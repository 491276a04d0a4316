"""Pictures cut into tiles for pretext tasks about their arrangement, with the papers' shortcuts closed.

What would give the arrangement away without looking at the picture, and what is done about it:
- border: lines and textures go on from one tile to the next.  Tiles have a gap and a jitter of their own (Doersch et al. 2015, section 3.1).
- colour: a lens shifts one channel against another, the more the farther from the middle.  A tile shows one channel, drawn at random, in the place of all
  (Doersch et al., section 3.1, "color dropping"), or colours without their green-magenta part ("projection"), or channels shifted at random with some rows
  grey (Noroozi & Favaro 2016, section 4.2), which hides fringes of about a pixel only.
- brightness: it changes slowly over the picture.  Each tile has its own mean and deviation taken out (Noroozi & Favaro, section 4.2).
- blocks: JPEG's 8 x 8 grid and the lens's softness tell a place.  Jitter covers whole blocks where there is room for it (3 x 3 tiles of pictures from 81
  pixels a side), and each tile is softened by an amount of its own (Doersch et al., section 3.1, resample some); in smaller pictures the grid is only softened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..core import Draw, RequestError
from .geometry import as_float

Colour = Literal["drop", "project", "jitter", "keep"]
"""How colour fringes are hidden; keep leaves them."""
Shortcut = Literal["border", "brightness", "blocks"]

KEPT = 0.85
"""Share of a cell's side that a tile may have at most: the rest is gap and jitter."""
SHIFT = 1
"""Pixels by which a channel may be shifted, either way."""
GREY = 0.3
"""Share of rows that are seen without colour."""
FLAT = 0.02
"""Deviation, in 0-1, below which a tile is not made steeper."""
BLOCK = 8
"""Side of JPEG's blocks."""
MAGENTA = (-1.0, 2.0, -1.0)
"""The axis that fringes of a lens lie on, in RGB."""


def usual_grid(side: int) -> int:
    """Tiles a side: 3, and 2 where a third of the picture shows nothing (under 48 pixels)."""
    return 3 if side >= 48 else 2


def tile_side(side: int, grid: int) -> int:
    """Side of a tile: the largest multiple of 4 within 85 % of a cell.  Raises RequestError where there is none."""
    found = int(KEPT * (side // grid)) // 4 * 4
    if found < 4:
        raise RequestError(
            f"Pictures of {side} pixels are too small for {grid} x {grid} tiles.",
            "Give --size, or take another method.",
        )
    return found


def cut(pixels: Tensor, grid: int, corner: Tensor, shift: Tensor, s: int) -> Tensor:
    """(B, T, C, s, s) tiles of pixels (B, C, H, W) in row order, T = grid^2.

    corner (B, T, 2) int64: place of a tile's corner within its cell; shift (B, T, C, 2) int64 is added for each channel (what would leave
    the picture is taken at its rim).
    """
    rows, channels, height, width = pixels.shape
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


def tiles(
    pixels: Tensor,
    grid: int,
    draw: Draw,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    colour: Colour = "drop",
    reveal: Sequence[Shortcut] = (),
) -> list[Tensor]:
    """grid^2 tensors (B, C, s, s), the tiles in row order, each with mean and deviation put to `mean` and `std` channel by channel.

    `colour`: how fringes are hidden; `reveal`: shortcuts that are left open (a tile of "border" fills its cell, up to a multiple of 4).
    """
    pixels = as_float(pixels)
    channels, side = pixels.shape[1], min(pixels.shape[2:])
    count, s = grid * grid, tile_side(side, grid)
    span = side // grid - s + 1
    if "blocks" not in reveal and span >= BLOCK:
        span -= span % BLOCK  # as often at one place of a block as at any other
    corner = draw.integers("corner", span, count, 2)
    if "border" in reveal:
        corner, s = torch.zeros_like(corner), max(s, side // grid // 4 * 4)
    shift = corner.new_zeros(len(pixels), count, channels, 2)
    if colour == "jitter":
        shift = draw.integers("shift", 2 * SHIFT + 1, count, channels, 2) - SHIFT
    found = without_fringes(cut(pixels, grid, corner, shift, s), colour, draw)
    if "blocks" not in reveal:
        found = softened(found, 1 + draw.uniform("soft", count).to(found.dtype))
    if "brightness" in reveal:
        return list(found.unbind(1))
    centred = found - found.mean((3, 4), keepdim=True)
    scale = centred.square().mean((3, 4), keepdim=True).sqrt().clamp_min(FLAT)
    to_mean, to_std = (found.new_tensor(v)[:, None, None] for v in (mean, std))
    return list((centred / scale * to_std + to_mean).unbind(1))


def without_fringes(found: Tensor, colour: Colour, draw: Draw) -> Tensor:
    """Tiles (B, T, C, s, s) in which no channel lies beside another one's place, by one of the papers' ways; pictures of one channel pass."""
    channels = found.shape[2]
    if channels == 1 or colour == "keep":
        return found
    if colour == "drop":
        shown = draw.integers("channel", channels, found.shape[1])[:, :, None, None, None]
        return found.gather(2, shown.expand(-1, -1, 1, *found.shape[3:])).expand_as(found)
    if colour == "project":
        if channels != 3:
            raise RequestError(f"colour = 'project' is for RGB, not {channels} channels.", "Take 'drop'.")
        axis = found.new_tensor(MAGENTA)
        part = torch.einsum("btchw,c->bthw", found, axis) / axis.square().sum()
        return found - part[:, :, None] * axis[:, None, None]
    grey = (draw.uniform("grey") < GREY)[:, None, None, None, None]
    return torch.where(grey, found.mean(2, keepdim=True), found)


def softened(found: Tensor, width: Tensor) -> Tensor:
    """Tiles (B, T, C, s, s) under a triangle of `width` (B, T) pixels either way: 1 leaves them as they are, 2 halves the resolution."""
    along = torch.arange(found.shape[-1], device=found.device)
    apart = (along[:, None] - along).abs()
    weight = (1 - apart / width[:, :, None, None]).clamp_min(0)
    weight = (weight / weight.sum(3, keepdim=True))[:, :, None]
    return weight @ found @ weight.transpose(3, 4)
