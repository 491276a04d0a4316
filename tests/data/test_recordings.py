"""What `look` finds in sounds: planted shortcuts and faults, each known."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr
from scipy.signal import butter, lfilter

from selftaught.data import count_duplicates, look
from selftaught.data.recordings import causes, four_numbers, inspect, is_narrow, longest_run, measure, told
from selftaught.data.sound_copies import sound_verifier
from selftaught.modalities import open_data

RATE = 16000


def wav(wave: np.ndarray, rate: int = RATE, kind: str = "WAV", **options) -> bytes:
    held = io.BytesIO()
    soundfile.write(held, wave, rate, format=kind, **options)
    return held.getvalue()


def voice(rng: np.random.Generator, seconds: float = 0.4, rate: int = RATE, level: float = 0.1) -> np.ndarray:
    """Noise that falls by 6 dB an octave, as speech does, through a random resonance."""
    noise = lfilter([1.0], [1.0, -0.7], rng.standard_normal(round(seconds * rate)))
    b, a = butter(2, rng.uniform(0.05, 0.4, 2).cumsum() / 1.2, "band")
    wave = noise + 4 * lfilter(b, a, noise)
    return level * wave / np.sqrt(np.mean(wave**2)) * np.hanning(len(wave)) ** 0.3


def codes(wave: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)


def test_levels_are_those_of_a_sine():
    time = np.arange(RATE) / RATE
    clip = measure(codes(0.5 * np.sin(2 * np.pi * 100 * time) + 0.01), RATE, channels=2, seconds=7.0)
    assert (clip.rate, clip.channels, clip.seconds) == (RATE, 2, 7.0)
    assert clip.peak == pytest.approx(0.51, abs=1e-3)
    assert clip.rms == pytest.approx(np.sqrt(0.125 + 1e-4), abs=1e-4)
    assert clip.offset == pytest.approx(0.01, abs=1e-4)
    assert not (clip.silent)
    assert not (clip.clipped)
    assert not (clip.shifted)
    assert four_numbers([clip])[0] == pytest.approx(
        [np.log10(7), np.log10(clip.peak), np.log10(clip.rms), 10.0], abs=0.1
    )


def test_clipped_silent_and_shifted_sounds_are_told_from_loud_quiet_and_slow_ones():
    rng = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    wave = voice(rng, 1.0)
    assert measure(codes(20 * wave), RATE).clipped
    assert measure(codes(np.clip(wave, -0.15, 0.15) * 4), RATE).clipped, "and brought to another level"
    assert not measure(codes(0.9 * wave / np.abs(wave).max()), RATE).clipped
    assert not measure(codes(0.9 * np.sin(2 * np.pi * 60 * time)), RATE).clipped, (
        "a slow wave is flat on top, but not level"
    )
    assert measure(codes(0.0005 * wave / np.abs(wave).max()), RATE).silent
    assert not measure(codes(0.01 * wave / np.abs(wave).max()), RATE).silent
    assert measure(codes(wave + 0.1), RATE).shifted
    assert not measure(codes(wave), RATE).shifted


def test_runs_are_counted():
    assert longest_run(np.array([], bool)) == 0
    assert longest_run(np.array([0, 1, 1, 0, 1, 1, 1], bool)) == 3
    assert longest_run(np.zeros(5, bool)) == 0


def test_what_was_kept_at_half_the_rate_is_told_from_what_is_merely_dull():
    rng = np.random.default_rng(1)
    for _ in range(20):
        assert not is_narrow(voice(rng, 1.0).astype(np.float32))
        upsampled = soxr.resample(voice(rng, 1.0, RATE // 2), RATE // 2, RATE, quality="HQ")
        assert is_narrow((codes(upsampled) / 32768).astype(np.float32))
    low = 0.3 * np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE) + 0.1 * np.sin(
        2 * np.pi * 660 * np.arange(RATE) / RATE
    )
    b, a = butter(1, 0.05)
    assert not is_narrow((codes(low) / 32768).astype(np.float32)), "a flute is no telephone"
    assert not is_narrow((codes(0.3 * lfilter(b, a, rng.standard_normal(RATE))) / 32768).astype(np.float32))
    assert not is_narrow(np.zeros(4000, np.float32))


def test_four_numbers_tell_what_was_planted_in_them_and_nothing_else():
    rng = np.random.default_rng(2)
    rows, who, word = [], [], []
    for _ in range(600):
        speaker = int(rng.integers(6))
        clip = measure(codes(voice(rng, rng.uniform(0.3, 0.5), level=0.02 * 1.6**speaker)), RATE)
        rows.append(clip)
        who.append(f"s{speaker}")
        word.append(str(int(rng.integers(10))))
    numbers = four_numbers(rows)
    group, label = told(numbers, who), told(numbers, word)
    assert group["warning"]
    assert group["accuracy"] > 0.9
    assert group["low"] < group["accuracy"] <= group["high"]
    assert group["majority"] == pytest.approx(max(who.count(s) for s in set(who)) / 600, abs=1e-4)
    assert not label["warning"]
    assert label["low"] < 0.16
    assert told(numbers, [None] * 600) is None
    assert told(numbers[:12], ["a"] * 9 + ["b"] * 3) is None, "a class of three is not learned"


def test_wilson_s_interval_is_that_of_its_formula():
    numbers = np.random.default_rng(3).standard_normal((100, 4))
    found = told(numbers, ["a", "b"] * 50)
    p, n, z = found["accuracy"], 100, 1.96
    centre, half = (
        (p + z * z / 2 / n) / (1 + z * z / n),
        z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n),
    )
    assert (found["low"], found["high"]) == pytest.approx((centre - half, centre + half), abs=1e-3)


def collection(root, rows: int = 120) -> None:
    """Speaker b is louder and was recorded at 8 kHz; some clips are clipped, shifted, copied or silent."""
    rng = np.random.default_rng(4)
    held: dict[str, list] = {"audio": [], "speaker": [], "label": []}
    for row in range(rows):
        speaker = "ab"[row % 2]
        wave = voice(rng, rng.uniform(0.3, 0.5), level=0.03 if speaker == "a" else 0.12)
        if speaker == "b":
            wave = soxr.resample(wave, RATE, 8000)
        if row in (2, 4, 6, 8, 10, 12):
            wave = np.clip(wave * 40, -0.99, 0.99)
        if row in (20, 22, 24, 26, 28, 30, 32):
            wave = wave + 0.2
        held["audio"].append(wav(wave, RATE if speaker == "a" else 8000))
        held["speaker"].append(speaker)
        held["label"].append(f"word {int(rng.integers(3))}")
    first, rate = soundfile.read(io.BytesIO(held["audio"][40]))
    held["audio"][42] = wav(0.4 * first, rate, "OGG")  # the same recording, quieter and compressed
    held["audio"][44] = held["audio"][46]
    held["audio"][48] = wav(np.zeros(5000))
    held["audio"][50] = wav(0.0004 * voice(rng, 0.4, level=0.5))
    pq.write_table(pa.table(held), root / "clips.parquet")


def test_a_collection_with_every_fault_is_described(tmp_path):
    collection(tmp_path)
    dataset = open_data(tmp_path / "clips.parquet", max_bad=1.0)
    facts = look(dataset)
    assert json.loads(json.dumps(facts)) == facts
    found = facts["sounds"]
    assert (found["asked"], found["of"]) == (119, 119)
    assert facts["rejected_kinds"] == {"silent": 1}
    assert found["rates"] == {"16000": 59, "8000": 60}
    assert found["channels"] == {"1": 119}
    assert (found["silent"], found["clipped"], found["shifted"], found["narrow"]) == (1, 6, 7, 0)
    assert found["lengths"]["least"] >= 0.29
    assert found["lengths"]["most"] <= 0.51
    assert found["seconds"] == pytest.approx(119 * 0.4, rel=0.05)
    group, label = found["told"]
    assert (group["column"], group["kind"], group["warning"]) == ("speaker", "group", True)
    assert (label["column"], label["kind"], label["warning"]) == ("label", "label", False)
    named = [c["cause"] for c in found["causes"]]
    assert named == ["level tells who", "several rates", "clipped sounds", "an offset"]
    assert "--group speaker" in found["causes"][0]["remedy"]
    assert facts["duplicates"] == {"exact": 1, "near": 1, "asked": 118}
    assert facts["sizes"]["seconds"]["most"] <= 0.51


def test_upsampled_files_among_others_are_named(tmp_path):
    rng = np.random.default_rng(5)
    for number in range(30):
        wave = voice(rng, 0.5)
        if number % 3 == 0:
            wave = soxr.resample(soxr.resample(wave, RATE, 8000), 8000, RATE)
        soundfile.write(tmp_path / f"{number}.wav", wave, RATE)
    found = inspect(open_data(tmp_path))
    assert found["narrow"] == 10
    assert [c["cause"] for c in found["causes"]] == ["upsampled sounds"]


def test_a_clean_collection_has_no_causes():
    rng = np.random.default_rng(6)
    clips = [measure(codes(voice(rng)), RATE) for _ in range(50)]
    found = {
        "asked": 50,
        "rates": {"16000": 50},
        "told": [],
        **{k: sum(getattr(c, k) for c in clips) for k in ("silent", "clipped", "shifted", "narrow")},
    }
    assert causes(found) == []


def test_copies_are_told_from_other_recordings_alike(tmp_path):
    rng = np.random.default_rng(7)
    first, other = voice(rng, 0.5), voice(rng, 0.5)
    tone = lambda f: 0.2 * np.sin(2 * np.pi * f * np.arange(8000) / RATE)  # noqa: E731
    noisy = first + 0.1 * np.std(first) * rng.standard_normal(len(first))
    shifted = np.concatenate([np.zeros(700), first[:-200]])
    rows = [first, -0.3 * first, noisy, shifted, other, first[::-1], tone(300), tone(330)]
    for number, wave in enumerate(rows):
        soundfile.write(tmp_path / f"{number}.wav", wave, RATE)
    dataset = open_data(tmp_path)
    score = sound_verifier(dataset)(np.array([[0, i] for i in range(1, 6)] + [[6, 7]]))
    assert (score > 0.5).tolist() == [True, True, True, False, False, False]
    found = count_duplicates(dataset)
    assert (found.exact, found.near) == (0, 3)
