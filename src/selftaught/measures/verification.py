"""Are two recordings of one speaker?  Error rates of scored pairs (trials): the equal error rate and the least cost of detection.

A threshold accepts the trials that score as high or higher.  Scores are sorted once and those that tie fall together, so that no order of the
trials changes anything; between two thresholds the curve of errors is a straight line (a coin decides between them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PRIOR = 0.01
"""How likely it is in the cost of detection that a trial is of one speaker (NIST's)."""
_BLOCK = 1 << 22
"""Numbers that a pass over resampled trials holds, at most."""


@dataclass(frozen=True)
class Trials:
    """Scores (M,) of pairs, the speakers (M, 2) of each (0 to S - 1); a trial is a target where both are the same.

    It counts as a tally of S speakers: resampling one takes all trials of theirs along, on both sides (a trial of speakers drawn a and b times
    counts a x b times, one of a speaker with themself a times).
    """

    scores: np.ndarray
    speakers: np.ndarray
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def same(self) -> np.ndarray:
        """(M,) bool: targets."""
        return self.speakers[:, 0] == self.speakers[:, 1]

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Order of the trials by score, where each distinct score begins, and these scores."""
        if not np.isfinite(self.scores).all():
            raise ValueError("scores that are not finite have no order")
        order = np.argsort(self.scores, kind="stable")
        values, begins = np.unique(self.scores[order], return_index=True)
        return order, begins, values

    def _errors(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """((R, U + 1) targets refused, (R, U + 1) others accepted) as shares, at each distinct score as threshold and at one above all; weights (R, M)."""
        order, begins, _ = self._sorted
        held = weights[:, order]
        rates = []
        for kind in (self.same[order], ~self.same[order]):
            below = np.cumsum(np.add.reduceat(held * kind, begins, axis=1), axis=1)
            below = np.concatenate([np.zeros((len(held), 1)), below], 1)
            total = below[:, -1:]
            rates.append(np.divide(below, total, out=np.full_like(below, np.nan), where=total > 0))
        return rates[0], 1 - rates[1]

    def value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) the equal error rate for `weights` (R, S), how often each speaker counts: lower is better, 0.5 is chance, above is worse than chance.

        A resampling that is left without targets, or without others, says nothing and counts as the figure itself.
        """
        once = np.ones((1, self.count))
        whole = float(self._rates(once)[0])
        if weights is None:
            return np.array([whole])
        size = max(1, _BLOCK // max(1, len(self.scores)))
        found = np.concatenate([self._rates(weights[at : at + size]) for at in range(0, len(weights), size)])
        return np.where(np.isnan(found), whole, found)

    def _rates(self, weights: np.ndarray) -> np.ndarray:
        refused, accepted = self._errors(self.trial_weights(weights))
        return _crossing(refused, accepted)[0]

    def trial_weights(self, weights: np.ndarray) -> np.ndarray:
        """(R, M) how often each trial counts where speakers count `weights` (R, S)."""
        first, second = self.speakers.T
        return np.where(self.same, weights[:, first], weights[:, first] * weights[:, second])

    @property
    def threshold(self) -> float:
        """The score at which refused targets and accepted others are as nearly alike as they get; always one that was given."""
        refused, accepted = self._errors(np.ones((1, len(self.scores))))
        return float(self._sorted[2][np.argmin(np.abs(refused - accepted)[0, :-1])])

    def least_cost(self, prior: float = PRIOR) -> float:
        """minDCF: the cost of errors at the best threshold, over that of the better of accepting or refusing everything."""
        refused, accepted = self._errors(np.ones((1, len(self.scores))))
        return float((prior * refused + (1 - prior) * accepted).min() / min(prior, 1 - prior))

    def figures(self, classes: Sequence[str] = ()) -> dict[str, float]:
        """EER, its threshold, and minDCF."""
        return {"EER": float(self.value()[0]), "threshold": self.threshold, "minDCF": self.least_cost()}

    @property
    def warning(self) -> str:
        """What is wrong with the scores where they are worse than chance; else nothing."""
        rate = float(self.value()[0])
        if rate <= 0.5:
            return ""
        return f"an equal error rate of {rate:.3f} is worse than chance: are low scores meant for the same speaker?"


def _crossing(refused: np.ndarray, accepted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((R,) rate where the two curves (R, P) cross, (R,) the point behind it): refused rises from 0 to 1, accepted falls from 1 to 0."""
    gap = refused - accepted
    after = np.argmax(gap >= 0, axis=1)  # never 0: there nothing is refused and everything accepted
    row = np.arange(len(gap))
    before = np.maximum(after - 1, 0)
    low, high = gap[row, before], gap[row, after]
    share = np.divide(-low, high - low, out=np.zeros(len(gap)), where=high > low)
    rate = refused[row, before] + share * (refused[row, after] - refused[row, before])
    return np.where(np.isnan(gap).any(1), np.nan, rate), after
