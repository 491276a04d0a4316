"""views.png: what the network saw, the first thing to look at when a run disappoints."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core import View, ViewSpec
from .step import make_batch

CELL = 72
ROWS = 8
NOTHING = 0.5
"""The grey of a pixel that is NaN."""


def save_views(path: Path, data, specs: list[ViewSpec], seed: int, device: torch.device) -> None:
    """One line a row: the stored picture, then every view of it.  Series are drawn as curves, sounds as spectrograms; text has no picture."""
    if "drawn" not in data.modality.offers:
        return
    index = torch.arange(min(ROWS, len(data)))
    raw = data.fetch(index)
    raws = {str(spec.rows): raw.to(device) for spec in specs}
    batch = make_batch(specs, raws, index.to(device), seed=seed, step=0, progress=1.0)
    columns = [_cells(seen(view, data.modality)) for view in (raw, *batch.views)]
    sheet = np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
    from PIL import Image

    Image.fromarray(sheet).save(path)


def seen(view: View, modality) -> View:
    """The view as it can be drawn: itself, or what the modality draws in its place (the log-mel energies of a wave)."""
    change = getattr(modality, "seen", None)
    return view if change is None else change(view)


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
    """One row of a view as a Pillow image of at most `side` pixels: an image itself, a series' curves, a sound's log-mel energies, None for text.

    NaN is grey, or a gap in a curve; limits (C, 2): lowest and highest value of each curve's (or the energies') scale, its own where there are none.
    """
    if "pixels" in view.parts:
        return _picture(view["pixels"][row].cpu(), side)
    if "mel" in view.parts:
        return _spectrogram(view["mel"][row].cpu().float(), int(view["length"][row]), side, limits)
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


HEAT = np.array([(0, 0, 24), (52, 16, 96), (140, 32, 110), (220, 84, 64), (250, 170, 60), (252, 250, 190)], np.float64)
"""From quiet to loud."""


def _spectrogram(mel: Tensor, frames: int, side: int, limits: Tensor | None = None):
    """(T, bands) energies, low pitch at the bottom, as wide as the sound fills the T frames; quiet is dark, NaN grey."""
    from PIL import Image

    values = mel[: max(1, frames)].T.flip(0).numpy()
    low, high = (limits if limits is not None else loudness(mel[: max(1, frames)])[None])[0].tolist()
    level = np.clip((np.nan_to_num(values) - low) / max(1e-6, high - low), 0, 1) * (len(HEAT) - 1)
    under = np.minimum(level.astype(np.int64), len(HEAT) - 2)
    colour = HEAT[under] + (level - under)[..., None] * (HEAT[under + 1] - HEAT[under])
    colour[np.isnan(values)] = 255 * NOTHING
    picture = Image.fromarray(np.rint(colour).astype(np.uint8))
    size = (max(2, round(side * values.shape[1] / max(1, len(mel)))), side)
    return picture.resize(size, Image.Resampling.BOX if max(values.shape) > side else Image.Resampling.NEAREST)


def loudness(mel: Tensor) -> Tensor:
    """(2,) from where to where the colours reach: all but the quietest twentieth and the very loudest of what is finite."""
    finite = mel[mel.isfinite()]
    return torch.quantile(finite, finite.new_tensor([0.05, 0.995])) if len(finite) else mel.new_tensor([0.0, 1.0])


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
