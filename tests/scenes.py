"""Toy pictures with known objects and masks: bright squares (class "square") and discs ("disc") on dark noise, as the folders that people have."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("disc", "square")


def scene(seed: int, wide: int = 40, high: int = 32) -> tuple[np.ndarray, np.ndarray, list[int], np.ndarray]:
    """(pixels (high, wide, 3), boxes (n, 4) left, top, right, bottom, classes, mask (high, wide) of 0: ground, 1: disc, 2: square)."""
    rng = np.random.default_rng([seed, 77])
    pixels = rng.integers(0, 60, (high, wide, 3))
    mask, boxes, classes = np.zeros((high, wide), np.uint8), [], []
    y, x = np.mgrid[:high, :wide]
    for place in rng.permutation(4)[: rng.integers(1, 4)]:
        side = int(rng.integers(8, 12))
        left = int(place % 2 * (wide // 2) + rng.integers(0, wide // 2 - side))
        top = int(place // 2 * (high // 2) + rng.integers(0, high // 2 - side))
        kind = int(rng.integers(0, 2))
        inside = (x >= left) & (x < left + side) & (y >= top) & (y < top + side)
        if kind == 0:
            centre = (left + (side - 1) / 2, top + (side - 1) / 2)
            inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= (side / 2) ** 2
        pixels[inside] = (230, 60, 60) if kind else (60, 90, 230)
        mask[inside] = kind + 1
        boxes.append([left, top, left + side, top + side])
        classes.append(kind)
    return pixels.astype(np.uint8), np.array(boxes, float), classes, mask


def coded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def coco_folder(folder: Path, rows: int = 16, first: int = 0, change=None) -> Path:
    """annotations.json beside the pictures; `change(held)` may spoil what it says."""
    folder.mkdir(parents=True, exist_ok=True)
    held = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "disc"}, {"id": 3, "name": "square"}]}
    for k in range(rows):
        pixels, boxes, classes, _ = scene(first + k)
        Image.fromarray(pixels).save(folder / f"{k:03}.png")
        held["images"].append({"id": 100 + k, "file_name": f"{k:03}.png", "width": 40, "height": 32})
        for (left, top, right, bottom), kind in zip(boxes.tolist(), classes, strict=True):
            one = {"bbox": [left, top, right - left, bottom - top], "category_id": 3 if kind else 7, "iscrowd": 0}
            held["annotations"].append({"id": len(held["annotations"]), "image_id": 100 + k, **one})
    if change is not None:
        change(held)
    (folder / "annotations.json").write_text(json.dumps(held))
    return folder


def mask_folder(folder: Path, rows: int = 16, first: int = 0, names: bool = True) -> Path:
    """images/ and masks/ of palette PNGs, with classes.txt."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for k in range(rows):
        pixels, _, _, mask = scene(first + k)
        Image.fromarray(pixels).save(folder / "images" / f"{k:03}.jpg", quality=95)
        palette = Image.fromarray(mask, "L").convert("P")
        palette.putdata(mask.flatten().tolist())
        palette.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
        palette.save(folder / "masks" / f"{k:03}.png")
    if names:
        (folder / "classes.txt").write_text("ground\ndisc\nsquare\n")
    return folder
