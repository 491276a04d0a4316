"""Sounds with known factors: two syllables spoken by a source and resonances, in some words, vocal tracts, pitches and rooms."""

from __future__ import annotations

import io
import wave as wav

import numpy as np
from scipy.signal import lfilter

RATE = 8000
VOWELS = np.array(
    [[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410], [440, 1020, 2240]]
)
"""Formants in Hz of six American vowels (Peterson & Barney 1952, men)."""
WORDS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (0, 2), (3, 1))
TRACTS = (0.85, 1.0, 1.18)
PITCHES = (100.0, 145.0, 210.0)
NOISES = (0.002, 0.02, 0.08)


def voices(rows: int, seed: int) -> tuple[list[bytes], dict[str, np.ndarray]]:
    """`rows` clips (WAV, 8 kHz) of 0.2 to 0.5 s, and their factors, each int64, drawn independently and evenly: word (8: two vowels), speaker (3: the
    length of the vocal tract), pitch (3), noise (3).  Level, speed, and pitch within a speaker are at random."""
    rng = np.random.default_rng(seed)
    counts = {"word": len(WORDS), "speaker": len(TRACTS), "pitch": len(PITCHES), "noise": len(NOISES)}
    factors = {name: rng.integers(count, size=rows) for name, count in counts.items()}
    clips = [_clip(rng, *(int(v) for v in one)) for one in zip(*factors.values(), strict=True)]
    return [as_wav(clip) for clip in clips], factors


def _clip(rng: np.random.Generator, word: int, speaker: int, pitch: int, noise: int) -> np.ndarray:
    """(L,) float in -1..1."""
    length = int(RATE * rng.uniform(0.2, 0.5))
    time = np.arange(length) / length
    frequency = PITCHES[pitch] * np.exp(rng.normal(0, 0.06) + rng.normal(0, 0.1) * (time - 0.5))
    phase = np.cumsum(frequency) / RATE
    source = np.diff(np.floor(phase), prepend=0) + 0.02 * rng.standard_normal(length)
    turn = int(length * rng.uniform(0.4, 0.6))
    parts = [(_spoken(source, VOWELS[vowel] / TRACTS[speaker]), vowel) for vowel in WORDS[word]]
    blend = 1 / (1 + np.exp((np.arange(length) - turn) / (0.02 * RATE)))
    voice = blend * parts[0][0] + (1 - blend) * parts[1][0]
    voice *= np.sin(np.pi * np.clip(time, 0.01, 0.99)) ** 0.5
    voice = voice / np.sqrt(np.mean(voice**2)) + NOISES[noise] * 5 * rng.standard_normal(length)
    return 0.2 * np.exp(rng.normal(0, 0.4)) * voice / np.abs(voice).max()


def _spoken(source: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """The source through a resonance at each formant (two poles, 80 to 160 Hz wide), below the Nyquist frequency."""
    for number, formant in enumerate(formants[formants < 0.47 * RATE]):
        radius = np.exp(-np.pi * (80 + 40 * number) / RATE)
        angle = 2 * np.pi * formant / RATE
        source = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], source)
    return source


def as_wav(clip: np.ndarray, rate: int = RATE) -> bytes:
    """A WAV file of (L,) floats, which are clipped to -1..1."""
    held = io.BytesIO()
    with wav.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.clip(np.rint(clip * 32767), -32768, 32767).astype("<i2").tobytes())
    return held.getvalue()
