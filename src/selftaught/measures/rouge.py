"""ROUGE: n-grams and longest common subsequences that a summary shares with its reference, with Unicode words (Lin 2004)."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

FIGURES = ("ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum")
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower-case words of any script: letters, marks and digits (the original's tokens are ASCII alone, and lose whole languages)."""
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def sentences(text: str) -> list[str]:
    """A line is a sentence where there are several; else what ends in . ! ? or their like before a space."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines if len(lines) > 1 else [s for s in re.split(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+", text) if s.strip()]


def rouge(guess: str, reference: str) -> np.ndarray:
    """(4,) F1 of FIGURES; 0 where either side has no word.  Cost: |guess| x |reference| words."""
    said, true = words(guess), words(reference)
    found = [_f1(*_overlap(said, true, n)) for n in (1, 2)]
    found.append(_f1(len(_common(said, true)), len(said), len(true)))
    found.append(_f1(*_union(guess, reference)))
    return np.array(found)


def _f1(hits: int, said: int, true: int) -> float:
    return 2 * hits / (said + true) if hits else 0.0


def _overlap(said: Sequence[str], true: Sequence[str], n: int) -> tuple[int, int, int]:
    """(n-grams shared, counted as often as both have them; n-grams of each)."""
    a, b = (Counter(zip(*(side[k:] for k in range(n)))) for side in (said, true))
    return (a & b).total(), a.total(), b.total()


def _common(said: Sequence[str], true: Sequence[str]) -> list[int]:
    """Places in `true` of one longest common subsequence."""
    table = np.zeros((len(said) + 1, len(true) + 1), np.int32)
    codes = {w: k for k, w in enumerate(set(said) | set(true))}
    a, b = (np.array([codes[w] for w in side], np.int64) for side in (said, true))
    for i in range(1, len(said) + 1):
        best = np.maximum(table[i - 1, 1:], np.where(b == a[i - 1], table[i - 1, :-1] + 1, 0))
        table[i, 1:] = np.maximum.accumulate(best)
    i, j, places = len(said), len(true), []
    while i and j:
        if said[i - 1] == true[j - 1]:
            places.append(j - 1)
            i, j = i - 1, j - 1
        elif table[i, j - 1] > table[i - 1, j]:
            j -= 1
        else:
            i -= 1
    return places[::-1]


def _union(guess: str, reference: str) -> tuple[int, int, int]:
    """ROUGE-Lsum: for each sentence of the reference the union of its common subsequences with every sentence of the guess; a word counts at most as
    often as either side has it (Lin 2004, section 3.2)."""
    said = [words(s) for s in sentences(guess)]
    true = [words(s) for s in sentences(reference)]
    left = [Counter(w for s in side for w in s) for side in (said, true)]
    hits = 0
    for sentence in true:
        places = sorted({place for other in said for place in _common(other, sentence)})
        for place in places:
            word = sentence[place]
            if left[0][word] > 0 and left[1][word] > 0:
                hits += 1
                left[0][word] -= 1
                left[1][word] -= 1
    return hits, sum(map(len, said)), sum(map(len, true))
