"""Heads over the stages of an encoder: a feature pyramid, and on it an anchor-free detector or a segmenter.

Sources: feature pyramid: Lin et al. 2017 (arXiv:1612.03144); detector: FCOS, Tian et al. 2019 (arXiv:1904.01355); segmenter: the semantic branch of panoptic feature
pyramids, Kirillov et al. 2019 (arXiv:1901.02446).  For few pictures and batches: narrow, two convolutions a tower instead of four, and group norm throughout.
Stages of one grid (a transformer's blocks) are read together, up to four evenly spaced; a grid that is too coarse or stands alone is doubled or halved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import RequestError, Tokens

TOGETHER = 4
"""Stages of one grid that are read together at most."""
FINEST = 10.0
"""A finest grid of cells larger than this, in pixels, is doubled once."""
LEVELS = 3
"""Levels of a detector at least: further ones are halved from the coarsest, down to COARSEST cells a side."""
COARSEST = 3
PRIOR = 0.01
"""What every point gives every class before training (focal loss needs it low: Lin et al. 2017, section 4.1)."""
GROUPS = 8


def maps_of(stages: Sequence[Tokens]) -> list[Tensor]:
    """(B, C, h, w) for every grid, the finest first; stages of one grid side by side.  RequestError for tokens without a grid."""
    by_grid: dict[tuple[int, ...], list[Tokens]] = {}
    for stage in stages:
        if stage.grid is None or len(stage.grid) != 2:
            raise RequestError(
                "This encoder's stages have no grid: nothing can be found in them.", "Take an encoder of pictures."
            )
        by_grid.setdefault(stage.grid, []).append(stage)
    out = []
    for grid in sorted(by_grid, key=lambda g: -g[0] * g[1]):
        some = by_grid[grid]
        step = len(some) / min(TOGETHER, len(some))
        chosen = [some[math.ceil(step * (k + 1)) - 1] for k in range(min(TOGETHER, len(some)))]
        values = torch.cat([t.patches for t in chosen], 2)
        # contiguous: torch 2.13 crashes in the backward of group norm for channels-last input that has no gradient
        out.append(values.transpose(1, 2).unflatten(2, grid).contiguous())
    return out


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(GROUPS, outputs), nn.ReLU(inplace=True)
    )


class Pyramid(nn.Module):
    """Maps of widths `widths`, the finest first -> `up` + len(widths) + `down` maps of `width`, the finest first.

    Each map is standardised over its channels (stages differ in scale by orders of magnitude), taken to `width` and joined by what is coarser.
    """

    def __init__(self, widths: Sequence[int], width: int, up: int, down: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(1, w) for w in widths)
        self.lateral = nn.ModuleList(nn.Conv2d(w, width, 1) for w in widths)
        self.smooth = nn.ModuleList(_conv(width, width) for _ in widths)
        self.finer = nn.ModuleList(_conv(width, width) for _ in range(up))
        self.coarser = nn.ModuleList(_conv(width, width, 2) for _ in range(down))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        joined = [lateral(norm(x)) for lateral, norm, x in zip(self.lateral, self.norms, maps)]
        for k in range(len(joined) - 2, -1, -1):
            joined[k] = joined[k] + F.interpolate(joined[k + 1], size=joined[k].shape[2:], mode="nearest")
        out = [smooth(x) for smooth, x in zip(self.smooth, joined)]
        for finer in self.finer:
            out.insert(0, finer(F.interpolate(out[0], scale_factor=2, mode="nearest")))
        for coarser in self.coarser:
            out.append(coarser(out[-1]))
        return out


def shape_of(stages: Sequence[Tokens], size: tuple[int, int], levels: int) -> dict:
    """{"widths", "up", "down"} of the pyramid over stages like these, of canvases of `size`."""
    maps = maps_of(stages)
    finest = max(size[0] / maps[0].shape[2], size[1] / maps[0].shape[3])
    up = int(finest > FINEST)
    side, down = min(maps[-1].shape[2:]), 0
    while up + len(maps) + down < levels and math.ceil(side / 2) >= COARSEST:
        side, down = math.ceil(side / 2), down + 1
    return {"widths": [m.shape[1] for m in maps], "up": up, "down": down}


class Answers(NamedTuple):
    """What a detector says at A points: logits (B, A, K); distances (B, A, 4) to left, top, right, bottom in pixels of the canvas; centre (B, A)
    logits; points (A, 2) x and y; strides (A, 2) across and down of each point's level."""

    logits: Tensor
    distances: Tensor
    centre: Tensor
    points: Tensor
    strides: Tensor


class Detector(nn.Module):
    """FCOS over a pyramid: stages of canvases of `size` (height, width) -> Answers."""

    def __init__(
        self,
        widths: Sequence[int],
        classes: int,
        size: Sequence[int],
        *,
        width: int = 64,
        depth: int = 2,
        up: int = 0,
        down: int = 0,
    ):
        super().__init__()
        self.options = {
            "widths": list(widths), "classes": classes, "size": list(size), "width": width, "depth": depth, "up": up, "down": down,
        }  # fmt: skip
        _check(width, [classes, depth, *widths, *size], up, down)
        self.size = (int(size[0]), int(size[1]))
        self.pyramid = Pyramid(widths, width, up, down)
        self.naming = nn.Sequential(*(_conv(width, width) for _ in range(depth)))
        self.placing = nn.Sequential(*(_conv(width, width) for _ in range(depth)))
        self.classes = nn.Conv2d(width, classes, 3, 1, 1)
        self.sides = nn.Conv2d(width, 4, 3, 1, 1)
        self.centre = nn.Conv2d(width, 1, 3, 1, 1)
        self.scales = nn.Parameter(torch.ones(up + len(widths) + down))
        for last in (self.classes, self.sides, self.centre):
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.classes.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, stages: Sequence[Tokens]) -> Answers:
        answers = []
        for scale, x in zip(self.scales, self.pyramid(maps_of(stages))):
            named, placed = self.naming(x), self.placing(x)
            points, strides = _points(x, self.size)
            sides = (
                torch.exp((scale * self.sides(placed).float()).clamp(-8, 8))
                * 2
                * strides.repeat(1, 2).T.reshape(4, *x.shape[2:])
            )
            flat = [y.flatten(2).transpose(1, 2).float() for y in (self.classes(named), sides, self.centre(placed))]
            answers.append((flat[0], flat[1], flat[2][..., 0], points, strides))
        logits, distances, centre, points, strides = zip(*answers)
        return Answers(
            torch.cat(logits, 1), torch.cat(distances, 1), torch.cat(centre, 1), torch.cat(points), torch.cat(strides)
        )

    def config(self) -> dict:
        return {"kind": "detector", "options": self.options}


def _points(x: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(h w, 2) centres of a map's cells in pixels of the canvas, and (h w, 2) the cells' sides."""
    high, wide = x.shape[2:]
    down, across = size[0] / high, size[1] / wide
    y = (torch.arange(high, device=x.device) + 0.5) * down
    xs = (torch.arange(wide, device=x.device) + 0.5) * across
    points = torch.stack([xs.expand(high, wide), y[:, None].expand(high, wide)], 2).view(-1, 2)
    return points, points.new_tensor([across, down]).expand(len(points), 2)


class Segmenter(nn.Module):
    """A class for every pixel: stages of canvases of `size` (height, width) -> logits (B, K, height, width)."""

    def __init__(
        self, widths: Sequence[int], classes: int, size: Sequence[int], *, width: int = 64, up: int = 0, down: int = 0
    ):
        super().__init__()
        self.options = {
            "widths": list(widths),
            "classes": classes,
            "size": list(size),
            "width": width,
            "up": up,
            "down": down,
        }
        _check(width, [classes, *widths, *size], up, down)
        self.size = (int(size[0]), int(size[1]))
        self.pyramid = Pyramid(widths, width, up, down)
        self.last = _conv(width, width)
        self.classes = nn.Conv2d(width, classes, 1)

    def forward(self, stages: Sequence[Tokens]) -> Tensor:
        maps = self.pyramid(maps_of(stages))
        total = maps[0]
        for x in maps[1:]:
            total = total + F.interpolate(x, size=total.shape[2:], mode="bilinear", align_corners=False)
        logits = self.classes(self.last(total)).float()
        return F.interpolate(logits, size=self.size, mode="bilinear", align_corners=False)

    def config(self) -> dict:
        return {"kind": "segmenter", "options": self.options}


def _check(width: int, positive: Sequence[int], up: int, down: int) -> None:
    if width < GROUPS or width % GROUPS or min(positive) < 1 or not 0 <= up <= 2 or not 0 <= down <= 8:
        raise ValueError(f"width {width} must be a multiple of {GROUPS}, sizes positive, up {up} and down {down} small")
