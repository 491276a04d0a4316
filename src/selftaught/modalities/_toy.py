"""Pictures with known factors, drawn here: what an encoder should find, and what a test can look for."""

from __future__ import annotations

import numpy as np

SIDE = 32
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ((230, 60, 50), (60, 180, 70), (60, 90, 220), (230, 200, 50), (180, 70, 200), (60, 190, 200))
TEXTURES = ("plain", "stripes", "checks")


def pictures(rows: int, seed: int = 0) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """`rows` pictures (32, 32, 3) uint8, and their factors (rows,).

    Integer factors: shape (0-3: circle, square, triangle, cross), colour (0-5), texture of the background (0-2: plain,
    stripes, checks).  Float factors in pixels: x and y of the shape's centre, size (half its extent, 5-9).  Factors are
    independent of one another; the shape is always whole.
    """
    rng = np.random.default_rng([seed, 0x5E1F])
    shape = rng.integers(len(SHAPES), size=rows)
    colour = rng.integers(len(COLOURS), size=rows)
    texture = rng.integers(len(TEXTURES), size=rows)
    size = rng.uniform(5, 9, rows)
    x = rng.uniform(size + 1, SIDE - size - 1)
    y = rng.uniform(size + 1, SIDE - size - 1)
    right, down = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    dx = (right - x[:, None, None]) / size[:, None, None]
    dy = (down - y[:, None, None]) / size[:, None, None]
    inside = np.select([np.broadcast_to((shape == s)[:, None, None], dx.shape) for s in range(4)], _outlines(dx, dy))
    shade = rng.uniform(90, 160, (rows, 1, 1)) + 35 * _ground(texture, right, down)
    noise = rng.normal(0, 6, (rows, SIDE, SIDE, 3))
    paint = np.array(COLOURS)[colour][:, None, None, :] * rng.uniform(0.85, 1.05, (rows, 1, 1, 1))
    pixels = np.where(inside[..., None], paint, shade[..., None]) + noise
    pixels = pixels.round().clip(0, 255).astype(np.uint8)
    factors = {"shape": shape, "colour": colour, "texture": texture, "x": x, "y": y, "size": size}
    return list(pixels), factors


def _outlines(dx: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
    """(rows, SIDE, SIDE) bool of each shape, within -1 to 1 of its centre."""
    square = np.maximum(abs(dx), abs(dy)) <= 0.85
    triangle = (dy <= 0.9) & (dy >= -0.9 + 1.8 * abs(dx))
    cross = (np.minimum(abs(dx), abs(dy)) <= 0.3) & (np.maximum(abs(dx), abs(dy)) <= 0.95)
    return [dx**2 + dy**2 <= 0.9, square, triangle, cross]


def _ground(texture: np.ndarray, right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """(rows, SIDE, SIDE) in -1 to 1: flat, diagonal stripes of period 8, checks of 4 pixels."""
    stripes = np.sign(np.sin((right + down) * (2 * np.pi / 8) + 0.1))
    checks = np.sign(np.sin(right * (2 * np.pi / 8) + 0.1) * np.sin(down * (2 * np.pi / 8) + 0.1))
    return np.stack([np.zeros_like(stripes), stripes, checks])[texture]
