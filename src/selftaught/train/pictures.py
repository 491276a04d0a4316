"""views.png: what the network saw, the first thing to look at when a run disappoints."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core import ViewSpec
from .step import make_batch

CELL = 72
ROWS = 8


def save_views(path: Path, data, specs: list[ViewSpec], seed: int, device: torch.device) -> None:
    """One line a row: the stored picture, then every view of it.  Series are drawn as curves; text has no picture."""
    index = torch.arange(min(ROWS, len(data)))
    raw = data.fetch(index)
    if raw.modality not in ("image", "series"):
        return
    raws = {spec.rows: raw.to(device) for spec in specs}
    batch = make_batch(specs, raws, index.to(device), seed=seed, step=0, progress=1.0)
    columns = [_cells(raw), *(_cells(view) for view in batch.views)]
    sheet = np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
    from PIL import Image

    Image.fromarray(sheet).save(path)


def _cells(view) -> np.ndarray:
    """(rows, CELL, CELL, 3) uint8."""
    if "pixels" in view.parts:
        return np.stack([_picture(p) for p in view["pixels"].cpu()])
    return np.stack([_curves(v) for v in view["values"].cpu()])


def _picture(pixels: Tensor) -> np.ndarray:
    from PIL import Image

    if pixels.dtype != torch.uint8:
        pixels = (pixels.clamp(0, 1) * 255).round().byte()
    channels = pixels[:3] if pixels.shape[0] >= 3 else pixels[:1].expand(3, -1, -1)
    picture = Image.fromarray(channels.permute(1, 2, 0).contiguous().numpy())
    scale = (CELL - 4) / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    cell = Image.new("RGB", (CELL, CELL), (128, 128, 128))
    cell.paste(picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX), (2, 2))
    return np.asarray(cell)


def _curves(values: Tensor) -> np.ndarray:
    from PIL import Image, ImageDraw

    cell = Image.new("RGB", (CELL, CELL), (255, 255, 255))
    pen = ImageDraw.Draw(cell)
    for number, channel in enumerate(values[:4].numpy()):
        seen = np.flatnonzero(np.isfinite(channel))
        if len(seen) < 2:
            continue
        low, high = channel[seen].min(), channel[seen].max()
        x = 2 + seen / max(1, len(channel) - 1) * (CELL - 5)
        y = CELL - 3 - (channel[seen] - low) / max(1e-9, high - low) * (CELL - 6)
        pen.line(
            list(zip(x.tolist(), y.tolist(), strict=True)),
            fill=((31, 119, 180), (214, 96, 32), (44, 140, 44), (130, 80, 160))[number],
        )
    return np.asarray(cell)
