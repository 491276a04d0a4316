"""Log-mel energies of a batch: nets.mel.LogMel beside transformers' ASTFeatureExtractor, on the same clips and with the same settings.

    python benchmarks/mel_speed.py

Kaldi's features as the Audio Spectrogram Transformer takes them: 16 kHz, 128 bands, 25 ms every 10 ms, Hann, pre-emphasis 0.97, offset removed.
Clips of one second and of ten, from a list of float32 arrays to one tensor; ours pads them into a batch first.  Five alternating repeats on two
threads, medians; the largest difference between the two is written down beside, and the share of cells that differ by more than 1e-3 (those next to
the floor, where both round in float32).
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from record import Results

RATE, BANDS, REPEATS = 16000, 128, 5
SETS = {"256 clips of 1 s": (256, 1.0), "32 clips of 10 s": (32, 10.0)}


def clips(count: int, seconds: float) -> list[np.ndarray]:
    """Sweeps with noise: what is heard changes nothing in what it costs."""
    rng, time_axis = np.random.default_rng(0), np.arange(int(seconds * RATE)) / RATE
    sweeps = (0.3 * np.sin(2 * np.pi * (f + 500 * time_axis) * time_axis) for f in rng.uniform(100, 2000, count))
    return [(s + 0.02 * rng.standard_normal(len(s))).astype(np.float32) for s in sweeps]


def ours() -> Callable[[list[np.ndarray]], torch.Tensor]:
    from selftaught.nets.mel import LogMel

    front = LogMel(RATE, BANDS)

    def run(waves: list[np.ndarray]) -> torch.Tensor:
        length = torch.tensor([len(w) for w in waves])
        batch = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(w) for w in waves], batch_first=True)
        return front(batch, length)[0]

    return run


def theirs(frames: int) -> Callable[[list[np.ndarray]], torch.Tensor]:
    from transformers import ASTFeatureExtractor

    extract = ASTFeatureExtractor(num_mel_bins=BANDS, max_length=frames, do_normalize=False)
    return lambda waves: extract(waves, sampling_rate=RATE, return_tensors="pt")["input_values"]


def timed(function: Callable, waves: list[np.ndarray]) -> tuple[float, float]:
    """Seconds of the clock and of all threads."""
    began = time.perf_counter(), time.process_time()
    function(waves)
    return time.perf_counter() - began[0], time.process_time() - began[1]


def measure(results: Results, name: str) -> None:
    count, seconds = SETS[name]
    waves = clips(count, seconds)
    frames = 1 + (len(waves[0]) - int(0.025 * RATE)) // int(0.010 * RATE)
    ways = {"ours": ours(), "transformers": theirs(frames)}
    found = {way: function(waves) for way, function in ways.items()}  # warm, and compared
    apart = (found["ours"][:, :frames] - found["transformers"]).abs()
    difference, beyond = float(apart.max()), float((apart > 1e-3).float().mean())
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(REPEATS):
        for way, function in ways.items():
            spent[way].append(timed(function, waves))
    wall, cpu = ({way: statistics.median(s[k] for s in runs) for way, runs in spent.items()} for k in (0, 1))
    times = statistics.median(b[0] / a[0] for a, b in zip(spent["ours"], spent["transformers"], strict=True))
    results.put(
        name, seconds=wall, cpu_seconds=cpu, times_faster=times, difference=difference, beyond_a_thousandth=beyond,
        times_real_time={way: count * seconds / s for way, s in wall.items()}, threads=torch.get_num_threads(),
    )  # fmt: skip
    print(
        f"{name}: {wall['ours']:.3f} s against {wall['transformers']:.3f} s, {times:.1f} times; difference {difference:.1e}"
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    kept = Results(
        "mel_speed", settings=f"{BANDS} bands, 25 ms every 10 ms at {RATE} Hz, {REPEATS} alternating repeats"
    )
    for one in SETS:
        measure(kept, one)
