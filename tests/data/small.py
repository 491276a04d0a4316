"""Small modalities and files for these tests: real decoding, tiny sizes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from selftaught.core import Ragged, View
from selftaught.data import Bad, read_picture


@dataclass(frozen=True)
class Picture:
    """Colour pictures, resized to a square; (3, side, side) uint8."""

    side: int = 8
    name = "image"
    dtype = "uint8"
    ragged = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.side, self.side)

    def decode(self, payload) -> np.ndarray:
        picture = read_picture(payload).convert("RGB")
        if picture.size != (self.side, self.side):
            picture = picture.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))

    def collate(self, rows) -> View:
        return View("image", parts={"pixels": torch.from_numpy(rows)})

    def config(self) -> dict:
        return {"side": self.side}


@dataclass(frozen=True)
class Letters:
    """Texts as rows of character codes of unequal length, uint16."""

    most: int = 1000
    name = "text"
    dtype = "uint16"
    ragged = True
    shape = None

    def decode(self, payload) -> np.ndarray:
        if not isinstance(payload, str):
            raise Bad("not text")
        return np.frombuffer(payload[: self.most].encode("utf-16-le", "surrogatepass"), np.uint16)

    def collate(self, rows: Ragged) -> View:
        ids, valid = rows.pad()
        return View("text", parts={"ids": ids, "valid": valid})

    def config(self) -> dict:
        return {"most": self.most}


@dataclass(frozen=True)
class Waves:
    """Series (L, C) float32 of unequal length."""

    channels: int = 1
    name = "series"
    dtype = "float32"
    ragged = True
    shape = None

    def decode(self, payload) -> np.ndarray:
        rows = np.asarray(payload, np.float32)
        return np.ascontiguousarray(rows[:, None] if rows.ndim == 1 else rows.T)

    def collate(self, rows: Ragged) -> View:
        values, valid = rows.pad(float("nan"))
        return View("series", parts={"values": values.transpose(1, 2), "valid": valid})

    def config(self) -> dict:
        return {"channels": self.channels}


def pixels(rows: int, side: int = 8, seed: int = 0, channels: int = 3) -> np.ndarray:
    """(rows, side, side, channels) uint8, smooth enough for JPEG."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (rows, 4, 4, channels), dtype=np.uint8)
    return np.kron(coarse, np.ones((1, -(-side // 4), -(-side // 4), 1), np.uint8))[:, :side, :side]


def encoded(array: np.ndarray, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array.squeeze()).save(out, kind, **options)
    return out.getvalue()


def picture_folder(
    root: Path, rows: int = 12, classes: tuple[str, ...] = ("cat", "dog"), side: int = 8, seed: int = 0
) -> np.ndarray:
    """Writes rows PNG files under root/CLASS; returns the pixels in the order of the source."""
    held = pixels(rows, side, seed)
    per = -(-rows // len(classes))
    for i, array in enumerate(held):
        folder = root / classes[i // per]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:04d}.png").write_bytes(encoded(array))
    return held
