"""Generated pictures without duplicates (textures, shapes, gradients), and planted copies of pictures."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def _texture(rng: np.random.Generator, side: int) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side] / side
    kind = rng.integers(0, 4)
    if kind == 0:  # stripes
        angle = rng.uniform(0, np.pi)
        mix = (
            np.sin(2 * np.pi * rng.uniform(2, 14) * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6)) * 0.5
            + 0.5
        )
    elif kind == 1:  # clouds
        mix = np.zeros((side, side))
        for octave in range(2, 6):
            coarse = Image.fromarray(rng.random((2**octave, 2**octave)).astype(np.float32))
            mix += np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) / 2 ** (octave - 2)
    elif kind == 2:  # checks
        fields = rng.integers(3, 10)
        mix = (np.floor(x * fields + rng.uniform()) + np.floor(y * fields + rng.uniform())) % 2
    else:  # grain
        grain = Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8))
        mix = np.asarray(grain.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2)))) / 255
    return _coloured(rng, mix)


def _coloured(rng: np.random.Generator, mix: np.ndarray) -> np.ndarray:
    mix = (mix - mix.min()) / max(mix.max() - mix.min(), 1e-9)
    first, second = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
    return (first * (1 - mix[..., None]) + second * mix[..., None]).astype(np.uint8)


def _shapes(rng: np.random.Generator, side: int) -> np.ndarray:
    picture = Image.new("RGB", (side, side), tuple(rng.integers(0, 256, 3).tolist()))
    brush = ImageDraw.Draw(picture)
    for _ in range(rng.integers(2, 8)):
        (x, y), (w, h) = rng.integers(0, side, 2).tolist(), rng.integers(4, side // 2, 2).tolist()
        box = (x - w // 2, y - h // 2, x + w // 2, y + h // 2)
        draw = brush.ellipse if rng.random() < 0.5 else brush.rectangle
        draw(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
    return np.asarray(picture)


def _gradient(rng: np.random.Generator, side: int) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side] / side
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        return _coloured(rng, x * np.cos(angle) + y * np.sin(angle))
    return _coloured(rng, np.hypot(x - rng.uniform(), y - rng.uniform()))


def pictures(rows: int, side: int, seed: int = 0) -> np.ndarray:
    """(rows, side, side, 3) uint8, a third of each family."""
    makers = (_texture, _shapes, _gradient)
    return np.stack([makers[i % 3](np.random.default_rng((seed, i)), side) for i in range(rows)])


def recoded(picture: np.ndarray, quality: int) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out))


def cropped(picture: np.ndarray, rng: np.random.Generator, least: float = 0.75, most: float = 0.95) -> np.ndarray:
    side = picture.shape[0]
    kept = round(side * rng.uniform(least, most))
    y, x = rng.integers(0, side - kept + 1, 2)
    return np.asarray(
        Image.fromarray(picture[y : y + kept, x : x + kept]).resize((side, side), Image.Resampling.BICUBIC)
    )


def planted(base: np.ndarray, each: int, seed: int = 1) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{way: (copies, rows of base they are copies of)}: exact, re-encoded (quality 50 to 90), mirrored and re-encoded, cropped."""
    rng = np.random.default_rng(seed)
    ways = {
        "exact": lambda p: p,
        "re-encoded": lambda p: recoded(p, int(rng.integers(50, 91))),
        "mirrored": lambda p: recoded(np.ascontiguousarray(p[:, ::-1]), 90),
        "cropped": lambda p: cropped(p, rng),
        "cropped and re-encoded": lambda p: recoded(cropped(p, rng), 80),
    }
    out = {}
    for name, way in ways.items():
        rows = rng.choice(len(base), each, replace=False)
        out[name] = (np.stack([way(base[row]) for row in rows]), rows)
    return out
