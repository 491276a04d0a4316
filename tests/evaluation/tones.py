"""Sounds whose words are known: a letter is a tone, a speaker a timbre; as small as CTC and verification can be tried on."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from selftaught import nets
from selftaught.core import Kept
from selftaught.modalities.sound import Sound
from selftaught.nets import store

RATE = 8000
TONES = {"a": 400.0, "b": 900.0, "c": 1700.0, "d": 2900.0}
SECONDS, GAP = 0.12, 0.08


def wav(wave: np.ndarray) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.clip(wave, -1, 1), RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def tone(hertz: float, seconds: float = SECONDS, overtones: tuple[float, ...] = (1.0,)) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    wave = sum(level * np.sin(2 * np.pi * hertz * (k + 1) * time) for k, level in enumerate(overtones))
    return 0.3 * np.asarray(wave) * np.hanning(len(time)) ** 0.3


def spelled(text: str, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
    """(the wave of `text`, where its letters stand); a space is a longer gap."""
    parts, at, places = [], 0.0, []
    for letter in text:
        gap = GAP * rng.uniform(0.8, 1.2) * (2.5 if letter == " " else 1.0)
        parts.append(np.zeros(int(gap * RATE)))
        at += len(parts[-1]) / RATE
        if letter != " ":
            parts.append(tone(TONES[letter] * rng.uniform(0.97, 1.03)))
            places.append((at, at + SECONDS, letter))
            at += len(parts[-1]) / RATE
    wave = np.concatenate([*parts, np.zeros(int(GAP * RATE))])
    return wave + 0.003 * rng.normal(size=len(wave)), places


def texts(rows: int, rng: np.random.Generator) -> list[str]:
    letters = list(TONES)
    return ["".join(rng.choice(letters, rng.integers(2, 5))) for _ in range(rows)]


def table(path, rows: int, seed: int = 0, speakers: int = 5):
    """A Parquet file of clips: audio, text, speaker, and the stretches of the letters as lists."""
    rng = np.random.default_rng(seed)
    held = []
    for row, text in enumerate(texts(rows, rng)):
        wave, places = spelled(text, rng)
        start, end, label = (list(part) for part in zip(*places))
        held.append({"audio": wav(wave), "text": text.upper() + "!", "speaker": f"s{row % speakers}", "start": start, "end": end, "label": label})  # fmt: skip
    pq.write_table(pa.Table.from_pylist(held), path)
    return path


def voices(path, speakers: int = 8, clips: int = 6, seed: int = 0):
    """A Parquet file of clips of one tone each; a speaker is a pattern of overtones, heard at any pitch."""
    rng = np.random.default_rng(seed)
    held = []
    for speaker in range(speakers):
        overtones = tuple(rng.uniform(0.05, 1.0, 5))
        for clip in range(clips):
            wave = tone(rng.uniform(280, 320), 0.3, overtones) + 0.003 * rng.normal(size=int(0.3 * RATE))
            held.append({"audio": wav(wave), "speaker": f"v{speaker}", "recording": f"r{speaker}-{clip % 3}"})
    pq.write_table(pa.Table.from_pylist(held), path)
    return path


def run_folder(path, kind: str = "sound-transformer", **options):
    """A saved encoder as pretraining leaves it, with fresh weights."""
    modality = Sound(rate=RATE, context=RATE, typical=RATE // 2, bands=32, mean=(-6.0,), std=(3.0,))
    small = {"width": 48, "depth": 2, "heads": 2} if kind == "sound-transformer" else {"stem": 8, "widths": (8, 16)}
    if kind == "sound-conv":
        small |= {"blocks": (1, 1), "strides": (2, 2)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        own = {k: getattr(modality, k) for k in ("rate", "bands", "window", "hop", "mean", "std")}
        encoder = nets.build(kind, **own, **small, **options).eval()
    store.save(path, Kept(encoder), fill=modality.save)
    return path
