"""Pictures: decoded once to squares of uint8, looked at in crops and colours, predicted in patches.

When it fits: photographs, drawings, scans, maps, frames; grey or RGB (alpha is left aside, more channels only as arrays).
When it does not: what counts is finer than the stored side (say --size), or lies at the rim (rows are cut to their middle
square).  Transparent parts show the colour that the file stores under them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as Pillow
from torch import Tensor

from .. import nets, views
from ..core import DataError, Draw, Encoder, Facts, ModelError, RequestError, Target, Transform, View, module
from ..data.bad import Bad
from ..data.pictures import picture_size, read_picture
from ..nets import files
from . import Guess, _geometry, _toy

SAMPLE = 256
"""Rows that are looked at to choose the side, the channels and their statistics."""
KEPT = (256, 160)
"""Largest side that is kept where all pictures share it: with a GPU, without."""
STORED = (224, 128)
"""Largest side otherwise."""
LARGEST = 4096
"""Largest side that can be asked for."""
RAW = 32
"""Side of the raw-input control."""


@dataclass(frozen=True)
class Image:
    """Square pictures of `side` pixels and `channels` channels; `mean` and `std` of their pixels in 0-1 go to the encoder."""

    name: ClassVar[str] = "image"
    offers: ClassVar[frozenset[str]] = frozenset(
        {"augment", "local", "turn", "tiles", "colour", "pixels", "values", "target", "patches", "drawn"}
    )
    dtype: ClassVar[str] = "uint8"
    ragged: ClassVar[bool] = False
    method: ClassVar[str] = "sparse-manifold"
    method_reason: ClassVar[str] = (
        "closed form, no gradient: of all methods here the one that has most to show after minutes on a processor"
    )

    trained_method: ClassVar[str] = "simclr"

    side: int = 32
    channels: int = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    why: str = field(default="", compare=False)
    """The reason for the side."""

    def __post_init__(self):
        if not 1 <= self.side <= LARGEST or not 1 <= self.channels <= 1024:
            raise ValueError(f"a side of {self.side} pixels and {self.channels} channels are not kept")
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise ValueError(f"mean and std need {self.channels} numbers, and std positive ones")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a stored row: height, width, channels."""
        return self.side, self.side, self.channels

    @classmethod
    def sniff(cls, source) -> Guess | None:
        columns = source.of_kind("image")
        return Guess(columns[0], 1.0, "its first rows are pictures") if columns else None

    @classmethod
    def fit(cls, source, column: str, *, size: int | None = None, memory: int | None = None) -> Self:
        """Chooses side and channels from up to 256 rows, and measures their mean and deviation.

        `memory` takes no part: rows are of one size, and the store is mapped, not read.  Raises RequestError for a side
        that is none, DataError where none of the sample is a picture.
        """
        if size is not None and not 4 <= size <= LARGEST:
            raise RequestError(f"--size {size} is no side of pictures.", f"Give 4 to {LARGEST} pixels.")
        count = min(source.rows, SAMPLE)
        spread = np.linspace(0, source.rows - 1, count).astype(np.int64) if source.random_access else np.arange(count)
        sample = [p for p in source.payloads(column, np.unique(spread)) if not isinstance(p, Bad)]
        sizes, kinds, first = _measure(sample)
        if not sizes:
            raise DataError(f"None of the first rows of {source.name} is a picture ({first}).", "Check --column.")
        side, why = (size, "as asked") if size else _choose_side(sizes)
        channels = max(kinds)
        draft = cls(side, channels, (0.5,) * channels, (0.25,) * channels)
        mean, std = _statistics(draft, sample)
        return cls(side, channels, mean, std, why)

    def decode(self, payload: bytes | str | np.ndarray) -> np.ndarray:
        """(side, side, channels) uint8: upright, the middle square, resized with antialiasing.  A str is a path."""
        if isinstance(payload, str):
            payload = _read(payload)
        if isinstance(payload, np.ndarray) and payload.shape == self.shape and payload.dtype == np.uint8:
            return payload
        if isinstance(payload, np.ndarray) and payload.ndim == 3 and payload.shape[2] not in (1, 3, 4):
            return self._many_channels(payload)
        picture = read_picture(payload, smallest=2 * self.side)
        if self.channels not in (1, 3):
            raise Bad(f"unlike the others: {picture.mode} instead of {self.channels} channels")
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        return np.asarray(_square(picture, self.side)).reshape(self.shape)

    def _many_channels(self, pixels: np.ndarray) -> np.ndarray:
        if pixels.dtype != np.uint8 or pixels.shape[2] != self.channels or not pixels.size:
            raise Bad(
                f"unlike the others: {pixels.dtype} {pixels.shape} instead of uint8 with {self.channels} channels"
            )
        planes = [
            np.asarray(_square(Pillow.fromarray(np.ascontiguousarray(p)), self.side)) for p in np.moveaxis(pixels, 2, 0)
        ]
        return np.stack(planes, 2)

    def collate(self, rows: np.ndarray) -> View:
        """{"pixels": (B, C, H, W) uint8} of (B, H, W, C): the same memory, channels last."""
        rows = rows if rows.flags.writeable else rows.copy()
        return View(self.name, parts={"pixels": torch.from_numpy(rows).permute(0, 3, 1, 2)})

    def plain(self, facts: Facts | None = None) -> Transform:
        """The clean view: the stored square as it is."""
        return views.plain(self.side)

    def augment(self, facts: Facts | None = None) -> Transform:
        """The view of joint-embedding methods; on a processor, smaller crops early."""
        strong = self.side >= views.BLUR_FROM
        return views.joint(self._crop_sizes(facts), scale=(0.2, 1.0), strength=0.8 if strong else 0.5)

    def local(self, facts: Facts | None = None) -> Transform:
        """The small crop of multi-crop methods: under half the side, a tenth to two fifths of the area."""
        return views.local(
            self._local_size(facts), scale=(0.1, 0.4), strength=0.8 if self.side >= views.BLUR_FROM else 0.5
        )

    def _local_size(self, facts: Facts | None) -> int:
        step = (facts.multiple if facts else None) or 4
        least = min(self.side, -(-8 // step) * step)
        return max(least, round(0.43 * self.side / step) * step)

    def mild(self, facts: Facts | None = None) -> Transform:
        """Crop and mirror only, at the stored side."""
        return views.mild(self.side)

    def corruptions(self) -> dict[str, dict[int, Transform]]:
        """{name: {severity: transform}}: what test pictures are spoiled with (views/corruptions.py)."""
        return views.corruptions(self.side, self.channels)

    def _crop_sizes(self, facts: Facts | None) -> views.Size:
        if facts is None or facts.device != "cpu" or self.side < 24:
            return self.side
        step = facts.multiple or 8
        if step >= self.side:
            return self.side
        small, middle = (max(step, min(round(self.side * share / step) * step, self.side)) for share in (0.5, 0.75))
        return ((0.0, small), (0.6, middle))

    def turn(self, view: View, turns: int | Tensor) -> View:
        """Turned anticlockwise by `turns` quarters: one number for all rows, or (B,) int64."""
        pixels = view["pixels"]
        if isinstance(turns, int):
            return view.with_parts(pixels=torch.rot90(pixels, turns % 4, (2, 3)))
        return view.with_parts(pixels=views.quarter_turns(pixels, turns))

    def tiles(self, view: View, grid: int, draw: Draw, **shortcuts) -> list[View]:
        """grid^2 views, the tiles of the picture in row order, with the shortcuts closed that views/tiles.py names (`colour`, `reveal`)."""
        cut = views.tiles(view["pixels"], grid, draw, self.mean, self.std, **shortcuts)
        return [View(self.name, parts={"pixels": tile}) for tile in cut]

    def together(self, tiles: list[View], grid: int) -> View:
        """One picture of grid^2 tiles in row order, a pixel apart; where a tile's pixels are NaN, nothing lies."""
        held = [F.pad(tile["pixels"], (0, 1, 0, 1), value=math.nan) for tile in tiles]
        lines = [torch.cat(held[n : n + grid], 3) for n in range(0, len(held), grid)]
        return View(self.name, parts={"pixels": torch.cat(lines, 2)[..., :-1, :-1]})

    def grey(self, view: View) -> View:
        """The picture without its colours: every channel holds the luma."""
        pixels = views.as_float(view["pixels"])
        return view.with_parts(pixels=views.luma(pixels).expand_as(pixels))

    def colours(self, view: View, grid: tuple[int, ...]) -> Tensor:
        """(B, N, 2) a and b of CIE Lab: of the mean colour of each cell of `grid`, in row order."""
        cells = F.adaptive_avg_pool2d(views.as_float(view["pixels"]), list(grid))  # type: ignore[arg-type]
        return views.to_lab(cells.flatten(2).transpose(1, 2))[..., 1:]

    def coloured(self, view: View, ab: Tensor, grid: tuple[int, ...]) -> View:
        """The picture's own lightness under the colours `ab` (B, N, 2) of a grid, smooth between its cells."""
        pixels = views.as_float(view["pixels"])
        smooth = F.interpolate(ab.transpose(1, 2).unflatten(2, grid), pixels.shape[2:], mode="bilinear")
        lightness = views.to_lab(pixels.movedim(1, -1))[..., :1]
        rgb = views.from_lab(torch.cat([lightness, smooth.movedim(1, -1).to(lightness.dtype)], -1))
        return view.with_parts(pixels=rgb.movedim(-1, 1))

    def painted(self, view: View) -> Tensor:
        """(B, C, H, W) the pixels as something to predict: normalised by mean and std."""
        pixels = views.as_float(view["pixels"])
        mean, std = (pixels.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (pixels - mean) / std

    def unpainted(self, painted: Tensor) -> View:
        """A view of what `painted` gives or a network paints, (B, C, H, W)."""
        mean, std = (painted.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return View(self.name, parts={"pixels": painted * std + mean})

    def corrupt(self, view: View, chosen: Tensor, grid: tuple[int, ...], draw: Draw) -> View:
        """Marks the patches `chosen` (B, N) bool as masked; the encoder puts its mask token there."""
        if chosen.shape[1] != math.prod(grid):
            raise ValueError(f"{chosen.shape[1]} choices for a grid of {grid}")
        return view.with_parts(masked=chosen)

    def target(self, view: View, grid: tuple[int, ...]) -> Target:
        """Pixels of each patch, (B, N, P) with P = height x width x channels of a patch, normalised by mean and std.

        What a method subtracts from each patch beyond that (MAE: its own mean and deviation) is the method's.
        """
        pixels = views.as_float(view["pixels"])
        rows, _, height, width = pixels.shape
        if height % grid[0] or width % grid[1]:
            raise ValueError(f"{height} x {width} pixels do not divide into a grid of {grid}")
        mean, std = (pixels.new_tensor(s)[:, None, None] for s in (self.mean, self.std))
        patches = ((pixels - mean) / std).unfold(2, height // grid[0], height // grid[0])
        patches = patches.unfold(3, width // grid[1], width // grid[1])  # (B, C, gh, gw, ph, pw)
        values = patches.permute(0, 2, 3, 4, 5, 1).reshape(rows, math.prod(grid), -1)
        valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        return Target("value", values, valid, width=values.shape[2])

    def untarget(self, values: Tensor, view: View, grid: tuple[int, ...]) -> View:
        """The picture of patches `values` (B, N, P), as `target` gives them for `view`."""
        rows, channels, height, width = view["pixels"].shape
        cells = values.view(rows, *grid, height // grid[0], width // grid[1], channels)
        return self.unpainted(cells.permute(0, 5, 1, 3, 2, 4).reshape(rows, channels, height, width))

    def raw(self, view: View) -> Tensor:
        """(B, D) float32 in 0-1: the pixels themselves, averaged down to at most 32 x 32."""
        pixels = view["pixels"]
        if max(pixels.shape[2:]) > RAW:
            pixels = views.central(pixels, RAW)
        return views.as_float(pixels).float().flatten(1)

    def encoder(self, facts: Facts, needs: frozenset[str] | set[str], name: str | None = None, **options) -> Encoder:
        """The encoder `name`, or the default for what a method needs and what the machine carries; `options` are its own.

        Tokens ask for a ViT of about 8 x 8 patches (14 x 14 on a GPU), narrow and shallow where a processor has less than ten minutes: steps
        count more than parameters then; else a ResNet-18 on a GPU and a small residual network on a processor, whose stem takes the
        picture to about 16 x 16 at once.
        """
        chosen: dict[str, Any] = {}
        if name is not None:
            kind, chosen = nets.parse(name)
        elif needs & {"tokens", "mask", "causal"}:
            kind = "vit"
        else:
            kind, chosen = ("resnet-small", {}) if facts.device == "cpu" else nets.parse("resnet18")
        if kind not in nets.LOADED:
            chosen |= {"channels": self.channels, "mean": self.mean, "std": self.std}
        if kind in ("vit", "resnet"):
            chosen["image_size"] = self.side
        if kind == "vit":
            chosen["patch"] = patch_of(self.side, 8 if facts.device == "cpu" else 14)
            if name is None and facts.device == "cpu" and facts.minutes is not None and facts.minutes < 10:
                chosen |= {"width": 96, "depth": 4, "heads": 3}
        if kind == "resnet-small":
            stride = next(s for s, until in ((1, 16), (2, 48), (4, 144), (8, self.side + 1)) if self.side < until)
            chosen |= {"stride": stride, "patch": max(3, 2 * stride)}
        return nets.build(kind, **{**chosen, **options})

    def mismatches(self, encoder: Encoder, view: View, payloads: list, own: bool) -> list[dict[str, str]]:
        """What does not fit between a pretrained encoder and rows, each {"kind", "text", "remedy"} (see _geometry.mismatches)."""
        sizes, bands, _ = _measure([_read(p) if isinstance(p, str) else p for p in payloads])
        return _geometry.mismatches(encoder, view, [(min(s), b) for s, b in zip(sizes, bands, strict=True)], own)

    def multiple(self, encoder: Encoder, facts: Facts) -> int | None:
        """Facts.multiple for this encoder: what sides of crops must be multiples of, None where any will do."""
        sizes = self._crop_sizes(facts)
        wanted = [self.side] if isinstance(sizes, int) else [size for _, size in sizes]
        return _geometry.multiple(encoder, self.channels, self.side, [*wanted, self._local_size(facts)])

    def config(self) -> dict[str, Any]:
        """{"name", "side", "channels", "mean", "std"}: what decides the stored rows and the encoder's input."""
        settings = {"side": self.side, "channels": self.channels, "mean": list(self.mean), "std": list(self.std)}
        return {"name": self.name, **settings}

    def save(self, folder: str | Path) -> None:
        """Writes preprocessor.json."""
        Path(folder, "preprocessor.json").write_text(json.dumps(self.config(), indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` wrote; ModelError where the file is missing, broken or for another kind of data."""
        held = files.read_json(Path(folder), "preprocessor.json")
        if held.pop("name", None) != cls.name:
            raise ModelError(f"{str(folder)!r} holds no preprocessor of pictures.", "Save the encoder again.")
        try:
            return module.build(cls, held, "the preprocessor of pictures")
        except (RequestError, ValueError, TypeError) as error:
            raise ModelError(
                f"preprocessor.json in {str(folder)!r} is broken: {error}", "Save the encoder again."
            ) from None

    def describe(self) -> str:
        """One line in words."""
        colour = {1: "grey", 3: "RGB"}.get(self.channels, f"{self.channels} channels")
        return f"pictures of {self.side} x {self.side} pixels, {colour}" + (f": {self.why}" if self.why else "")

    @classmethod
    def toy(cls, rows: int, seed: int = 0) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """`rows` pictures (32, 32, 3) uint8 and the factors that made them (see _toy)."""
        return _toy.pictures(rows, seed)


def patch_of(side: int, grid: int) -> int:
    """The divisor of `side`, from 2 pixels on, that gives the number of patches a side nearest to `grid`."""
    divisors = [p for p in range(2, side + 1) if side % p == 0 and (p < side or side < 4)] or [side]
    return min(divisors, key=lambda p: (abs(math.log(side / p / grid)), p))


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise Bad(f"unreadable: {error.strerror or error}") from None


def _square(picture: Pillow.Image, side: int) -> Pillow.Image:
    """The middle square, resized with Pillow's antialiased bilinear filter."""
    width, height = picture.size
    if width == height == side:
        return picture
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return picture.resize((side, side), Pillow.Resampling.BILINEAR, box=box, reducing_gap=3.0)


def _measure(sample: list) -> tuple[list[tuple[int, int]], list[int], str]:
    """Sizes and channel counts of what can be read of a sample, and the reason of the first row that cannot."""
    sizes, kinds, reason = [], [], "the sample is empty"
    for payload in sample:
        try:
            if isinstance(payload, np.ndarray) and payload.ndim == 3 and payload.shape[2] not in (1, 3, 4):
                kinds.append(payload.shape[2])
            else:
                kinds.append(len(read_picture(payload, smallest=8).getbands()))
            sizes.append(picture_size(payload))
        except Bad as bad:
            reason = bad.reason
    return sizes, kinds, reason


def _choose_side(sizes: list[tuple[int, int]]) -> tuple[int, str]:
    """The side to store and why."""
    gpu = torch.cuda.is_available()
    kept, stored = KEPT[not gpu], STORED[not gpu]
    short = np.array([min(s) for s in sizes])
    same = len({*sizes}) == 1
    if same and short[0] <= kept:
        return int(short[0]), "their own size" if sizes[0][0] == sizes[0][1] else "their own shorter side"
    low = int(np.quantile(short, 0.1))
    side = min(stored, low // 8 * 8 or low)
    if side == stored:
        where = "" if gpu else ", as there is no GPU"
        return side, f"reduced from {low} or more{where} (--size keeps more)"
    return side, f"nine in ten have a shorter side of at least {low}"


def _statistics(modality: Image, sample: list) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in 0-1, over the readable rows of a sample."""
    rows = []
    for payload in sample:
        try:
            rows.append(modality.decode(payload))
        except Bad:
            continue
    pixels = np.stack(rows).reshape(-1, modality.channels) / 255
    mean, std = pixels.mean(0), np.maximum(pixels.std(0), 0.02)
    return tuple(round(float(m), 4) for m in mean), tuple(round(float(s), 4) for s in std)
