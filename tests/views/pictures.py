"""Random pictures for the tests of views."""

import numpy as np
import torch
from torch import Tensor

from selftaught.core import Draw, View


def uint8(rows: int, channels: int = 3, height: int = 12, width: int = 12, seed: int = 0) -> Tensor:
    """(rows, channels, height, width) uint8, smooth enough to have hues, in the layout of a packed store."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (rows, height, width, channels), dtype=np.uint8)
    pixels[0] = 255
    pixels[-1, : height // 2] = 0  # white, black and flat colours: the edges of every formula
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def view(pixels: Tensor) -> View:
    return View("image", parts={"pixels": pixels})


def draw(rows: int, seed: int = 3, step: int = 5, number: int = 0, progress: float = 0.0) -> Draw:
    return Draw(torch.arange(rows) * 7 + 2, seed, step, number, progress)
