"""ResNet-18, 34, 50, 101 and 152 with torchvision's parameter names (He et al. 2016, arXiv:1512.03385; v1.5 bottlenecks)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Encoder, Tokens, View
from .norm import BatchNorm2d
from .pixels import Normalise, tokens_of

SMALL_IMAGE = 64
"""Up to this side the stem keeps the resolution: at 32 pixels torchvision's stem would leave a 1 x 1 map."""


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Basic(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride, as in v1.5), 1 x 1 to four times the width, beside a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = _conv(inputs, width, 1), BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), BatchNorm2d(outputs))


_DEPTHS: dict[int, tuple[type[Basic] | type[Bottleneck], tuple[int, ...]]] = {
    18: (Basic, (2, 2, 2, 2)),
    34: (Basic, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(Encoder):
    """Pixels -> (B, 512) or, from depth 50 on, (B, 2048): the global mean of the last stage.

    The state dict is torchvision's without `fc` (conv1, bn1, layer1.0.conv1, ...).  Cost of a forward at 32 pixels with the
    small stem: 0.56 GMAC (18), 1.16 (34), 1.30 (50); at 224 with the large one 1.8, 3.7 and 4.1.
    """

    kind: ClassVar[str] = "resnet"
    modality: ClassVar[str] = "image"

    depth: Literal[18, 34, 50, 101, 152] = 18
    """Number of layers."""
    image_size: int = 224
    """Side of the images in pixels: chooses the stem."""
    stem: Literal["auto", "small", "large"] = "auto"
    """"large": 7 x 7 with stride 2 and max-pooling; "small": 3 x 3 and none; "auto": small up to 64 pixels."""
    channels: int = 3
    """Channels of the images."""
    width: int = 64
    """Channels of the first stage; the others double it."""
    zero_init: bool = False
    """Starts each block's last scale at zero, so that blocks begin as their shortcut."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Mean of the pixels in 0-1: one number, or one for each channel."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Standard deviation of the pixels in 0-1."""

    def __post_init__(self):
        if self.depth not in _DEPTHS or min(self.channels, self.width, self.image_size) < 1:
            raise ValueError(
                f"depth {self.depth}, channels {self.channels}, width {self.width}: not a ResNet that exists"
            )
        block, counts = _DEPTHS[self.depth]
        self.normalise = Normalise(self.mean, self.std, self.channels)
        self.conv1 = _conv(self.channels, self.width, *((3, 1) if self.small_stem else (7, 2)))
        self.bn1 = BatchNorm2d(self.width)
        inputs = self.width
        for i, count in enumerate(counts):
            blocks = []
            for j in range(count):
                blocks.append(block(inputs, self.width * 2**i, 2 if i > 0 and j == 0 else 1))
                inputs = self.width * 2**i * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self._dim = inputs
        self._initialise()

    def _initialise(self) -> None:
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif self.zero_init and isinstance(m, Basic | Bottleneck):
                nn.init.zeros_((m.bn2 if isinstance(m, Basic) else m.bn3).weight)

    @property
    def small_stem(self) -> bool:
        """Whether the stem keeps the resolution."""
        return self.stem == "small" or (self.stem == "auto" and self.image_size <= SMALL_IMAGE)

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"stages"})

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def stages(self) -> list[nn.Module]:
        return [getattr(self, f"layer{i}") for i in (1, 2, 3, 4)]

    def _stem(self, view: View) -> Tensor:
        x = self.normalise(view["pixels"], self.conv1.weight.dtype)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return x if self.small_stem else F.max_pool2d(x, 3, 2, 1)

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
        stem = [*self.conv1.parameters(), *self.bn1.parameters()]
        return [stem, *(list(block.parameters()) for stage in self.stages for block in stage)]  # type: ignore[attr-defined]
