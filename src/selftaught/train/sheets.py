"""Draws a core.Sheet as one PNG: cells in columns, short words on a band under a cell, nothing between the cells."""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core import Sheet
from .pictures import COLOURS, loudness, row_picture

SIDES = ((6, 96), (8, 72), (99, 44))
"""(columns up to, side of a cell in pixels)."""
ABREAST = 8
"""Columns that lie side by side: a sheet of few columns is folded."""
GAP, BAND = 4, 17
LARGEST = 150_000
"""Bytes of a file: cells are made smaller until it fits."""
PLAIN, RIGHT, WRONG = (64, 64, 64), (28, 84, 150), (156, 70, 0)
"""Bands under pictures; blue and brown can be told apart by (nearly) everybody."""


@dataclass(frozen=True)
class Drawn:
    """A PNG and how it is laid out: `blocks` times the sheet's columns abreast."""

    png: bytes
    width: int
    height: int
    blocks: int


def draw(sheet: Sheet, largest: int = LARGEST) -> Drawn:
    """The sheet as a PNG of at most `largest` bytes, with a transparent ground, so that it suits a dark page too."""
    side = next(side for columns, side in SIDES if len(sheet.columns) <= columns)
    drawn = _at(sheet, _whole(sheet, side))
    while len(drawn.png) > largest and side > 16:
        side = max(16, int(side * 0.8))
        drawn = _at(sheet, _whole(sheet, side))
    return drawn


def _whole(sheet: Sheet, side: int) -> int:
    """The largest side up to `side` at which a small picture's pixels are squares of one size: sharper, and a smaller file."""
    first = next(iter(sheet.columns.values()))
    own = max(first["pixels"].shape[2:]) if "pixels" in first.parts else 1
    return side // own * own or side


def _at(sheet: Sheet, side: int) -> Drawn:
    from PIL import Image

    columns, rows = list(sheet.columns), len(sheet)
    blocks = max(1, min(rows, ABREAST // len(columns)))
    lines = -(-rows // blocks)
    high, wide = side + GAP + (BAND if sheet.words else 0), side + GAP
    canvas = Image.new("RGBA", (blocks * len(columns) * wide, lines * high))
    limits = _limits(sheet)
    for row in range(rows):
        for number, name in enumerate(columns):
            place = (GAP // 2 + (row % blocks * len(columns) + number) * wide, GAP // 2 + row // blocks * high)
            picture = row_picture(sheet.columns[name], row, side, None if limits is None else limits[row])
            assert picture is not None
            canvas.paste(picture, (place[0] + (side - picture.width) // 2, place[1] + (side - picture.height) // 2))
            if name in sheet.words:
                right = bool(sheet.right[name][row]) if name in sheet.right else None
                canvas.paste(_band(sheet.words[name][row], side, right), (place[0], place[1] + side))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return Drawn(buffer.getvalue(), canvas.width, canvas.height, blocks)


def _band(text: str, side: int, right: bool | None):
    """White words on a band as wide as a cell: blue where the guess is right, brown where it is wrong."""
    from PIL import Image, ImageDraw, ImageFont

    band = Image.new("RGB", (side, BAND), PLAIN if right is None else RIGHT if right else WRONG)
    pen, size = ImageDraw.Draw(band), 12
    font = ImageFont.load_default(size)
    while size > 7 and pen.textlength(text, font=font) > side - 4:
        size -= 1
        font = ImageFont.load_default(size)
    pen.text((side / 2, BAND / 2), text, font=font, anchor="mm", fill=(255, 255, 255))
    return band


def _limits(sheet: Sheet) -> Tensor | None:
    """(B, C, 2) lowest and highest value of each row's curves (of its energies: C = 1) over all columns; None for pictures."""
    views = list(sheet.columns.values())
    if "mel" in views[0].parts:
        rows = ([v["mel"][row, : int(v["length"][row])].cpu().float().flatten() for v in views] for row in range(len(sheet)))  # fmt: skip
        return torch.stack([loudness(torch.cat(some))[None] for some in rows])
    if "values" not in views[0].parts:
        return None
    joined = torch.cat([v["values"][:, : len(COLOURS)].cpu().float() for v in views], 2)
    low, high = joined.nan_to_num(torch.inf), joined.nan_to_num(-torch.inf)
    return torch.stack([low.amin(2), high.amax(2)], 2)
