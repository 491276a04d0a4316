"""A small residual network for two CPU cores, whose first filters can be worked out from a sample of the data."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Encoder, Tokens, View, random
from .norm import BatchNorm2d
from .pixels import Normalise, tokens_of

WHITENING = 5e-4
"""Added to the variances, as a share of the largest, before the whitening divides by their roots."""


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut that pools, then widens by a 1 x 1 convolution."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
        self.widen = nn.Conv2d(inputs, width, 1, bias=False) if inputs != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.widen(self.pool(x)), inplace=True)


class SmallResNet(Encoder):
    """Pixels -> (B, widths[-1]): a strided stem, residual stages that halve the resolution, the global mean.

    Made for few steps on a chip without matrix units: the stem and every stage halve the resolution, so that most of the
    arithmetic lies in wide layers on small maps.  Forward and backward of the default (1.2 M parameters) on one 2.5 GHz core
    without AMX: about 2,000 images of 16 pixels a second, 1,100 of 24, 800 of 32; strides (2, 2, 1) cost 1.4 to 1.8 times that.
    """

    kind: ClassVar[str] = "resnet-small"
    modality: ClassVar[str] = "image"

    widths: tuple[int, ...] = (64, 128, 256)
    """Channels of each stage."""
    blocks: tuple[int, ...] = (1, 1, 1)
    """Residual blocks in each stage."""
    strides: tuple[int, ...] = (2, 2, 2)
    """Stride of each stage's first block; the last may be 1 for more detail at more cost."""
    stem: int = 32
    """Channels of the stem."""
    patch: int = 4
    """Side of the stem's convolution in pixels."""
    stride: int = 2
    """Stride of the stem's convolution: 2 for images of about 32 pixels, 4 from about 64."""
    channels: int = 3
    """Channels of the images."""
    residual: float = 0.5
    """Where each block's last scale starts: below 1, blocks begin nearer to their shortcut."""
    start: Literal["principal", "atoms", "random"] = "principal"
    """Where the stem's filters start, in closed form from a sample of the data: principal directions of its patches, whitened; whitened patches, as the
    sparse manifold transform's dictionary holds them; or at random."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Mean of the pixels in 0-1: one number, or one for each channel."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Standard deviation of the pixels in 0-1."""

    def __post_init__(self):
        sizes = (*self.widths, *self.blocks, *self.strides, self.stem, self.stride, self.channels)
        if not len(self.widths) == len(self.blocks) == len(self.strides) or not self.widths or min(sizes) < 1:
            raise ValueError(
                f"widths {self.widths}, blocks {self.blocks}, strides {self.strides} must be as many and positive"
            )
        if self.patch < self.stride:
            raise ValueError(f"the stem's patch {self.patch} must be at least its stride {self.stride}")
        self.normalise = Normalise(self.mean, self.std, self.channels)
        margin = (self.patch - self.stride + 1) // 2
        self.conv = nn.Conv2d(self.channels, self.stem, self.patch, self.stride, margin, bias=False)
        self.bn = BatchNorm2d(self.stem)
        self.stages = nn.ModuleList()
        inputs = self.stem
        for width, count, stride in zip(self.widths, self.blocks, self.strides):
            stage = nn.Sequential()
            for j in range(count):
                stage.append(Block(inputs, width, stride if j == 0 else 1))
                inputs = width
            self.stages.append(stage)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, Block):
                nn.init.constant_(m.bn2.weight, self.residual)

    @torch.no_grad()
    def start_from(self, view: View) -> None:
        """Sets the stem's filters by the sample's patches, as the option `start` says.

        principal: the leading principal directions, each whitened, and their negatives; directions beyond the patch's own dimension
        keep their random filters (Jordan 2024, arXiv:2404.00498, section 3.2).  atoms: patches drawn from the sample, whitened, at unit length, and the filter that
        answers with the cosine's numerator to a whitened patch (Coates & Ng 2012, "Learning Feature Representations with K-means", section 2).
        A few thousand images are enough.  To be called before the first step, on the raw view; costs one pass over the sample's patches and an
        eigendecomposition of channels x patch^2.
        """
        if self.start == "random":
            return
        pixels = self.normalise(view["pixels"])
        patches = F.unfold(pixels, self.patch, stride=self.patch).transpose(1, 2).flatten(0, 1).double()
        patches = patches - patches.mean(0)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        white = (vectors / torch.sqrt(values + WHITENING * values[-1])).T.flip(0)
        if self.start == "atoms":
            drawn = random.permutation(random.key("atoms of a stem"), len(patches))[: self.stem]
            filters = F.normalize(patches[drawn] @ white.T, dim=1) @ white
        else:
            count = min(self.stem // 2, len(white))
            filters = torch.cat([white[:count], -white[:count]])
        filters = filters.view(-1, self.channels, self.patch, self.patch)
        self.conv.weight[: len(filters)] = filters.to(self.conv.weight.dtype)

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"stages"})

    @property
    def dim(self) -> int:
        return self.widths[-1]

    def _stem(self, view: View) -> Tensor:
        return F.relu(self.bn(self.conv(self.normalise(view["pixels"], self.conv.weight.dtype))), inplace=True)

    def forward(self, view: View) -> Tensor:
        x = self._stem(view)
        for stage in self.stages:
            x = stage(x)
        return x.mean((2, 3))

    def features(self, view: View) -> list[Tokens]:
        x, out = self._stem(view), []
        for stage in self.stages:
            x = stage(x)
            out.append(tokens_of(x))
        return out

    def layers(self) -> list[list[nn.Parameter]]:
        stem = [*self.conv.parameters(), *self.bn.parameters()]
        return [stem, *(list(block.parameters()) for stage in self.stages for block in stage)]  # type: ignore[attr-defined]
