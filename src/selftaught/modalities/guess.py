"""What a modality says of a source that it has looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guess:
    """`column` of a source can be taken, with `score` in 0-1 of how sure that is, because of `reason` (said aloud)."""

    column: str
    score: float
    reason: str
