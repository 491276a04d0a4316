"""Read-only observers of the loop: what is written down and what rings an alarm.  None of them can change a run."""

import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from .. import measures
from .run import Run

ONE_POINT = -0.01
"""Uniformity above this is collapse: rows less than 0.07 apart on the unit sphere."""


@dataclass(frozen=True)
class Moment:
    """What observers see after a step."""

    step: int
    """Steps done."""
    horizon: int
    loss: float
    scalars: dict[str, float]
    """The method's other scalars."""
    features: Tensor | None
    """(B, D) fp32 representations of this batch, on some moments only (`due`)."""
    rate: float
    seconds: float
    """Since the run began, earlier sittings included."""
    examples_per_second: float
    data_wait: float
    """Share of the last moments that was spent waiting for data, 0-1."""
    skipped: int = 0
    effective_rank: float | None = None
    """Of centred features, when it was last measured."""

    @property
    def progress(self) -> float:
        return self.step / max(1, self.horizon)

    @property
    def time_left(self) -> float:
        """Seconds, at the mean speed so far."""
        return self.seconds / max(1, self.step) * (self.horizon - self.step)


class Observer(Protocol):
    """Called after a step that is written down."""

    def __call__(self, moment: Moment) -> str | None:
        """May return an alarm in plain words."""


@dataclass
class Metrics:
    """Appends a line to metrics.jsonl and hands the same numbers to an opt-in tracker."""

    run: Run
    track: Callable[[dict, int], None] | None = None

    def __call__(self, moment: Moment) -> None:
        row: dict[str, Any] = {
            "step": moment.step, "loss": moment.loss, **moment.scalars, "lr": moment.rate,
            "examples_per_second": round(moment.examples_per_second, 2), "data_wait": round(moment.data_wait, 4),
            "seconds": round(moment.seconds, 3), "skipped": moment.skipped,
        }  # fmt: skip
        if moment.features is not None:
            row["effective_rank"] = moment.effective_rank
        with open(self.run.metrics_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self.track:
            self.track({k: v for k, v in row.items() if k != "step"}, moment.step)


@dataclass
class Collapse:
    """Rings when the representations of different rows become one: dead dimensions, effective rank, mean cosine, uniformity.

    The rank is of centred features: a constant offset is not collapse and noise is not health (docs: is it collapsing).
    """

    patience: int = 3
    streak: int = 0

    def __call__(self, moment: Moment) -> str | None:
        if moment.features is None or moment.progress < 0.02:
            return None
        rank = moment.effective_rank
        if rank is None:
            rank = measures.effective_rank(moment.features, centred=True)
        dead = measures.dead_dimensions(moment.features)
        cosine = measures.mean_cosine(moment.features)
        even = moment.scalars.get("uniformity", -math.inf)
        found = dead > 0.9 or rank < 1.5 or cosine > 0.999 or even > ONE_POINT
        self.streak = self.streak + 1 if found else 0
        if self.streak != self.patience:
            return None
        return (
            f"collapse: different rows get nearly the same representation (effective rank {rank:.1f} of "
            f"{moment.features.shape[1]}, {dead:.0%} of the dimensions dead, mean cosine {cosine:.3f}{_spread(moment.scalars)}). "
            "A lower learning rate, a larger batch or another method usually cures it."
        )


def _spread(scalars: dict[str, float]) -> str:
    """uniformity and alignment in words, where the method has pairs of views."""
    if "uniformity" not in scalars:
        return ""
    return (
        f", uniformity {scalars['uniformity']:.3f}, where 0 is a single point: that views of one row agree (alignment "
        f"{scalars['alignment']:.3f}) says nothing then"
    )


@dataclass
class FewCodes:
    """Rings when a clustering or quantising method uses hardly any of its codes (scalars code_perplexity and codes)."""

    rung: bool = False

    def __call__(self, moment: Moment) -> str | None:
        used, codes = moment.scalars.get("code_perplexity"), moment.scalars.get("codes")
        if used is None or codes is None or self.rung or moment.progress < 0.1:
            return None
        if used >= max(2.0, 0.02 * codes):
            return None
        self.rung = True
        return f"few codes: {used:.1f} of {codes:.0f} codes are in use. Fewer prototypes or a higher temperature help."


@dataclass
class OneCode:
    """Rings when a contrast of quantised targets is won because they have all become one: a loss near 0 with a perplexity of one code a group.

    Every negative is then the same thing as the truth and is left out of the comparison: the field's best known collapse looks like success (scalars contrastive,
    code_perplexity, code_groups)."""

    patience: int = 2
    streak: int = 0
    rung: bool = False

    def __call__(self, moment: Moment) -> str | None:
        loss, used, groups = (moment.scalars.get(k) for k in ("contrastive", "code_perplexity", "code_groups"))
        if loss is None or used is None or groups is None or not moment.scalars.get("masked", 1.0):
            return None
        self.streak = self.streak + 1 if loss < 0.05 and used < 1.5 * groups else 0
        if self.rung or self.streak < self.patience:
            return None
        self.rung = True
        return (
            f"the codebook has collapsed: the contrastive loss is {loss:.3f} with a perplexity of {used:.1f} over {groups:.0f} groups, one code each. That is collapse, not "
            "success: every negative is the truth itself. A lower learning rate, a larger batch, or a model to continue cures it; what it learned is of no use."
        )


@dataclass
class StemCollapse:
    """Rings when a convolutional stem gives all frames nearly one direction behind a context that still looks alive, since positions differ
    (scalars stem_rank and rank: directions in use)."""

    patience: int = 5
    streak: int = 0

    def __call__(self, moment: Moment) -> str | None:
        stem, rank = moment.scalars.get("stem_rank"), moment.scalars.get("rank")
        if stem is None or rank is None or moment.progress < 0.02:
            return None
        self.streak = self.streak + 1 if stem < 1.1 and rank > 2 * stem else 0
        if self.streak != self.patience:
            return None
        return (
            f"the stem has collapsed: its frames use {stem:.2f} directions, those of the context {rank:.1f}. The loss need not show it: the context lives on positions "
            "alone. A lower learning rate, or a smaller --stem-gradient, cures it."
        )


@dataclass
class Starvation:
    """Rings when the loop waits for data for more than half of the time."""

    waits: deque = field(default_factory=lambda: deque(maxlen=5))
    rung: bool = False

    def __call__(self, moment: Moment) -> str | None:
        self.waits.append(moment.data_wait)
        if self.rung or len(self.waits) < 5 or sum(self.waits) / 5 < 0.5:
            return None
        self.rung = True
        return f"data starvation: {sum(self.waits) / 5:.0%} of the time goes into waiting for data; pack the set or use a faster disk."


@dataclass
class NoProgress:
    """Rings when, late in the run, the loss is not below what a blind guess scores (scalar `baseline`)."""

    recent: deque = field(default_factory=lambda: deque(maxlen=10))
    """(loss, baseline) of the last moments: a batch that is hard for one is hard for the other."""
    rung: bool = False

    def __call__(self, moment: Moment) -> str | None:
        baseline = moment.scalars.get("baseline")
        if baseline is None or not math.isfinite(baseline):
            return None
        self.recent.append((moment.loss, baseline))
        if self.rung or moment.progress < 0.5 or len(self.recent) < 5:
            return None
        loss, guess = (sum(column) / len(self.recent) for column in zip(*self.recent, strict=True))
        if loss < guess:
            return None
        self.rung = True
        return f"no progress: the loss {loss:.3f} is not below that of a blind guess, {guess:.3f}. Look at duplicates, the learning rate and the length of the run."


def alarms() -> list[Observer]:
    return [Collapse(), FewCodes(), OneCode(), StemCollapse(), Starvation(), NoProgress()]
