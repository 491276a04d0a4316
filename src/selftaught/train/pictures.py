"""views.png: what the network saw, the first thing to look at when a run disappoints."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core import ViewSpec
from .step import make_batch

CELL = 72
ROWS = 8
NOTHING = 0.5
"""The grey of a pixel that is NaN."""


def save_views(path: Path, data, specs: list[ViewSpec], seed: int, device: torch.device) -> None:
    """One line a row: the stored picture, then every view of it.  Series are drawn as curves; text has no picture."""
    index = torch.arange(min(ROWS, len(data)))
    raw = data.fetch(index)
    if raw.modality not in ("image", "series"):
        return
    raws = {str(spec.rows): raw.to(device) for spec in specs}
    batch = make_batch(specs, raws, index.to(device), seed=seed, step=0, progress=1.0)
    columns = [_cells(raw), *(_cells(view) for view in batch.views)]
    sheet = np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
    from PIL import Image

    Image.fromarray(sheet).save(path)


def _cells(view) -> np.ndarray:
    """(rows, CELL, CELL, 3) uint8: each picture on grey, with a margin."""
    from PIL import Image

    cells = []
    for row in range(len(view)):
        cell = Image.new("RGB", (CELL, CELL), (128, 128, 128))
        picture = row_picture(view, row, CELL - 4)
        assert picture is not None
        cell.paste(picture, (2, 2))
        cells.append(np.asarray(cell))
    return np.stack(cells)


def row_picture(view, row: int, side: int, limits: Tensor | None = None):
    """One row of a view as a Pillow image of at most `side` pixels: an image itself, a series' curves, None for text.

    NaN is grey, or a gap in a curve; limits (C, 2): lowest and highest value of each curve's scale, its own where there are none.
    """
    if "pixels" in view.parts:
        return _picture(view["pixels"][row].cpu(), side)
    return _curves(view["values"][row].cpu().float(), side, limits) if "values" in view.parts else None


def _picture(pixels: Tensor, side: int):
    from PIL import Image

    if pixels.dtype != torch.uint8:
        pixels = (pixels.nan_to_num(NOTHING).clamp(0, 1) * 255).round().byte()
    channels = pixels[:3] if pixels.shape[0] >= 3 else pixels[:1].expand(3, -1, -1)
    picture = Image.fromarray(channels.permute(1, 2, 0).contiguous().numpy())
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX)


COLOURS = ((31, 119, 180), (214, 96, 32), (44, 140, 44), (130, 80, 160))


def _curves(values: Tensor, side: int, limits: Tensor | None = None):
    from PIL import Image, ImageDraw

    cell = Image.new("RGB", (side, side), (255, 255, 255))
    pen = ImageDraw.Draw(cell)
    for number, (colour, channel) in enumerate(zip(COLOURS, values.numpy(), strict=False)):
        seen = np.flatnonzero(np.isfinite(channel))
        if len(seen) < 2:
            continue
        low, high = limits[number].tolist() if limits is not None else (channel[seen].min(), channel[seen].max())
        x = 1 + np.arange(len(channel)) / max(1, len(channel) - 1) * (side - 3)
        y = side - 2 - (channel - low) / max(1e-9, high - low) * (side - 4)
        for run in np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1):
            pen.line(list(zip(x[run].tolist(), y[run].tolist(), strict=True)), fill=colour)
    return cell
