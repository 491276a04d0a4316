"""Near-duplicate token rows: MinHash finds candidates, the share of common runs of tokens judges them (Broder 1997)."""

from __future__ import annotations

import numpy as np
import torch

from ..core import Ragged, random

_HASHES, _BAND = 64, 4
_BLOCK = 1 << 16
"""Runs that are hashed at once."""


def near_rows(rows: Ragged, *, least: float = 0.8, shingle: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """((n, 2) pairs i < j, (n,) scores): the share of common runs of `shingle` tokens (Jaccard) is at least `least`.

    Rows shorter than a run are one run.  64 hashes in 16 bands find a pair of share 0.8 with certainty 0.9998; every pair
    found is then compared exactly.  About 100 hashes a token.
    """
    runs, starts = _runs(rows, shingle)
    signs = _signatures(runs, starts)
    found: set[tuple[int, int]] = set()
    for band in range(0, _HASHES, _BAND):
        keys = np.unique(signs[:, band : band + _BAND], axis=0, return_inverse=True)[1].reshape(-1)
        order = np.argsort(keys, kind="stable")
        alike = keys[order[:-1]] == keys[order[1:]]
        found.update(zip(order[:-1][alike].tolist(), order[1:][alike].tolist(), strict=True))  # a stable sort: i < j
    kept = []
    for i, j in sorted(found):
        a, b = np.unique(runs[starts[i] : starts[i + 1]]), np.unique(runs[starts[j] : starts[j + 1]])
        common = len(np.intersect1d(a, b, assume_unique=True))
        score = common / max(1, len(a) + len(b) - common)
        if score >= least:
            kept.append((i, j, score))
    table = np.array(kept, np.float64).reshape(-1, 3)
    return table[:, :2].astype(np.int64), table[:, 2].astype(np.float32)


def _runs(rows: Ragged, shingle: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the runs of all rows end to end, and where each row's begin (one more at the end)."""
    values, lengths = rows.values.long(), rows.lengths
    count = (lengths - shingle + 1).clamp_min(1) * (lengths > 0)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), count.cumsum(0)])
    owner = torch.repeat_interleave(torch.arange(len(rows)), count)
    place = rows.offsets[owner] + torch.arange(len(owner)) - starts[owner]
    folded = torch.zeros(len(owner), dtype=torch.int64)
    for step in range(shingle):
        inside = place + step < rows.offsets[owner + 1]
        token = torch.where(inside, values[(place + step).clamp_max(max(0, len(values) - 1))], -1)
        folded = random.bits(random.key("shingle", step), folded ^ token)
    return folded.numpy(), starts.numpy()


def _signatures(runs: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(rows, 64) int64: the least of each hash over a row's runs."""
    signs = np.full((len(starts) - 1, _HASHES), np.iinfo(np.int64).max)
    seeds = torch.arange(_HASHES)[None] << 40
    first = 0
    while first < len(signs):
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + _BLOCK, side="right")) - 1)
        part = torch.from_numpy(runs[starts[first] : starts[last]])
        filled = np.flatnonzero(np.diff(starts[first : last + 1]))
        if len(filled):
            hashed = random.bits(random.key("minhash"), part[:, None] ^ seeds).numpy()
            signs[first + filled] = np.minimum.reduceat(hashed, starts[first + filled] - starts[first], axis=0)
        first = last
    return signs
