"""Where a run continued a pretrained model: the arm "start", and a sentence of its own, "did continuing help?"."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..core import Encoder, ModelError, RequestError
from ..core.listener import Listener
from ..nets import store
from ..train import starts
from .opening import folder_of
from .protocol import Budget
from .statistics import Interval, Scores, interval
from .verdict import HELPED, HURT, OPEN, contrast

NOT_COMPARED = "not compared"


@dataclass
class Started:
    """The encoders that runs started from, as they were; `names` of them; `trouble`: why they cannot be compared with."""

    encoders: list[Encoder] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    trouble: str = ""

    def __bool__(self) -> bool:
        return bool(self.encoders or self.trouble)


def started(run, listener: Listener) -> Started:
    """The starts of a run (or of several seeds) that its folders kept; empty where it began anew or is an encoder in memory.

    One start of all seeds is one encoder.  Where a start is gone or has changed, none is compared with, and it is said.
    """
    several = list(run) if isinstance(run, list | tuple) else [run]
    try:
        found = [starts.read(folder) for one in several if (folder := folder_of(one)) is not None]
    except (ModelError, RequestError) as error:
        listener.say(f"start: not compared with. {error.message}")
        return Started(trouble=error.message)
    held = [pair for pair in found if pair is not None]
    if not held:
        return Started()
    if len(held) < len(several):
        return Started(trouble="Only some of these runs continue a model.")
    if len({store.fingerprint(encoder) for encoder, _ in held}) == 1:
        held = held[:1]
    names = list(dict.fromkeys(name for _, name in held))
    listener.say(f"start: {', '.join(names)}, as it was before continuing, is set beside the run.")
    return Started([encoder for encoder, _ in held], names)


def judge_start(pretrained: Scores, start: Scores, *, budget: Budget, metric: str, numbers: bool, groups, seed: int) -> dict[str, Any]:  # fmt: skip
    """{"answer", "sentence", "mean", "low", "high", "labels_per_class"} of the run minus its start: paired, at the verdict's budget."""
    difference: Interval = interval(pretrained.minus(start), groups, seed=seed)
    answer = HELPED if difference.low > 0 else HURT if difference.high < 0 else OPEN
    case = contrast(
        difference, (pretrained.mean, start.mean), "after continuing", "at its start", budget, metric,
        pretrained.numerator.shape[2], numbers,
    )  # fmt: skip
    if answer == OPEN:
        sentence = (
            f"Cannot tell whether continuing helped against its start: {case}. "
            f"A true difference of {difference.visible:.3f} would have been seen four times in five."
        )
    else:
        sentence = f"Continuing {answer} against its start: {case}."
    if answer == HURT:
        sentence += " Use the start as it was, or continue more gently (--set recipe.encoder_rate=0.1, fewer steps)."
    figures = {k: round(getattr(difference, k), 6) for k in ("mean", "low", "high")}
    return {"answer": answer, "sentence": sentence, **figures, "labels_per_class": budget}


def not_compared(trouble: str) -> dict[str, Any]:
    """The same where there is nothing to compare with."""
    return {"answer": NOT_COMPARED, "sentence": f"Continuing was not compared with its start. {trouble}"}
