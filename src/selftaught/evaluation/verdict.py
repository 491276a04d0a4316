"""The verdict: one contrast, named before anything is measured, and a sentence that says no more than it shows."""

from __future__ import annotations

from dataclasses import dataclass

from .protocol import Budget
from .statistics import Groups, Interval, Scores, interval

HELPED, HURT, OPEN = "helped", "hurt", "cannot tell"
CONTROLS = ("untrained", "raw")
"""Of these, the one that is better on validation is what pretraining is set against."""


@dataclass(frozen=True)
class Verdict:
    """`answer` of the contrast pretrained - `control` at `budget`: `difference` in the units of the metric."""

    answer: str
    sentence: str
    control: str
    budget: Budget
    difference: Interval


def choose_control(validation: dict[str, float]) -> str:
    """The control with the best validation score; where they tie, the network's own.  ValueError without any."""
    found = [name for name in CONTROLS if name in validation]
    if not found:
        raise ValueError("a verdict needs the untrained network or the raw input as a control")
    return max(found, key=lambda name: validation[name])


def judge(
    pretrained: Scores, control: Scores, *, name: str, budget: Budget, metric: str, groups: Groups = None,
    numbers: bool = False, seen: int = 0, seed: int = 0, read: tuple[str, str] = ("", ""),
) -> Verdict:  # fmt: skip
    """Helped where the 95 % interval of the paired difference lies above zero, hurt where below, else cannot tell.

    `name` of the control; `numbers`: the budget counts labels in all; `seen`: test rows that pretraining saw; `read`: which
    stage was read out of each, in words, where that was chosen.
    """
    difference = interval(pretrained.minus(control), groups, seed=seed)
    answer = HELPED if difference.low > 0 else HURT if difference.high < 0 else OPEN
    items = pretrained.numerator.shape[2]
    sentence = _sentence(
        answer, difference, (pretrained.mean, control.mean), name, budget, metric, items, numbers, read
    )
    if seen:
        rows = "all test rows were" if seen >= items else f"{seen} of {items} test rows were"
        sentence += f" But {rows} among the data that pretraining saw (without labels): on new rows it may be less (pretrain with --holdout to know)."
    return Verdict(answer, sentence, name, budget, difference)


def contrast(
    difference: Interval, means: tuple[float, float], ours: str, theirs: str, budget: Budget, metric: str, items: int, numbers: bool
) -> str:  # fmt: skip
    """Two scores and their paired difference in words; `ours` and `theirs` say where each was measured."""
    unit = ("label" if numbers else "label a class") if budget == 1 else ("labels" if numbers else "labels a class")
    labels = "all the labels" if budget == "all" else f"{budget} {unit}"
    span = f"95 % interval {difference.low:+.3f} to {difference.high:+.3f}"
    return (
        f"with {labels}, the linear probe's {metric} on {items} test rows is {means[0]:.3f} {ours} and "
        f"{means[1]:.3f} {theirs} ({difference.mean:+.3f}, {span})"
    )


def _sentence(
    answer: str, difference: Interval, means: tuple[float, float], name: str, budget: Budget, metric: str, items: int, numbers: bool,
    read: tuple[str, str],
) -> str:  # fmt: skip
    control = {"raw": "the raw input", "untrained": "the same network untrained"}[name]
    ours, theirs = f"after pretraining{read[0]}", f"on {control}{read[1]}"
    case = contrast(difference, means, ours, theirs, budget, metric, items, numbers)
    if answer == OPEN:
        return (
            f"Cannot tell whether pretraining helped: {case}. "
            f"A true difference of {difference.visible:.3f} would have been seen four times in five; a smaller one is easily missed."
        )
    return f"Pretraining {answer}: {case}."
