"""Which tokens a method hides: random patches (MAE) and blocks of neighbours (BEiT, iBOT, I-JEPA), each row its own.

Legend: B rows, N tokens of a grid in row-major order, K kept, M masked.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..core import Draw


class Patches(NamedTuple):
    """A division of N tokens, the same counts in every row."""

    keep: Tensor  # (B, K) int64, ascending
    drop: Tensor  # (B, M) int64, ascending
    dropped: Tensor  # (B, N) bool, True at drop


def count_of(ratio: float, n: int) -> int:
    """How many of n tokens a ratio hides: rounded, and at least one stays and one goes."""
    if not 0 < ratio < 1 or n < 2:
        raise ValueError(f"ratio {ratio} of {n} tokens: give a ratio between 0 and 1, and at least two tokens")
    return min(n - 1, max(1, round(ratio * n)))


def _divide(priority: Tensor, count: int) -> Patches:
    """The `count` tokens of lowest priority (B, N) are dropped."""
    order = torch.argsort(priority, dim=1, stable=True)
    drop, keep = order[:, :count].sort(1).values, order[:, count:].sort(1).values
    dropped = torch.zeros(priority.shape, dtype=torch.bool, device=priority.device).scatter_(1, drop, True)
    return Patches(keep, drop, dropped)


def random_patches(draw: Draw, n: int, ratio: float, *, purpose: str = "mask") -> Patches:
    """Exactly round(ratio x n) of n tokens dropped in each row, uniformly (He et al. 2022, MAE)."""
    return _divide(draw.uniform(purpose, n), count_of(ratio, n))


def random_tokens(draw: Draw, valid: Tensor, ratio: float, *, span: int = 1, purpose: str = "mask") -> Tensor:
    """(B, N) bool: round(ratio x count) of each row's valid tokens (B, N) bool, at least one where there is any.

    span: neighbours that are hidden together (see `run_numbers`)."""
    count = valid.sum(1, keepdim=True)
    wanted = torch.where(count > 0, torch.round(ratio * count).long().clamp_min(1), 0)
    number = run_numbers(draw, valid, span, purpose=purpose).masked_fill(~valid, 2.0)
    rank = torch.argsort(torch.argsort(number, dim=1, stable=True), dim=1)
    return rank < wanted


def run_numbers(draw: Draw, valid: Tensor, span: int, *, purpose: str = "mask") -> Tensor:
    """(B, N) uniform numbers, one for each run of `span` neighbours, so that whatever is chosen by them comes in runs.

    Runs begin at a place of each row's own; one of a row with fewer than 4 x span tokens (`valid` (B, N) bool) is a quarter of it, at least one
    token.  A single token of sound or of a slow series is filled in from its neighbours: what is hidden must be longer than what they tell."""
    number = draw.uniform(purpose, valid.shape[1])
    if span == 1:
        return number
    wide = torch.div(valid.sum(1, keepdim=True), 4, rounding_mode="floor").clamp(1, span)
    begin = (draw.uniform(f"{purpose} begin", 1) * wide).long()
    run = torch.div(torch.arange(valid.shape[1], device=valid.device) + begin, wide, rounding_mode="floor")
    return number.gather(1, run)


def random_words(draw: Draw, valid: Tensor, begins: Tensor, ratio: float, *, purpose: str = "mask") -> Tensor:
    """(B, N) bool: as `random_tokens`, in whole words: `begins` (B, N) bool is True where one begins.

    Words are taken in a random order until round(ratio x count) tokens are reached; the last one goes with all its tokens.
    """
    word = begins.long().cumsum(1)
    number = draw.uniform(purpose, valid.shape[1] + 1).gather(1, word).masked_fill(~valid, 2.0)
    count = valid.sum(1, keepdim=True)
    wanted = torch.round(ratio * count).long().clamp_min(1)
    reached = torch.sort(number, dim=1).values.gather(1, (wanted - 1).clamp_max(number.shape[1] - 1))
    return valid & (number <= reached)


def hidden_tokens(draw: Draw, able: Tensor, grid: tuple[int, ...] | None, ratio: float, *, span: int = 1) -> Tensor:
    """(B, N) bool: about `ratio` of the tokens `able` (B, N) bool, in blocks on a grid of two axes, else in runs of `span`."""
    if grid is not None and len(grid) == 2:
        return able & block_masks(draw, (grid[0], grid[1]), ratio).dropped
    return random_tokens(draw, able, ratio, span=span)


def rectangles(
    draw: Draw,
    grid: tuple[int, int],
    count: int,
    *,
    scale: tuple[float, float] = (0.15, 0.2),
    aspect: tuple[float, float] = (0.75, 1.5),
    purpose: str = "blocks",
) -> tuple[Tensor, Tensor]:
    """`count` rectangles of the grid for each row: (B, count, N) bool and boxes (B, count, 4) int64 (top, left, height, width).

    Area uniform in `scale` of the grid, height / width log-uniform in `aspect`, both of each rectangle's own, cut to the
    grid (Assran et al. 2023, I-JEPA: targets of 0.15-0.2 with aspect 0.75-1.5, a context of 0.85-1 with aspect 1).
    """
    rows_of, columns_of = grid
    uniform = draw.uniform(purpose, count, 4)
    area = rows_of * columns_of * (scale[0] + (scale[1] - scale[0]) * uniform[..., 0])
    low, high = math.log(aspect[0]), math.log(aspect[1])
    shape = torch.exp(low + (high - low) * uniform[..., 1])
    height = torch.round(torch.sqrt(area * shape)).long().clamp(1, rows_of)
    width = torch.round(torch.sqrt(area / shape)).long().clamp(1, columns_of)
    top = (uniform[..., 2] * (rows_of - height + 1)).long()
    left = (uniform[..., 3] * (columns_of - width + 1)).long()
    y = torch.arange(rows_of, device=top.device)
    x = torch.arange(columns_of, device=top.device)
    inside_y = (y >= top[..., None]) & (y < (top + height)[..., None])
    inside_x = (x >= left[..., None]) & (x < (left + width)[..., None])
    inside = inside_y[..., :, None] & inside_x[..., None, :]
    return inside.flatten(2), torch.stack([top, left, height, width], -1)


def block_masks(
    draw: Draw,
    grid: tuple[int, int],
    ratio: float,
    *,
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    blocks: int = 16,
    purpose: str = "blocks",
) -> Patches:
    """Exactly round(ratio x N) tokens of the grid dropped in each row, as a union of random rectangles.

    Rectangles of a quarter to all of the wanted area are laid one after another until there are enough tokens; of the
    last one only as many as are missing, in reading order or against it (Bao et al. 2022, BEiT, blockwise masking; Zhou
    et al. 2022, iBOT).  Should `blocks` rectangles not suffice, single tokens fill up.  As in BEiT, rectangles lie inside
    the grid, so that its corners are hidden less often than its middle.
    """
    n = grid[0] * grid[1]
    count = count_of(ratio, n)
    share = count / n
    inside, _ = rectangles(draw, grid, blocks, scale=(share / 4, share), aspect=aspect, purpose=purpose)
    number = torch.arange(blocks, device=inside.device)[:, None]
    first = torch.where(inside, number, blocks).amin(1)  # (B, N): which rectangle covered the token first
    chance = draw.uniform(f"{purpose} order", n + 1)
    forward = torch.arange(n, device=inside.device)
    place = torch.where(chance[:, :1] < 0.5, forward, n - 1 - forward)
    single = torch.argsort(chance[:, 1:], dim=1, stable=True)
    return _divide(first * n + torch.where(first == blocks, single, place), count)
