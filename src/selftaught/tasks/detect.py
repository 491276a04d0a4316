"""Object detection: where in a picture things of K classes are.

When it works: tens of pictures with hundreds of boxes, things larger than about eight pixels of the canvas.
When it fails: things smaller than a cell of the encoder's finest grid (say --size, or take an encoder that keeps finer grids); things of one class whose
boxes have the same centre and size (one of them is found).
What to watch: AP50 against mAP: things are found but their boxes are loose.

Head: FCOS (Tian et al. 2019) over a feature pyramid of the encoder's stages: focal loss, GIoU, centre-ness; greedy non-maximum suppression within a class.
Measure: COCO's mAP (mean over overlaps 0.50 to 0.95 and classes), AP50, AP75, AP by class; crowds count neither way.
Data: a folder with annotations.json (COCO) beside the pictures, or a table with a column of pictures and one of boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Ragged, Tokens
from ..core.task import Task
from ..losses.detection import assign, centreness, focal, giou
from ..measures.detection import MOST, Matched, Objects, match, suppress
from ..nets.dense import LEVELS, Answers, Detector, shape_of

CANDIDATES = 1000
"""Points and classes of a picture that are looked at: the surest."""
LEAST = 0.02
"""Scores below are not given out."""


class Detect(Task):
    """Boxes with a class and a score: an anchor-free detector over the encoder's stages; mAP as COCO computes it.

    Split rule: pictures at random, groups and copies together.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "boxes"
    aliases: ClassVar = ("detection", "object-detection")
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of their codes."""
    ids: tuple[int, ...] = ()
    """The classes' numbers in the COCO file that was learned from; empty: 1, 2, ..."""
    width: int = 64
    """Channels of the pyramid and of both towers."""
    overlap: float = 0.6
    """Of two boxes of a class that overlap by more, the less sure one goes."""
    metric: str = "mAP"
    """What decides."""

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def head(self, stages: Sequence[Tokens], size: tuple[int, int]) -> nn.Module:
        """A Detector over stages like these, of canvases of `size` (height, width)."""
        return Detector(classes=self.outputs, size=size, width=self.width, **shape_of(stages, size, LEVELS))

    def loss(self, outputs: Answers, objects: Ragged) -> Tensor:
        """Focal loss of the classes, 1 - GIoU of the boxes weighted by their centre-ness, and cross-entropy of the centre-ness; each over the
        points that answer for a box (at least one).  `objects`: the view's part."""
        which, boxes, classes = _wanted(outputs, objects)
        hit = which >= 0
        count = hit.sum().clamp_min(1)
        wanted = torch.zeros_like(outputs.logits)
        rows, points = hit.nonzero(as_tuple=True)
        wanted[rows, points, classes[which[hit]]] = 1
        total = focal(outputs.logits, wanted) / count
        if not len(rows):
            return total + 0 * (outputs.distances.sum() + outputs.centre.sum())
        at, true = outputs.points[points], boxes[which[hit]]
        middle = centreness(torch.cat([at - true[:, :2], true[:, 2:] - at], 1))
        said = _boxes(at, outputs.distances[rows, points])
        placed = (middle * (1 - giou(said, true))).sum() / middle.sum().clamp_min(1e-6)
        centred = F.binary_cross_entropy_with_logits(outputs.centre[rows, points], middle, reduction="sum") / count
        return total + placed + centred

    def predict(self, outputs: Answers, sizes: np.ndarray, inner: np.ndarray) -> list[Objects]:
        """The surest objects of each picture, at most 100, in its own pixels.

        sizes (B, 2): width and height of the pictures; inner (B, 2): what they take of the canvas."""
        chance = (
            torch.sqrt(torch.sigmoid(outputs.logits.detach()) * torch.sigmoid(outputs.centre.detach())[..., None])
            .cpu()
            .numpy()
        )
        boxes = _boxes(outputs.points, outputs.distances).detach().cpu().numpy().astype(np.float64)
        return [self._one(*row) for row in zip(chance, boxes, sizes, inner)]

    def _one(self, chance: np.ndarray, boxes: np.ndarray, size: np.ndarray, inner: np.ndarray) -> Objects:
        point, kind = np.nonzero(chance >= LEAST)
        scores = chance[point, kind]
        order = np.argsort(-scores, kind="stable")[:CANDIDATES]
        scale = np.tile(size / inner, 2)
        found = Objects.of(np.clip(boxes[point[order]] * scale, 0, np.tile(size, 2)), kind[order], scores[order])
        found = found.take(np.flatnonzero((found.boxes[:, 2:] > found.boxes[:, :2]).all(1)))
        kept = []
        for k in np.unique(found.classes):
            own = np.flatnonzero(found.classes == k)
            kept.append(own[suppress(found.boxes[own], found.scores[own], self.overlap)])
        if not kept:
            return Objects()
        places = np.concatenate(kept)
        return found.take(places[np.argsort(-found.scores[places], kind="stable")[:MOST]])

    def tally(self, guesses: Sequence[Any], targets: Sequence[Any]) -> Matched:
        """What was found against what is there."""
        return match(guesses, targets, self.outputs)


def _boxes(points: Tensor, distances: Tensor) -> Tensor:
    """(..., 4) left, top, right, bottom of points (..., 2) and distances (..., 4)."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)


def _wanted(outputs: Answers, objects: Ragged) -> tuple[Tensor, Tensor, Tensor]:
    """(B, A) places in the boxes of all rows that points answer for (-1: none), those boxes (n, 4), their classes (n,)."""
    boxes, classes = objects.values[:, :4], objects.values[:, 4].long()
    rows = []
    for start, end in zip(objects.offsets[:-1].tolist(), objects.offsets[1:].tolist()):
        own = assign(outputs.points, outputs.strides, boxes[start:end])
        rows.append(torch.where(own >= 0, own + start, own))
    return torch.stack(rows), boxes, classes
