"""Speaker verification: are two clips of one speaker?  By the cosine of their representations; speakers that no read-out has heard.

selftaught evaluate RUN CLIPS --task verify --group speaker

When it works: an encoder whose representation keeps voices apart; many speakers, each in several recordings.
When it fails: few speakers: intervals are over speakers, and four of them say little; a representation made to forget who speaks.
What to watch: recordings.  Clips of one recording share room, microphone and level: where each speaker was recorded once, a cosine that knows the microphone scores as well as
one that knows the voice, and log-mel statistics, which stand beside, already do.

Cosine: dimensions are standardised over clips of other speakers, without their labels; nothing is trained.  Beside it: after a linear discriminant of the other speakers.
Measure: equal error rate (lower is better) and minDCF; pairs of clips (trials) are drawn beforehand by the seed, as many of one speaker as of two, and their list is kept with its hash.
Data: clips with a column of speakers (--group, or --labels).  To name speakers rather than to compare them: --task classify --labels speaker --group recording.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..core import RequestError
from ..core.task import Task
from ..measures.verification import Trials


class Verify(Task):
    """Pairs of clips of one speaker or of two, by cosine: equal error rate.

    Split rule: whole speakers.
    """

    version: ClassVar[int] = 1
    wants: ClassVar = "speakers"
    lower: ClassVar[bool] = True
    aliases: ClassVar = ("speaker-verification", "asv")
    metric: str = "EER"
    """What decides: lower is better."""

    def head(self, dim: int):
        raise RequestError(
            "Speaker verification trains no network here.",
            "selftaught evaluate RUN DATA --task verify --group speaker; to name speakers: --task classify --labels speaker.",
        )

    def cosine(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(M,) float64, to twelve decimals, so that rounding breaks no ties; 0 where either is the zero vector."""
        u, v = first.astype(np.float64), second.astype(np.float64)
        length = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
        return np.round((u * v).sum(1) / np.where(length > 0, length, 1), 12)

    def tally(self, guesses: Any, targets: Any) -> Trials:
        """`guesses` (M,) scores, `targets` (M, 2) speakers of the trials, counted from 0."""
        speakers = np.asarray(targets, np.int64)
        return Trials(np.asarray(guesses, np.float64), speakers, int(speakers.max()) + 1)
