"""What frames spell: the likeliest label of every frame, or the likeliest sequence by prefix beam search; no language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..losses.ctc import BLANK

SYMBOLS = 24
"""Labels of a frame that a search goes on with, the likeliest first."""


def collapsed(path: Sequence[int]) -> tuple[int, ...]:
    """The labels that a path of frames spells: runs of one label are one, blanks are none."""
    codes = np.asarray(path, dtype=np.int64)
    if not len(codes):
        return ()
    new = np.concatenate([[True], codes[1:] != codes[:-1]]) & (codes != BLANK)
    return tuple(codes[new].tolist())


def greedy(logp: np.ndarray) -> tuple[int, ...]:
    """What the likeliest label of every frame spells: logp (T, V)."""
    return collapsed(logp.argmax(1)) if len(logp) else ()


def prefix_beams(logp: np.ndarray, width: int, symbols: int = SYMBOLS) -> list[tuple[tuple[int, ...], float]]:
    """The (at most `width`) likeliest sequences with their log-probabilities, the best first: logp (T, V) of each label, blank 0.

    A prefix is held with two probabilities, of ending in a blank and in its last label, so that a label said again after a blank counts as two
    (Graves 2012; Hannun et al. 2014, algorithm 1).  Exact where no prefix is dropped.  O(T width symbols).
    """
    if width < 1:
        raise ValueError(f"a beam of {width} holds nothing")
    never = -np.inf
    held: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, never)}
    for frame in logp.tolist():
        order = np.argsort(frame)[::-1][: symbols + 1].tolist() if len(frame) > symbols + 1 else range(len(frame))
        labels = [(k, frame[k]) for k in order if k != BLANK and frame[k] > never]
        grown: dict[tuple[int, ...], list[float]] = {}
        for prefix, (blank, label) in held.items():
            either = _add(blank, label)
            own = grown.setdefault(prefix, [never, never])
            own[0] = _add(own[0], either + frame[BLANK])
            last = prefix[-1] if prefix else BLANK
            if prefix:
                own[1] = _add(own[1], label + frame[last])
            for k, chance in labels:
                before = blank if k == last else either  # the same label once more needs a blank between
                if before > never:
                    longer = grown.setdefault((*prefix, k), [never, never])
                    longer[1] = _add(longer[1], before + chance)
        best = sorted(grown.items(), key=lambda item: (-_add(*item[1]), item[0]))[:width]
        held = {prefix: (chances[0], chances[1]) for prefix, chances in best}
    return [(prefix, _add(*chances)) for prefix, chances in held.items()]


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == -np.inf else a + float(np.log1p(np.exp(b - a)))
