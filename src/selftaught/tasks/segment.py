"""Semantic segmentation: which of K classes each pixel of a picture belongs to.

When it works: tens of pictures with whole masks; classes that cover regions.
When it fails: things thinner than a cell of the encoder's finest grid (poles, cables: say --size, or take an encoder that keeps finer grids); rare classes, which
the loss hardly sees.
What to watch: the IoU of each class beside mIoU, in which a class of few pixels weighs as much as the sky.

Head: the semantic branch of panoptic feature pyramids (Kirillov et al. 2019) over the encoder's stages; cross-entropy, ignored pixels left out.
Measure: mIoU over all pixels of the test pictures in their own size, pixel accuracy, IoU by class.
Data: a folder with images/ and masks/ (PNG of the same name, palette or grey values; classes.txt names them), or a table with a column of masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Tokens
from ..core.task import Task
from ..measures.segmentation import IGNORED, Overlaps, confusion
from ..nets.dense import Segmenter, shape_of


class Segment(Task):
    """A class for every pixel: a pyramid over the encoder's stages; mIoU.

    Split rule: pictures at random, groups and copies together.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "mask"
    aliases: ClassVar = ("segmentation", "semantic-segmentation")
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of their codes."""
    values: tuple[int, ...] = ()
    """What pixels of each class hold in the masks."""
    ignored: tuple[int, ...] = (IGNORED,)
    """Values of pixels that count neither way."""
    width: int = 64
    """Channels of the pyramid."""
    metric: str = "mIoU"
    """What decides."""

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def head(self, stages: Sequence[Tokens], size: tuple[int, int]) -> nn.Module:
        """A Segmenter over stages like these, of canvases of `size` (height, width)."""
        return Segmenter(classes=self.outputs, size=size, width=self.width, **shape_of(stages, size, 0))

    def loss(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """Cross-entropy, the mean over the pixels (B, H, W) that are not IGNORED."""
        known = (mask != IGNORED).sum().clamp_min(1)
        return F.cross_entropy(outputs.float(), mask.long(), ignore_index=IGNORED, reduction="sum") / known

    def predict(self, outputs: Tensor, sizes: np.ndarray, inner: np.ndarray) -> list[np.ndarray]:
        """(h, w) uint8 codes of each picture in its own size.  sizes, inner (B, 2): width and height of the pictures, and what they take of the canvas."""
        out = []
        for logits, (width, height), (wide, high) in zip(outputs, sizes.tolist(), inner.tolist()):
            own = logits[None, :, :high, :wide]
            if (high, wide) != (height, width):
                own = F.interpolate(own, size=(height, width), mode="bilinear", align_corners=False)
            out.append(own[0].argmax(0).to(torch.uint8).cpu().numpy())
        return out

    def tally(self, guesses: Sequence[Any], targets: Sequence[Any]) -> Overlaps:
        """Pixels of every class, picture by picture."""
        return Overlaps.of([confusion(g, t, self.outputs) for g, t in zip(guesses, targets, strict=True)])
