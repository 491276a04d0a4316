"""Series with known factors: waves, trends, events, noise and missing values."""

from __future__ import annotations

import numpy as np

CYCLES = (2.0, 3.5, 6.0, 10.0)  # in 100 steps


def _wave(shape: int, phase: np.ndarray) -> np.ndarray:
    """Sine, square, triangle of a phase in cycles."""
    if shape == 0:
        return np.sin(2 * np.pi * phase)
    if shape == 1:
        return np.sign(np.sin(2 * np.pi * phase))
    return 4 * np.abs(phase % 1 - 0.5) - 1


def waves(rows: int, seed: int) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """`rows` series (L, 2) float32 of 80 to 160 steps, and their factors, each int64, drawn independently and evenly:

    frequency (4), shape (3: sine, square, triangle), trend (3: down, flat, up), noise (3: weak, middling, strong).
    Phase, amplitude and level are at random; the second channel lags behind the first and holds an event; a third of the rows
    lack values.
    """
    rng = np.random.default_rng(seed)
    counts = {"frequency": 4, "shape": 3, "trend": 3, "noise": 3}
    factors = {name: rng.integers(count, size=rows) for name, count in counts.items()}
    series = []
    for frequency, shape, trend, noise in zip(*factors.values(), strict=True):
        length = int(rng.integers(80, 161))
        time = np.arange(length) / 100
        phase, lag = rng.random(2)
        amplitude, level = rng.uniform(0.7, 1.4), rng.normal()
        turns = CYCLES[frequency] * time + phase
        event = 2 * np.exp(-0.5 * ((np.arange(length) - rng.uniform(0, length)) / 3) ** 2)
        row = np.stack([_wave(shape, turns), 0.5 * _wave(shape, turns - 0.2 * lag) + event], 1)
        row = amplitude * row + level + ((trend - 1) * 2.0 * (time - time.mean()))[:, None]
        row += (0.1, 0.35, 0.8)[noise] * rng.standard_normal((length, 2))
        if rng.random() < 1 / 3:
            row[rng.random((length, 2)) < 0.05] = np.nan
            begin = int(rng.integers(length - 8))
            row[begin : begin + 8, int(rng.integers(2))] = np.nan
        series.append(row.astype(np.float32))
    return series, factors
