"""Sparse codes of patches, embedded linearly and pooled: one layer, fitted in closed form (methods/sparse_manifold), no gradient.

Source: Chen, Yun, Ma, Olshausen & LeCun, "Minimalistic Unsupervised Representation Learning with the Sparse Manifold Transform"
(ICLR 2023).  A patch is whitened and made unit; its code is 1 at the atoms (whitened patches) whose cosine reaches a threshold, or at the best
atom where none does; its embedding is the sum of the active atoms' rows of a small matrix of integers, made unit; these are averaged over
cells of the image.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import ClassVar

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Encoder, Tokens, View

FLAT = 1e-4
"""Squared norm of a whitened patch up to which it counts as flat and has no code (rounding noise would be taken for one)."""
DENSITY = 0.03
"""Share of the atoms that the untrained threshold lets through, were the cosines those of random directions."""
SCALE = ("shrink", "patch", "stride", "filters", "atoms", "width", "cells", "grey", "pad")
"""Options that hold one value a scale."""
FINE = 8
"""Pixels of a side of the cells on whole pictures (see on_canvas)."""
_HELD = 1 << 28  # cosines held at once by the plain definition, where it is not traced


class Scale(nn.Module):
    """One dictionary at one resolution: pixels (B, C, H, W) in 0-255 -> unit cells (B, cells x cells, width).

    Buffers: filters (K, c x patch x patch) for pixels in 0-255, atoms (A, K) unit rows, embedding (A, width) int8, threshold ().
    """

    filters: Tensor
    atoms: Tensor
    embedding: Tensor
    threshold: Tensor
    pool: Tensor

    def __init__(
        self, size: tuple[int, int], channels: int, *, shrink: int, pad: int, patch: int, stride: int, grey: bool, filters: int,
        atoms: int, width: int, cells: int,
    ):  # fmt: skip
        super().__init__()
        self.shrink, self.pad, self.patch, self.stride, self.grey, self.cells = shrink, pad, patch, stride, grey, cells
        self.planes = 1 if grey else channels
        sides = [s // shrink + 2 * pad for s in size]
        if min(sides) < patch:
            raise ValueError(f"patches of {patch} pixels do not fit into {sides[0]} x {sides[1]}")
        self.grid = tuple((s - patch) // stride + 1 for s in sides)
        white = torch.randn(filters, self.planes * patch * patch)
        white = white - white.mean(1, keepdim=True)
        self.register_buffer("filters", F.normalize(white, dim=1) / 25)
        self.register_buffer("atoms", F.normalize(torch.randn(atoms, filters), dim=1))
        self.register_buffer("embedding", (32 * torch.randn(atoms, width)).round().clamp(-127, 127).to(torch.int8))
        reached = NormalDist().inv_cdf(1 - DENSITY) / math.sqrt(filters)
        self.register_buffer("threshold", torch.tensor(reached, dtype=torch.float32))
        rows, columns = (torch.arange(g) * cells // g for g in self.grid)
        cell = (rows[:, None] * cells + columns).flatten()
        pool = (cell[:, None] == torch.arange(cells * cells)).float()
        self.register_buffer("pool", pool, persistent=False)  # (positions, cells x cells)

    def look(self, pixels: Tensor) -> Tensor:
        """(B, planes, h, w) float in 0-255: what patches are cut from; uint8 and floats in 0-1 give the same."""
        x = pixels.to(self.filters.dtype)
        x = x if pixels.dtype == torch.uint8 else x * 255
        if self.grey and x.shape[1] > 1:
            x = x.mean(1, keepdim=True)
        if self.shrink > 1:
            x = F.avg_pool2d(x, self.shrink)
        return F.pad(x, (self.pad,) * 4) if self.pad else x

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.look(pixels)
        if _traced():
            return self.define(x)
        if x.device.type == "cpu" and x.dtype == torch.float32:
            return self.compiled(x)
        held = len(self.atoms) * math.prod(self.grid)
        with torch.autocast(x.device.type, enabled=False):
            return torch.cat([self.define(some) for some in x.split(max(1, _HELD // held))])

    def define(self, x: Tensor) -> Tensor:
        """The definition in plain operations: any device and type, traceable; holds (B, A, positions)."""
        filters = self.filters.view(-1, self.planes, self.patch, self.patch)
        z = F.conv2d(x, filters, stride=self.stride)
        norm = (z * z).sum(1, keepdim=True)
        z = z * norm.clamp_min(FLAT).rsqrt() * (norm > FLAT)
        cosines = F.conv2d(z, self.atoms[:, :, None, None])
        best = cosines.amax(1, keepdim=True)
        reached = torch.minimum(
            self.threshold, best
        )  # the best atom where none reaches the threshold; none in a flat patch
        code = ((cosines >= reached) & (best > 0)).to(x.dtype)
        e = F.conv2d(code, self.embedding.to(x.dtype).T[:, :, None, None])
        e = e * (e * e).sum(1, keepdim=True).clamp_min(1).rsqrt()
        cells = (e.flatten(2) @ self.pool).transpose(1, 2)
        norm = (cells * cells).sum(2, keepdim=True)
        return cells * norm.clamp_min(1e-16).rsqrt() * (norm > 1e-16)

    def compiled(self, x: Tensor) -> Tensor:
        """The same by the compiled kernel, on all of torch's threads: processors and float32 only."""
        from . import patch_kernel

        cell = self.pool.argmax(1).numpy()
        images = x.detach().contiguous().numpy()
        return torch.from_numpy(patch_kernel.embed(images, self.bank(), self.embedding.numpy(), cell, self.cells**2))

    def bank(self, stride: int | None = None):
        """The kernel's arrays, with another stride if asked."""
        import numpy as np

        from .patch_kernel import Bank

        filters, atoms = (t.detach().T.contiguous().numpy() for t in (self.filters, self.atoms))
        return Bank(filters, atoms, np.float32(self.threshold.item()), self.patch, stride or self.stride)


def _traced() -> bool:
    return torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing()


class PatchCode(Encoder):
    """Pixels -> (B, dim) unit rows: the cells of every scale side by side, their principal axes, and for small sets a place among
    landmarks.

    Untrained (as built here, before anything is fitted) its filters are random and zero-mean, its atoms random directions, its
    embedding, axes and coordinates random, its threshold the one that random directions would pass in 3 % of cases: the same network
    in all but what the data taught it.  With landmarks that is a random map to a few numbers, which keeps little: the raw input is
    then the stricter control.

    On a processor in float32 a compiled kernel works it out (one image in about 2 ms a core at the sizes of the quick preset at 32
    pixels); elsewhere, in other types and while being exported it is plain convolutions, thresholds and matrix products.  The
    two agree but for codes that flip at the threshold by rounding: a few images in a hundred differ by up to about 1e-3.  The kernel
    works on each image by itself: threads and batches change nothing but the last bits of the final products.
    A code is a threshold: no gradient passes to the pixels, and there is no parameter to train.
    """

    kind: ClassVar[str] = "patch-code"
    modality: ClassVar[str] = "image"

    size: tuple[int, int] = (32, 32)
    """Height and width of the images in pixels."""
    channels: int = 3
    """Channels of the images."""
    shrink: tuple[int, ...] = (1, 1)
    """Each scale sees the image averaged over squares of this side."""
    pad: tuple[int, ...] = (0, 0)
    """Zero border of each scale, in its own pixels."""
    patch: tuple[int, ...] = (6, 9)
    """Side of each scale's patches."""
    stride: tuple[int, ...] = (2, 2)
    """Step between patches."""
    grey: tuple[bool, ...] = (False, True)
    """Whether a scale sees the mean of the channels."""
    filters: tuple[int, ...] = (56, 72)
    """Whitening filters of each scale."""
    atoms: tuple[int, ...] = (2048, 2048)
    """Size of each dictionary: multiples of 32."""
    width: tuple[int, ...] = (256, 256)
    """Numbers that a patch is embedded in."""
    cells: tuple[int, ...] = (4, 4)
    """Cells a side over which embeddings are averaged."""
    outputs: int = 512
    """Principal axes kept of all cells; 0 leaves the cells as they are."""
    landmarks: int = 0
    """Rows kept to place new ones among; 0 for none."""
    coordinates: int = 16
    """Coordinates of a landmark, and so of a row placed among them."""
    sharpness: float = 30.0
    """How fast a landmark's weight falls with its cosine: exp(sharpness x cosine)."""

    def __post_init__(self):
        settings = {name: getattr(self, name) for name in SCALE}
        counts = (*self.size, self.channels, self.coordinates, *(n for name in SCALE[:-2] for n in settings[name]))
        if len({len(s) for s in settings.values()}) != 1 or not self.patch:
            raise ValueError(f"{', '.join(SCALE)} need one value a scale, and as many each")
        if min(counts) < 1 or min(*self.pad, self.outputs, self.landmarks) < 0 or any(a % 32 for a in self.atoms):
            raise ValueError(f"sizes must be positive and atoms {self.atoms} multiples of 32")
        self.scales = nn.ModuleList(
            Scale(self.size, self.channels, **dict(zip(SCALE, values))) for values in zip(*settings.values())
        )
        wide = self.wide
        if self.outputs > wide:
            raise ValueError(f"{self.outputs} principal axes of {wide} dimensions do not exist")
        if self.outputs:
            self.register_buffer("mean", torch.zeros(wide))
            self.register_buffer("axes", torch.randn(wide, self.outputs) / math.sqrt(wide))
        if self.landmarks:
            self.register_buffer("places", F.normalize(torch.randn(self.landmarks, self.outputs or wide), dim=1))
            self.register_buffer("charts", torch.randn(self.landmarks, self.coordinates))

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"stages"})

    @property
    def wide(self) -> int:
        """Width of all cells side by side."""
        return sum(c * c * w for c, w in zip(self.cells, self.width))

    @property
    def dim(self) -> int:
        return self.coordinates if self.landmarks else self.outputs or self.wide

    def forward(self, view: View) -> Tensor:
        return self.finish(self.cells_of(view["pixels"]))

    def features(self, view: View) -> list[Tokens]:
        """The cells of each scale, in the order of the scales."""
        grids = [scale(self._checked(view["pixels"])) for scale in self.scales]
        return [Tokens(values, grid=(c, c)) for values, c in zip(grids, self.cells)]

    def on_canvas(self, size: tuple[int, int]) -> tuple[Encoder, tuple[int, int]]:
        """A sibling for pictures of this size with the same dictionaries, its embeddings averaged over finer cells (about FINE pixels a
        side) and without the last projection, which is bound to the coarse ones."""
        count = max(4, min(size) // FINE)
        reach = [
            min((s // k + 2 * p - q) // t + 1 for s in size)
            for k, p, q, t in zip(self.shrink, self.pad, self.patch, self.stride)
        ]
        cells = tuple(min(count, r) for r in reach)
        fine = self.sibling(size=size, cells=cells, outputs=0, landmarks=0)
        for own, given in zip(fine.scales, self.scales):  # type: ignore[arg-type]
            for name in ("filters", "atoms", "embedding", "threshold"):
                getattr(own, name).copy_(getattr(given, name))
        return fine.train(self.training), size

    def cells_of(self, pixels: Tensor) -> Tensor:
        """(B, wide): all unit cells side by side, scales weighing the same, a whole of norm 1."""
        found = [scale(self._checked(pixels)).flatten(1) / c for scale, c in zip(self.scales, self.cells)]
        return torch.cat(found, 1) / math.sqrt(len(found))

    def finish(self, cells: Tensor) -> Tensor:
        """(B, dim) from (B, wide): principal axes, then the place among landmarks, where there are such."""
        x = cells
        if self.outputs:
            x = F.normalize((x - self.mean) @ self.axes, dim=1)  # type: ignore[operator]
        if self.landmarks:
            x = torch.softmax(self.sharpness * (x @ self.places.T), 1) @ self.charts  # type: ignore[operator]
        return x

    def _checked(self, pixels: Tensor) -> Tensor:
        if tuple(pixels.shape[1:]) != (self.channels, *self.size):
            raise ValueError(
                f"pixels of shape {tuple(pixels.shape[1:])} for an encoder of {(self.channels, *self.size)}"
            )
        return pixels
