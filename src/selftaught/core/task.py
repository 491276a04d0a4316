"""Task: what a representation is to be good for.  One file under tasks/ holds one downstream task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch.nn as nn
from torch import Tensor

from . import module


class Tally(Protocol):
    """What a task on parts of rows counted in N of them: its figures are no ratio of sums, so they are worked out anew where rows are resampled."""

    def __len__(self) -> int: ...

    def value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) the figure that decides, for `weights` (R, N): how often each row counts (default: once, R = 1)."""
        ...

    def figures(self, classes: Sequence[str]) -> dict[str, float]:
        """Every figure, the one that decides first."""
        ...


class Task:
    """Head, loss, metric and split rule of a downstream task.  Subclasses are dataclasses of plain data, like methods.

    `version` moves when the same data would give other figures.  Targets are numpy arrays: int64 classes 0..K-1, float64
    numbers, or (N, K) of 0 and 1 where a row may have several classes; a row without a label never reaches a task.  Outputs are what
    the head gives: (N, outputs).

    A dense task (`wants` "boxes" or "mask") answers for parts of a picture: `head` takes the stages of `Encoder.features` and the canvas, `loss` a view
    whose parts "objects" or "mask" are the targets, `predict` gives one answer a picture in its own pixels, and `tally` stands in the place of `items` and `metrics`.

    A task on parts of texts (`wants` "tags" or "answers") reads the vectors of a text's pieces: `head` takes the encoder's width and gives a module over `nets.spans.Read`,
    `loss` what that says of all rows' pieces, `predict` the same with the rows' offsets, and gives one answer a row; `tally` as above.

    A task on the tokens of sounds (`wants` "transcript" or "frames") gives in `head` a module over tokens (B, T, dim) and their count, whose output is a `nets.ctc.Emitted`; `loss`, `predict`
    and `tally` as above, and `rank(tally, loss)` orders epochs on validation clips.

    A task of written texts (`wants` "text") has a `tally` of texts, and gives in `blind` what one writes who has learned nothing (`blind_name` says how).
    """

    version: ClassVar[int] = 1
    wants: ClassVar[
        Literal[
            "class",
            "set",
            "number",
            "nothing",
            "boxes",
            "mask",
            "tags",
            "answers",
            "text",
            "pair",
            "transcript",
            "frames",
            "speakers",
        ]
    ] = "class"
    """What kind of label it learns from."""
    lower: ClassVar[bool] = False
    """Whether a lower figure is the better one (error rates)."""
    aliases: ClassVar[tuple[str, ...]] = ()
    metric: Any
    """Name of the figure that decides: higher is better, unless `lower` says otherwise."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        module.adopt(cls)

    @property
    def outputs(self) -> int:
        """Width of the head's output."""
        raise NotImplementedError

    def head(self, dim: int) -> nn.Module:
        """(B, dim) -> (B, outputs)."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch, in fp32."""
        raise NotImplementedError

    def encode(self, targets: np.ndarray) -> np.ndarray:
        """What a least-squares or softmax read-out is fitted to: the targets, or a standardised copy."""
        return targets

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """(N, ...) predicted targets of the head's outputs; of sets, the classes' probabilities."""
        raise NotImplementedError

    def items(self, guesses: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(numerator (N,), denominator (N,)) of which `metric` is the ratio of sums: what a paired bootstrap resamples.

        `guesses` are predicted targets.  The denominator depends on the targets alone, so that two models share it.
        """
        raise NotImplementedError

    def metrics(self, guesses: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Every figure of this task, `metric` first."""
        raise NotImplementedError

    def tally(self, guesses: Sequence[Any], targets: Sequence[Any]) -> Tally:
        """What a dense task counts in pictures: one guess and one target each, both in the picture's own pixels."""
        raise NotImplementedError

    def blind(self, sources: Sequence[str]) -> list[str]:
        """A task of written texts: an answer to each source that takes no learning (the source itself, its first sentence)."""
        raise NotImplementedError

    def draws(self, labels: Any, within: np.ndarray, budget: int, count: int, seed: int) -> list[np.ndarray]:
        """`count` few-label draws of `budget` labels out of the places `within` of `labels` (data.Labels), in ascending order.

        The split rule for few labels: a pure function of its arguments, equally long draws, each inside that of a larger budget.
        """
        raise NotImplementedError
