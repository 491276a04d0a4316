"""Spoken words with known factors, made by espeak-ng (Debian: apt install espeak-ng) into a cache folder outside the repository.

    python benchmarks/espeak.py [--rows 6000] [--seed 0] [--out FOLDER]

A Parquet file with columns audio (FLAC, 16 kHz), word, voice, speed, noise, style; factors are drawn independently and evenly, so that none tells another.
Styles are pitch and its range and a little tempo, planted by us: they stand for nothing that anybody felt.  Loudness is at random, so that it tells nothing.
The same arguments give the same bytes, with the same versions of espeak-ng and libsndfile.
"""

import argparse
import hashlib
import io
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

RATE = 16000
WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "yes", "no", "left", "right", "open", "close", "window", "garden", "Monday", "water",
)  # fmt: skip
VOICES = (
    "en-us+m1", "en-us+m3", "en-us+f2", "en-us+Andrea", "en-gb+m2", "en-gb+f3", "en-gb-scotland+m5", "en-gb-scotland+f4", "en-gb-x-rp+m7", "en-gb-x-rp+f1",
    "en-029+m4", "en-029+f5",
)  # fmt: skip
SPEEDS = {"slow": 125, "medium": 165, "fast": 215}
"""Words a minute."""
NOISES = {"quiet": 40.0, "street": 12.0, "loud": 3.0}
"""Signal to (pink) noise in decibels."""
STYLES = {"plain": (50, 50, 1.0), "excited": (72, 95, 1.1), "sad": (30, 25, 0.88), "robot": (50, 0, 1.0)}
"""Pitch and pitch range (0 to 99, as espeak-ng has them) and tempo beside the speed."""
FACTORS = {"word": WORDS, "voice": VOICES, "speed": tuple(SPEEDS), "noise": tuple(NOISES), "style": tuple(STYLES)}


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selftaught-benchmarks"


def program() -> str:
    found = shutil.which("espeak-ng")
    if not found:
        sys.exit("espeak-ng is not here: apt install espeak-ng (Debian, Ubuntu), dnf install espeak-ng (Fedora).")
    return found


def spoken(word: str, voice: str, pace: int, pitch: int, reach: int) -> np.ndarray:
    """(L,) float at RATE of one call of espeak-ng, without the silence before and behind."""
    import soundfile
    import soxr

    said = f'<prosody range="{reach}">{word}</prosody>'  # of SSML: not every version has an option for it
    command = [program(), "-v", voice, "-s", str(pace), "-p", str(pitch), "-m", "--stdout", said]
    held = bytearray(subprocess.run(command, capture_output=True, check=True).stdout)
    if held[:4] == b"RIFF":  # written to a pipe, the header claims the longest file there can be
        held[4:8], held[40:44] = (len(held) - 8).to_bytes(4, "little"), (len(held) - 44).to_bytes(4, "little")
    wave, rate = soundfile.read(io.BytesIO(bytes(held)), dtype="float64")
    wave = soxr.resample(wave, rate, RATE, "HQ")
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    return wave[max(0, loud[0] - 160) : loud[-1] + 480]


def in_noise(wave: np.ndarray, decibels: float, rng: np.random.Generator) -> np.ndarray:
    """(L,) in pink noise, at a level of its own."""
    spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1), len(wave))
    noise *= np.sqrt(np.mean(wave**2) / np.mean(noise**2)) * 10 ** (-decibels / 20)
    found = wave + noise
    return found / np.abs(found).max() * 10 ** (-rng.uniform(3, 20) / 20)


def clip(row: int, seed: int, chosen: dict[str, str]) -> bytes:
    """FLAC bytes of one row."""
    import soundfile

    rng = np.random.default_rng([seed, row])
    pitch, reach, tempo = STYLES[chosen["style"]]
    pace = round(SPEEDS[chosen["speed"]] * tempo * np.exp(rng.normal(0, 0.04)))
    wave = spoken(chosen["word"], chosen["voice"], max(80, pace), int(np.clip(pitch + rng.normal(0, 5), 0, 99)), reach)
    held = io.BytesIO()
    soundfile.write(held, in_noise(wave, NOISES[chosen["noise"]], rng), RATE, format="FLAC", subtype="PCM_16")
    return held.getvalue()


def make(rows: int = 6000, seed: int = 0, folder: Path | None = None) -> Path:
    """The Parquet file, made where it is not there yet: about 100 rows a second and core."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    version = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout.split("  ")[0]
    mark = hashlib.sha256(repr((rows, seed, version, FACTORS, SPEEDS, NOISES, STYLES)).encode()).hexdigest()[:12]
    path = (folder or cache()) / f"espeak-{mark}" / "words.parquet"
    if path.exists():
        return path
    rng = np.random.default_rng(seed)
    columns = {name: [kinds[k] for k in rng.integers(len(kinds), size=rows)] for name, kinds in FACTORS.items()}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        chosen = ({name: held[row] for name, held in columns.items()} for row in range(rows))
        audio = list(pool.map(lambda one: clip(one[0], seed, one[1]), enumerate(chosen)))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    pq.write_table(pa.table({"audio": pa.array(audio, pa.binary()), **columns}), part)
    part.replace(path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    print(make(args.rows, args.seed, args.out))
