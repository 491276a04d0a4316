"""Frame labels: which label holds at every moment of a clip: speech or silence, sound events, phones.

selftaught finetune RUN CLIPS --task frames --labels segments.csv

When it works: an encoder whose tokens are as fine as the labels need; a few dozen annotated clips with hundreds of stretches.
When it fails: events shorter than a token (how long one is, is said); borders that the annotators themselves put anywhere.
What to watch: event F1 beside frame F1: a label that flickers has nearly all frames right and hardly an event; the blind baseline, the usual label everywhere.

Head: one linear layer over every token.  Where the stretches never overlap, one label or none holds at a time (softmax), else each label for itself (sigmoid, 0.5).
Measure: F1 over the frames of all labels, which decides; the share of frames that are right; F1 of events that begin within 0.2 s of a true one of that label and
end within 0.2 s or half its length.
Data: columns start, end, label, in seconds: as lists in the table that holds the sounds; or a line a stretch, with a column that names the file, in a table beside the sounds
(segments.csv; --labels names another); or Audacity's labels, NAME.txt beside NAME.wav.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from .. import losses
from ..core.errors import DataError
from ..core.task import Task
from ..measures.frames import COLLAR, FrameCounts, Segments, covered, one_each, runs
from ..nets.ctc import Emitted, FrameHead

OVERLAP = 0.02
"""Share of the labelled time in which several labels hold, from which on they are learned each for itself."""


@dataclass(frozen=True)
class Found:
    """A clip's answer: (T, K) bool of frames and labels, its events, and how sure each is (the mean probability of its frames)."""

    on: np.ndarray
    events: Segments
    confidence: np.ndarray


class Frames(Task):
    """A label for every stretch of time: a linear layer over the encoder's tokens; F1 of frames and of events.

    Split rule: clips at random, groups and copies together.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "frames"
    aliases: ClassVar = ("events", "vad", "segments", "sound-events")
    labels: tuple[str, ...] = ()
    """The labels, in the order of their codes."""
    one: bool = True
    """Whether at most one label holds at a time."""
    stride: float = 0.04
    """Seconds of a frame."""
    metric: str = "frame F1"
    """What decides."""

    @property
    def outputs(self) -> int:
        return len(self.labels) + self.one

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, for which figures are given."""
        return self.labels

    def head(self, dim: int) -> nn.Module:
        """A FrameHead: tokens (B, T, dim) and their count -> Emitted."""
        return FrameHead(width=dim, outputs=self.outputs)

    def on(self, segments: Segments, count: int) -> np.ndarray:
        """(count, K) bool: the labels of each frame."""
        share = covered(segments, count, self.stride, len(self.labels))
        return self.spread(one_each(share)) if self.one else share >= 0.5

    def spread(self, codes: np.ndarray) -> np.ndarray:
        """(T, K) bool of (T,) codes, 0 for no label."""
        return codes[:, None] == np.arange(1, len(self.labels) + 1)

    def targets(self, segments: Sequence[Segments], frames: Tensor) -> Tensor:
        """(B, T, K) float32 of 0 and 1, NaN behind the end of a row."""
        out = torch.full((len(segments), int(frames.max()) if len(frames) else 0, len(self.labels)), torch.nan)
        for row, (held, count) in enumerate(zip(segments, frames.tolist())):
            out[row, :count] = torch.from_numpy(self.on(held, count).astype(np.float32))
        return out

    def loss(self, outputs: Emitted, targets: Tensor) -> Tensor:  # type: ignore[override]
        """Cross-entropy of each frame (one label at a time), or the mean over labels of their own; the mean over the frames of all clips."""
        known = ~targets[..., 0].isnan()
        logits, wanted = outputs.logits[:, : targets.shape[1]][known].float(), targets[known]
        if not self.one:
            return losses.mean(F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1))
        code = torch.where(wanted.any(1), wanted.argmax(1) + 1, 0)
        return losses.mean(F.cross_entropy(logits, code, reduction="none"))

    def predict(self, outputs: Emitted) -> list[Found]:  # type: ignore[override]
        """Frames and events of each clip."""
        logits = outputs.logits.detach().double()
        chance = (logits.softmax(-1)[..., 1:] if self.one else logits.sigmoid()).cpu().numpy()
        best = logits.argmax(-1).cpu().numpy()
        found = []
        for row, count in enumerate(outputs.frames.tolist()):
            on = self.spread(best[row, :count]) if self.one else chance[row, :count] >= 0.5
            events = runs(on, self.stride)
            ends = np.rint(events.times / self.stride).astype(int)
            sure = [chance[row, a:b, k].mean() for (a, b), k in zip(ends, events.codes)]
            found.append(Found(on, events, np.array(sure)))
        return found

    def tally(self, guesses: Sequence[Any], targets: Sequence[Any]) -> FrameCounts:
        """Frames and events of `guesses` (Found) against the true stretches (Segments) of each clip."""
        truths = [self.on(t, len(g.on)) for g, t in zip(guesses, targets, strict=True)]
        return FrameCounts.of([g.on for g in guesses], truths, [g.events for g in guesses], targets, len(self.labels), COLLAR)  # fmt: skip

    def usual(self, segments: Sequence[Segments], frames: Sequence[int]) -> np.ndarray:
        """(K,) bool: what one says of every frame who has learned nothing but how common each label is; of labels that all are rare, the most common."""
        held = np.concatenate([self.on(s, n) for s, n in zip(segments, frames)])
        share = held.mean(0) if len(held) else np.zeros(len(self.labels))
        if not self.one:
            return share >= 0.5 if (share >= 0.5).any() else share == share.max()
        return np.arange(len(share)) == share.argmax()

    def everywhere(self, usual: np.ndarray, count: int) -> Found:
        """The answer that `usual` is to a clip of `count` frames."""
        on = np.tile(usual, (count, 1))
        events = runs(on, self.stride)
        return Found(on, events, np.ones(len(events)))

    def rank(self, tally: FrameCounts, loss: float) -> tuple[float, float]:
        """By which an epoch is chosen on validation clips."""
        return float(tally.value()[0]), -loss


def fit(labels: Sequence[str], segments: Sequence[Segments], *, stride: float) -> Frames:
    """The task of (training) stretches: one label at a time unless they overlap for more than 2 % of the labelled time."""
    if not labels:
        raise DataError("There are no labelled stretches to learn from.", "Check --labels.")
    union = several = 0.0
    for held in segments:
        marks = sorted([(t, 1) for t in held.times[:, 0]] + [(t, -1) for t in held.times[:, 1]])
        depth, last = 0, 0.0
        for time, step in marks:
            union += (time - last) * (depth > 0)
            several += (time - last) * (depth > 1)
            depth, last = depth + step, time
    return Frames(labels=tuple(labels), one=bool(several <= OVERLAP * union), stride=stride)  # type: ignore[call-arg]
