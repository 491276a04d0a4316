"""What groups of texts speak of: the words that are commoner in each than in the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"[^\W\d_]{2,}")
WORDS = 10


def topics(texts: Sequence[str], groups: np.ndarray, *, words: int = WORDS) -> dict[int, list[str]]:
    """{group: its most characteristic words, the first the most so} by class-based tf-idf (Grootendorst 2022, BERTopic, eq. 1).

    A word of a group weighs (its share of the group's words) x log(1 + words of a group on average / how often all groups have it) x log(texts /
    texts that hold it), without which a few groups would all be told by "the"; words that fewer than two texts hold are left out."""
    held: dict[int, Counter] = {int(g): Counter() for g in np.unique(groups)}
    documents: Counter = Counter()
    for text, group in zip(texts, groups.tolist(), strict=True):
        found = [w.lower() for w in _WORD.findall(text)]
        held[group].update(found)
        documents.update(set(found))
    everywhere: Counter = Counter()
    for counted in held.values():
        everywhere.update(counted)
    mean = sum(everywhere.values()) / max(1, len(held))
    out = {}
    for group, counted in held.items():
        total = max(1, sum(counted.values()))
        weight = {
            w: n / total * np.log1p(mean / everywhere[w]) * np.log(len(texts) / documents[w])
            for w, n in counted.items()
            if documents[w] > 1
        }
        out[group] = sorted(weight, key=lambda w: (-weight[w], w))[:words]
    return out
