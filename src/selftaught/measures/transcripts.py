"""What was heard, against what was said: word and character errors of whole corpora, counted by jiwer clip by clip, so that clips can be resampled.

Corpus-level throughout: sums of errors over sums of words.  A mean of each clip's rate is another figure (a clip of one word that is
wrong would weigh as much as one of thirty).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import RequestError, nearest

NORMALISERS = {
    "simple": "lowercase, no punctuation, single spaces",
    "none": "as they are",
}
"""{name: what it does to both sides before they are compared}."""


def normalised(text: str, name: str) -> str:
    """`text` as the normaliser `name` leaves it.

    simple: NFKC, lowercase, signs and symbols become spaces but for apostrophes inside words (typographic ones are made plain), runs of spaces
    become one.  none: only spaces around are taken off.  RequestError for another name.
    """
    if name not in NORMALISERS:
        raise nearest(name, NORMALISERS, "normaliser of transcripts")
    if name == "none":
        return text.strip()
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = "".join(" " if c != "'" and unicodedata.category(c)[0] in "PSZC" else c for c in text)
    return " ".join(re.sub(r"(?<!\w)'|'(?!\w)", " ", text).split())


def need_jiwer():
    """The module; RequestError where it is not installed."""
    try:
        import jiwer
    except ImportError:
        raise RequestError("Word error rates need jiwer.", "pip install 'selftaught[audio]'") from None
    return jiwer


@dataclass(frozen=True)
class TranscriptCounts:
    """Counts of N clips: `words` and `characters` (N, 5) int64 right, substituted, deleted, inserted, and in the reference; `frames` (N, 2) that
    the network gave out, and how many of them blank (0 where that is not known)."""

    words: np.ndarray
    characters: np.ndarray
    frames: np.ndarray

    @classmethod
    def of(
        cls, guesses: Sequence[str], references: Sequence[str], frames: np.ndarray | None = None, *, normaliser: str = "simple"
    ) -> TranscriptCounts:  # fmt: skip
        """Both sides normalised alike.  An empty reference has no words: whatever is written beside it is inserted."""
        both = [[normalised(t, normaliser) for t in side] for side in (references, guesses)]
        if len(both[0]) != len(both[1]):
            raise ValueError(f"{len(both[1])} guesses for {len(both[0])} references")
        zeros = np.zeros((len(both[0]), 2), np.int64)
        counted = [_counts(both[0], both[1], way) for way in ("words", "characters")]
        return cls(counted[0], counted[1], zeros if frames is None else np.asarray(frames, np.int64).reshape(-1, 2))

    def __len__(self) -> int:
        return len(self.words)

    def value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) the word error rate where clips count `weights` (R, N) times: lower is better, and above 1 where more is inserted than was said."""
        return _rate(self.words, weights)

    def characters_value(self, weights: np.ndarray | None = None) -> np.ndarray:
        """(R,) the character error rate."""
        return _rate(self.characters, weights)

    @property
    def blank_rate(self) -> float:
        """Share of all frames whose likeliest label is the blank; 0 where no frames are known."""
        return float(self.frames[:, 1].sum() / max(1, self.frames[:, 0].sum()))

    @property
    def silent(self) -> int:
        """Clips for which nothing was written although something was said."""
        right, substituted, _, inserted, said = self.characters.T
        return int(((right + substituted + inserted == 0) & (said > 0)).sum())

    def figures(self, classes: Sequence[str] = ()) -> dict[str, float]:
        """WER and CER; substitutions, deletions and insertions a word of the references; exact: clips without an error; length: characters
        written a character said; blank rate: share of frames."""
        _, substituted, deleted, inserted, said = self.words.sum(0)
        characters = self.characters.sum(0)
        wrong = self.words[:, 1:4].sum(1) + self.characters[:, 1:4].sum(1)
        return {
            "WER": float(self.value()[0]),
            "CER": float(self.characters_value()[0]),
            "substitutions": float(substituted / max(1, said)),
            "deletions": float(deleted / max(1, said)),
            "insertions": float(inserted / max(1, said)),
            "exact": float((wrong == 0).mean()) if len(self) else 0.0,
            "length": float((characters[0] + characters[1] + characters[3]) / max(1, characters[4])),
            "blank rate": self.blank_rate,
        }


def _rate(counts: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    weights = np.ones((1, len(counts))) if weights is None else weights
    return (weights @ counts[:, 1:4].sum(1)) / np.maximum(weights @ counts[:, 4], 1)


def _counts(references: list[str], guesses: list[str], way: str) -> np.ndarray:
    """(N, 5) right, substituted, deleted, inserted, in the reference."""
    out = np.zeros((len(references), 5), np.int64)
    if not references:
        return out
    jiwer = need_jiwer()
    found = (jiwer.process_words if way == "words" else jiwer.process_characters)(references, guesses)
    place = {"equal": 0, "substitute": 1, "delete": 2, "insert": 3}
    for row, (chunks, said) in enumerate(zip(found.alignments, found.references, strict=True)):
        for c in chunks:
            size = c.hyp_end_idx - c.hyp_start_idx if c.type == "insert" else c.ref_end_idx - c.ref_start_idx
            out[row, place[c.type]] += size
        out[row, 4] = len(said)
    return out
