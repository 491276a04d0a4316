"""Whole pictures for detection and segmentation: fitted into a canvas without distortion, with what is known of their parts.

A picture is scaled until it fits (letterbox): it lies at the left and top, the rest is filled with the mean colour, holds no object and counts in no mask.
Not a kind of data of its own: encoders are pretrained on squares (see image.py) and read canvases at the same scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image as Pillow

from ..core import Encoder, Ragged, RequestError, View
from ..data import Dataset
from ..data.boxes import Boxes
from ..data.masks import Masks
from ..data.pictures import read_mask, read_picture
from ..measures.detection import Objects
from ..measures.segmentation import IGNORED

ASPECT = 2.0
"""Longest over shortest side of a canvas at most: pictures beyond it are padded."""


@dataclass(frozen=True)
class Canvas:
    """Pictures fitted into `size` (height, width) pixels; `mean` of the channels in 0-1 fills the rest."""

    name: ClassVar[str] = "image"
    dtype: ClassVar[str] = "uint8"
    ragged: ClassVar[bool] = False

    size: tuple[int, int]
    channels: int = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)

    @classmethod
    def fit(cls, sizes: np.ndarray, image, encoder: Encoder, *, size: int | None = None) -> tuple[Self, Encoder]:
        """The canvas for pictures of these sizes (rows, 2) (width, height), and the encoder as it reads such canvases.

        The shorter side is that of the squares of pretraining (or `size`), so that things keep their scale; the aspect is that of the median
        picture, at most 2; the encoder may round up (`Encoder.on_canvas`).
        """
        if image.channels not in (1, 3):
            raise RequestError(
                f"Pictures of {image.channels} channels have no whole view.", "Give grey or RGB pictures."
            )
        if size is not None and not 16 <= size <= 4096:
            raise RequestError(f"--size {size} is no side of pictures.", "Give 16 to 4096 pixels.")
        known = sizes[(sizes > 0).all(1)]
        aspect = float(np.clip(np.median(known[:, 0] / known[:, 1]), 1 / ASPECT, ASPECT)) if len(known) else 1.0
        short = size or image.side
        wanted = (short, round(short * aspect)) if aspect >= 1 else (round(short / aspect), short)
        fitted, taken = encoder.on_canvas(wanted)
        return cls((taken[0], taken[1]), image.channels, tuple(image.mean)), fitted

    @property
    def shape(self) -> tuple[int, int, int]:
        return *self.size, self.channels

    def inner(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that a picture of (width, height) takes of the canvas."""
        scale = min(self.size[1] / size[0], self.size[0] / size[1])
        return max(1, min(self.size[1], round(size[0] * scale))), max(1, min(self.size[0], round(size[1] * scale)))

    def decode(self, payload) -> np.ndarray:
        """(height, width, channels) uint8 of an encoded picture or an array."""
        picture = read_picture(payload, smallest=2 * max(self.size)).convert("L" if self.channels == 1 else "RGB")
        wide, high = self.inner(picture.size)
        if picture.size != (wide, high):
            picture = picture.resize((wide, high), Pillow.Resampling.BILINEAR, reducing_gap=3.0)
        fill = np.round(255 * np.array(self.mean[: self.channels])).astype(np.uint8)
        out = np.broadcast_to(fill, self.shape).copy()
        out[:high, :wide] = np.asarray(picture).reshape(high, wide, self.channels)
        return out

    def collate(self, rows: np.ndarray) -> View:
        """{"pixels": (B, C, H, W) uint8}."""
        rows = rows if rows.flags.writeable else rows.copy()
        return View(self.name, parts={"pixels": torch.from_numpy(rows).permute(0, 3, 1, 2)})

    def config(self) -> dict[str, Any]:
        return {"canvas": list(self.size), "channels": self.channels, "mean": list(self.mean)}

    def describe(self) -> str:
        """One line in words."""
        return (
            f"whole pictures fitted into {self.size[1]} x {self.size[0]} pixels, the rest filled with the mean colour"
        )


@dataclass(frozen=True)
class MaskCanvas:
    """Masks fitted as their pictures are, by nearest neighbour: codes of classes, IGNORED elsewhere."""

    dtype: ClassVar[str] = "uint8"
    ragged: ClassVar[bool] = False

    canvas: Canvas
    values: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return self.canvas.size

    def codes(self, mask: np.ndarray) -> np.ndarray:
        """(H, W) uint8 codes of a mask's values; a value that is no class is IGNORED."""
        order = np.argsort(self.values)
        known = np.array(self.values)[order]
        at = np.searchsorted(known, mask).clip(max=len(known) - 1)
        return np.where(known[at] == mask, order[at], IGNORED).astype(np.uint8)

    def decode(self, payload) -> np.ndarray:
        codes = self.codes(read_mask(payload))
        wide, high = self.canvas.inner(codes.shape[::-1])
        out = np.full(self.shape, IGNORED, np.uint8)
        out[:high, :wide] = np.asarray(Pillow.fromarray(codes).resize((wide, high), Pillow.Resampling.NEAREST))
        return out

    def config(self) -> dict[str, Any]:
        return {"of": self.canvas.config(), "values": list(self.values)}


@dataclass(frozen=True)
class Annotated:
    """Pictures on canvases with what is known of their parts: `boxes` or `masks` (with their packed canvases), by row of the source."""

    pictures: Dataset
    sizes: np.ndarray
    boxes: Boxes | None = None
    masks: Masks | None = None
    canvases: Dataset | None = None

    @classmethod
    def of(cls, source, column: str, canvas: Canvas, truth: Boxes | Masks, *, max_bad: float = 0.01) -> Self:
        """Packs pictures (and masks) of a source; rows that cannot be read, or have no mask, are left out."""
        pictures = Dataset.open(source, column, canvas, max_bad=max_bad)
        if isinstance(truth, Boxes):
            return cls(pictures, truth.sizes, boxes=truth)
        has = truth.rows[pictures.source_rows()] >= 0
        packed = Dataset.open(truth.source, truth.column, MaskCanvas(canvas, truth.values), max_bad=1.0)
        return cls(pictures.subset(np.flatnonzero(has)), truth.sizes, masks=truth, canvases=packed)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def ids(self) -> np.ndarray:
        return self.pictures.ids

    def subset(self, places: np.ndarray) -> Annotated:
        """Some of the pictures, with what is known of them."""
        return replace(self, pictures=self.pictures.subset(places))

    def own_sizes(self, places: np.ndarray) -> np.ndarray:
        """(n, 2) width and height of the pictures themselves."""
        return self.sizes[self.pictures.source_rows(places)]

    def fetch(self, places: np.ndarray) -> View:
        """The raw view with the part "objects" (left, top, right, bottom in pixels of the canvas, class) or "mask" (B, H, W) uint8."""
        view = self.pictures.fetch(places)
        if self.boxes is not None:
            return replace(view, parts={**view.parts, "objects": self._objects(places)})
        if self.canvases is not None and self.masks is not None:
            rows = self.masks.rows[self.pictures.source_rows(places)]
            where = np.searchsorted(self.canvases.source_rows(), rows)
            return view.with_parts(mask=torch.from_numpy(np.array(self.canvases.rows(where))))
        return view

    def _objects(self, places: np.ndarray) -> Ragged:
        canvas, parts = self.pictures.modality, []
        for row, size in zip(self.pictures.source_rows(places), self.own_sizes(places)):
            held = self.boxes.objects[row]  # type: ignore[union-attr]
            held = held.take(np.flatnonzero(~held.crowd))
            scale = np.array(canvas.inner(tuple(size)) * 2) / np.tile(size, 2)
            parts.append(np.concatenate([held.boxes * scale, held.classes[:, None]], 1))
        offsets = np.cumsum([0, *map(len, parts)])
        return Ragged(torch.from_numpy(np.concatenate(parts)).float(), torch.from_numpy(offsets))

    def truth(self, places: np.ndarray) -> list[Objects] | list[np.ndarray]:
        """What is known in the pictures' own pixels: objects, or masks (h, w) uint8 of codes and IGNORED."""
        rows = self.pictures.source_rows(places)
        if self.boxes is not None:
            return [self.boxes.objects[row] for row in rows]
        if self.masks is None:
            raise ValueError("nothing is known of these pictures")
        lookup = MaskCanvas(self.pictures.modality, self.masks.values)
        payloads = self.masks.source.payloads(self.masks.column, self.masks.rows[rows])
        return [lookup.codes(read_mask(p)) for p in payloads]  # type: ignore[arg-type]
