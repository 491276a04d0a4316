"""Odd, broken and hostile files of sound: read as they should be, or set apart with a reason; never anything else."""

import io
import os
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import RequestError
from selftaught.data import Dataset, open_source, splits
from selftaught.data.bad import Bad
from selftaught.data.pieces import Pieces, pieces_of
from selftaught.data.sounds import Recording, facts, read_sound, sound_format
from selftaught.modalities import open_data

RATE = 16000


def spoken(seconds: float = 0.3, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """(L,) float64: tones below 3 kHz that come and go, at most 0.6."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * f * time + rng.uniform(0, 6)) for f in rng.uniform(200, 3000, 5))
    return 0.1 * tones * (1 + np.sin(2 * np.pi * 3 * time)) / 2


def written(wave: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    held = io.BytesIO()
    soundfile.write(held, wave, rate, format=kind, subtype=subtype)
    return held.getvalue()


def allocated(function) -> tuple[int, object]:
    """(the most bytes that numpy and Python held while it ran, what it gave)."""
    tracemalloc.start()
    try:
        found = function()
        return tracemalloc.get_traced_memory()[1], found
    finally:
        tracemalloc.stop()


def with_av(wave: np.ndarray, container: str, codec: str, rate: int = RATE) -> bytes:
    av = pytest.importorskip("av")
    held = io.BytesIO()
    with av.open(held, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.layout = "mono"
        samples = (wave * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    return held.getvalue()


def loss(found: np.ndarray, wanted: np.ndarray) -> float:
    """Noise beside the signal in dB, after the shift (of up to 3000 samples) that suits best."""
    a, b = found.astype(np.float64) / 32768, wanted
    n = min(len(a), len(b))
    size = 2 * max(len(a), len(b))
    product = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    shift = int(np.argmax(product))
    shift = shift - size if shift > size // 2 else shift
    assert abs(shift) <= 3000
    a, b = (a[shift:], b) if shift >= 0 else (a, b[-shift:])
    n = min(len(a), len(b))
    assert n > 0.8 * min(len(found), len(wanted))
    return 10 * np.log10(np.mean((a[:n] - b[:n]) ** 2) / np.mean(b[:n] ** 2))


@pytest.mark.parametrize(
    ("kind", "subtype", "worst"),
    [
        ("WAV", "PCM_U8", -25), ("WAV", "PCM_16", -70), ("WAV", "PCM_24", -70), ("WAV", "PCM_32", -70), ("WAV", "FLOAT", -70), ("WAV", "DOUBLE", -70),
        ("WAV", "ULAW", -25), ("WAV", "ALAW", -25), ("WAV", "IMA_ADPCM", -15), ("FLAC", "PCM_16", -70), ("FLAC", "PCM_24", -70), ("OGG", "VORBIS", -10),
        ("MP3", "MPEG_LAYER_III", -10), ("AIFF", "PCM_16", -70), ("AU", "PCM_16", -70), ("CAF", "PCM_16", -70), ("W64", "PCM_16", -70), ("RF64", "PCM_24", -70),
    ],
)  # fmt: skip
def test_every_kind_of_file_is_read_as_what_was_written(kind, subtype, worst):
    wave = spoken()
    data = written(wave, RATE, kind, subtype)
    found = read_sound(data, RATE)
    assert found.dtype == np.int16
    assert loss(found, wave) < worst
    assert len(found) == pytest.approx(len(wave), abs=1200)
    assert sound_format(data[:32]) is not None, "not seen by its first bytes"
    said = facts(data)
    assert (said.rate, said.channels) == (RATE, 1)


def test_sixteen_bits_of_one_channel_come_sample_for_sample():
    samples = np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)
    for kind in ("WAV", "FLAC", "AIFF"):
        assert np.array_equal(read_sound(written(samples, RATE, kind, "PCM_16"), RATE), samples)


def test_channels_are_averaged_and_rates_resampled():
    wave = spoken(0.4, 192_000)
    six = np.stack([wave * share for share in (1, 0.5, 2, 0, 1, 1.5)], 1)
    found = read_sound(written(six, 192_000, "WAV", "PCM_24"), RATE)
    assert facts(written(six, 192_000, "WAV", "PCM_24")).channels == 6
    assert len(found) == 6400
    assert loss(found, spoken(0.4, RATE)) < -35, "the ends, which are cut off sharply, are all the difference"
    up = read_sound(written(spoken(0.4, 8000), 8000), RATE)
    assert len(up) == 6400
    above = np.abs(np.fft.rfft(up[1000:5400] * np.hanning(4400)))
    assert above[1300:].max() < 1e-3 * above.max(), "linear interpolation would leave images above 4 kHz"


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("webm", "libopus"), ("flac", "flac")])
def test_what_libsndfile_does_not_know_goes_through_pyav(container, codec):
    rate = 48_000 if codec == "libopus" else RATE
    wave = spoken(0.5, rate)
    data = with_av(wave, container, codec, rate)
    found = read_sound(data, RATE)
    assert loss(found, spoken(0.5, RATE)) < -10
    assert facts(data).seconds == pytest.approx(0.5, abs=0.15)
    part = read_sound(Recording(data=data, start=rate // 4, frames=rate // 10), RATE)
    assert len(part) == RATE // 10


def test_without_pyav_the_reason_names_it_and_without_soundfile_the_extra_is_named(monkeypatch):
    data = with_av(spoken(), "mp4", "aac")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(Bad, match="need the package av"):
        read_sound(data, RATE)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(RequestError, match=r"soundfile.*\n.*selftaught\[audio\]"):
        read_sound(written(spoken()), RATE)


def _spoiled(data: bytes, at: int, form: str, value) -> bytes:
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


def _flac_of(total: int) -> bytes:
    """A FLAC whose header says that it holds `total` samples; it holds 4800."""
    data = written(spoken(), RATE, "FLAC")
    bits = int.from_bytes(data[18:26], "big")
    return data[:18] + (bits >> 36 << 36 | total).to_bytes(8, "big") + data[26:]


def _bad() -> dict[str, tuple[bytes, str]]:
    wav, flac, ogg, mp3 = (written(spoken(), RATE, kind) for kind in ("WAV", "FLAC", "OGG", "MP3"))
    floats = {name: spoken() for name in ("nan", "inf", "volts")}
    floats["nan"][100], floats["inf"][100], floats["volts"][100] = np.nan, -np.inf, 200.0
    return {
        "nothing": (b"", "empty file"),
        "no samples": (wav[:40] + bytes(4), "empty sound"),
        "half a header": (wav[:30], "not a sound that can be read"),
        "a third of the samples": (wav[: len(wav) // 3], "truncated"),
        "half a flac": (flac[: len(flac) // 2], "broken|truncated"),
        "half an ogg": (ogg[: len(ogg) // 2], "not a sound|broken|truncated"),
        "half an mp3": (mp3[: len(mp3) // 2], "truncated"),
        "a flac that holds less than it says": (_flac_of(20_000), "broken|truncated"),
        "a flac that says 2^36": (_flac_of((1 << 36) - 1), "broken|truncated"),
        "text": (b"this is no sound at all, whatever it is called\n" * 50, "not a sound that can be read"),
        "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(500), "not a sound that can be read"),
        "noughts": (bytes(5000), "not a sound that can be read"),
        "silence": (written(np.zeros(4000)), "silent"),
        "an offset alone": (written(np.full(4000, 0.25)), "silent"),
        "a rate of two thousand million": (_spoiled(wav, 24, "<I", 2_000_000_000), "no rate of sound"),
        "a rate of one": (_spoiled(wav, 24, "<I", 1), "no rate of sound"),
        "no rate": (_spoiled(wav, 24, "<I", 0), "not a sound|no rate"),
        "no channels": (_spoiled(wav, 22, "<H", 0), "not a sound"),
        "not a number": (written(floats["nan"], RATE, "WAV", "FLOAT"), "not finite"),
        "infinite": (written(floats["inf"], RATE, "WAV", "DOUBLE"), "not finite"),
        "volts": (written(floats["volts"], RATE, "WAV", "FLOAT"), "not in -1..1"),
    }  # fmt: skip


@pytest.mark.parametrize("name", _bad())
def test_broken_files_are_set_apart_with_a_reason(name, tmp_path):
    data, reason = _bad()[name]
    with pytest.raises(Bad, match=reason):
        read_sound(data, RATE)
    path = tmp_path / "x.wav"
    path.write_bytes(data)
    with pytest.raises(Bad, match=reason):
        read_sound(Recording(path), RATE)


def test_floats_beyond_full_scale_are_cut_and_clipped_files_are_read():
    loud = 3 * spoken()
    found = read_sound(written(loud, RATE, "WAV", "FLOAT"), RATE)
    assert np.array_equal(found, np.clip(np.rint(loud.astype(np.float32) * 32768), -32768, 32767).astype(np.int16))


def test_a_header_that_claims_four_gigabytes_costs_what_is_there():
    data = written(spoken())
    for claim in (0xFFFFFFFF, 0xFFFFFFF0, 0x7FFFFFFF):
        bomb = _spoiled(data, 40, "<I", claim)
        used, found = allocated(lambda bomb=bomb: read_sound(bomb, RATE))
        assert len(found) == 4800, "a stream's header says so, and what came is right"
        assert used < 20 << 20


def test_a_flac_of_unknown_length_is_read_to_its_end():
    pytest.importorskip("av")
    data = _flac_of(0)
    assert len(read_sound(data, RATE)) == 4800
    assert facts(data).frames <= 4800, "no length is made up"


def test_forty_channels_through_pyav_end_neither_in_a_crash_nor_in_noise():
    av = pytest.importorskip("av")
    held = io.BytesIO()
    waves = np.repeat(spoken(0.2)[:, None], 40, 1)
    with av.open(held, "w", format="mov") as file:
        stream = file.add_stream("pcm_s16le", rate=RATE)
        stream.layout = "40 channels"
        frame = av.AudioFrame(format="s16", layout="40 channels", samples=len(waves))
        frame.planes[0].update((waves * 32767).astype("<i2").tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    assert facts(held.getvalue()).channels == 40
    assert loss(read_sound(held.getvalue(), RATE), spoken(0.2)) < -60


def test_a_playlist_called_wav_opens_no_other_file(tmp_path):
    pytest.importorskip("av")
    secret = tmp_path / "secret.wav"
    secret.write_bytes(written(spoken(2.0)))
    inside = tmp_path / "in"
    inside.mkdir()
    scripts = {
        "hls.wav": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "concat.wav": f"ffconcat version 1.0\nfile '{secret}'\n",
        "dash.wav": f'<?xml version="1.0"?><MPD><Period><AdaptationSet><Representation><BaseURL>{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    }
    for name, text in scripts.items():
        (inside / name).write_text(text)
        for payload in (Recording(inside / name), text.encode()):
            with pytest.raises(Bad, match="not a sound"):
                read_sound(payload, RATE)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(["WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF"]), st.floats(0.0, 1.0),
    st.lists(st.tuples(st.floats(0.0, 0.999), st.integers(0, 255)), max_size=6), st.booleans(),
)  # fmt: skip
def test_whatever_is_cut_or_changed_a_sound_or_a_reason_comes_out(kind, share, flips, head):
    data = bytearray(_CLEAN.setdefault(kind, written(spoken(0.1), RATE, kind)))
    for place, value in flips:
        data[int(place * (100 if head else len(data)))] = value
    data = data[: max(1, round(share * len(data)))] if share > 0.1 else data
    try:
        found = read_sound(bytes(data), RATE, 100_000)
    except Bad:
        pass
    else:
        assert found.dtype == np.int16
        assert 0 < len(found) <= 100_000
    try:
        facts(bytes(data))
    except Bad:
        return


_CLEAN: dict[str, bytes] = {}


def test_no_descriptor_is_left_open(tmp_path):
    for name, (data, _) in _bad().items():
        (tmp_path / f"{name}.wav").write_bytes(data)
    (tmp_path / "good.wav").write_bytes(written(spoken()))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        for path in sorted(tmp_path.iterdir()):
            try:
                read_sound(Recording(path), RATE)
            except Bad:
                continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_links_and_devices_are_not_opened(tmp_path):
    (tmp_path / "real.wav").write_bytes(written(spoken()))
    (tmp_path / "link.wav").symlink_to(tmp_path / "real.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    for name in ("link.wav", "pipe.wav", "nowhere.wav"):
        with pytest.raises(Bad, match=r"unreadable|not a regular file"):
            read_sound(Recording(tmp_path / name), RATE)


def test_a_folder_with_all_of_it_is_opened_and_what_is_wrong_is_counted(tmp_path):
    for name, (data, _) in _bad().items():
        (tmp_path / f"{name}.wav").write_bytes(data)
    for number in range(12):
        (tmp_path / f"good {number}.flac").write_bytes(written(spoken(seed=number), RATE, "FLAC"))
    dataset = open_data(tmp_path, max_bad=1.0)
    assert (dataset.modality.name, len(dataset), len(dataset.rejected)) == ("sound", 12, len(_bad()))
    kinds = dataset.rejected.kinds()
    assert kinds["silent"] == 2
    assert kinds["truncated"] >= 2
    assert dataset.modality.rate == RATE
    assert int(dataset.fetch([0])["length"]) == 4800


# -- long recordings ------------------------------------------------------------------------------------------------------


def long_folder(root: Path, rate: int = 1000) -> None:
    """Eight hours (sparse, with sound in every eighth half minute), three minutes and a bit, twenty seconds, and one that is broken; 8 bits at 1 kHz."""
    head = written(np.zeros(1), rate, "WAV", "PCM_U8")[:40]
    samples = 8 * 3600 * rate
    sound = (128 + 60 * np.sin(np.arange(30 * rate))).astype(np.uint8).tobytes()
    with (root / "night.wav").open("wb") as file:
        file.write(head[:4] + struct.pack("<I", samples + 36) + head[8:] + struct.pack("<I", samples))
        file.truncate(44 + samples)
        for piece in range(7, 960, 8):
            file.seek(44 + piece * 30 * rate)
            file.write(sound)
    (root / "walk.wav").write_bytes(written(spoken(185, rate), rate, "WAV", "PCM_U8"))
    (root / "short.wav").write_bytes(written(spoken(20, rate), rate))
    (root / "broken.wav").write_bytes(b"RIFF and nothing more")


def test_an_eight_hour_recording_is_pieces_of_thirty_seconds_that_stay_together(tmp_path):
    long_folder(tmp_path)
    dataset = open_data(tmp_path, max_bad=1.0, rate=1000)
    names = dataset.names()
    night = [f"night.wav#{i}" for i in range(7, 960, 8)]
    assert [n for n in names if n.startswith("night")] == night, "the rest of the night is silent"
    assert [n for n in names if n.startswith("walk")] == [f"walk.wav#{i}" for i in range(6)]
    assert dataset.rejected.kinds()["silent"] == 840
    lengths = dict(zip(names, dataset.lengths.tolist(), strict=True))
    assert lengths["walk.wav#0"] == 30_000
    assert lengths["walk.wav#5"] == 35_000, "a short rest goes with the piece before it"
    assert lengths["short.wav"] == 20_000
    groups = dataset.groups()
    for first in ("night", "walk", "short"):
        assert len({int(g) for g, n in zip(groups, names, strict=True) if n.startswith(first)}) == 1
    found = splits.split(len(dataset), {"a": 0.5, "b": 0.5}, seed=1, groups=groups)
    assert not set(groups[found["a"]]) & set(groups[found["b"]])
    whole = read_sound(Recording(tmp_path / "walk.wav"), 1000)
    order = [names.index(f"walk.wav#{i}") for i in range(6)]
    joined = np.concatenate([dataset.rows([place]).values.numpy() for place in order])
    assert np.array_equal(joined, whole), "the pieces are the recording"


def test_pieces_come_in_any_order_and_know_what_is_said_of_their_recording(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "one.wav").write_bytes(written(spoken(100, 1000), 1000))
    (tmp_path / "b" / "two.wav").write_bytes(written(spoken(10, 1000, 1), 1000))
    source = pieces_of(open_source(tmp_path), "sound")
    assert isinstance(source, Pieces)
    assert source.values("label").tolist() == ["a"] * 4 + ["b"]
    assert source.values("recording").tolist() == ["a/one.wav"] * 4 + ["b/two.wav"]
    order = [4, 1, 0, 3, 2, 1]
    mixed = [read_sound(p, 1000) for p in source.payloads("sound", order)]
    plain = [read_sound(p, 1000) for p in source.payloads("sound")]
    assert all(np.array_equal(a, plain[i]) for a, i in zip(mixed, order))
    assert [len(p) for p in plain] == [30_000, 30_000, 30_000, 10_000, 10_000]
    only = open_source(tmp_path / "b")
    assert pieces_of(only, "sound") is only


def test_a_header_that_claims_a_century_is_one_row_and_set_apart(tmp_path):
    data = _flac_of((1 << 36) - 1)
    bits = int.from_bytes(data[18:26], "big")
    slow = data[:18] + ((bits & ((1 << 44) - 1)) | 100 << 44).to_bytes(8, "big") + data[26:]  # 100 Hz: 22 years
    (tmp_path / "age.flac").write_bytes(slow)
    assert facts(slow).rate == 100
    for number in range(6):
        (tmp_path / f"{number}.flac").write_bytes(written(spoken(seed=number), RATE, "FLAC"))
    (tmp_path / "long.wav").write_bytes(written(spoken(70, 1000), 1000))
    used, dataset = allocated(lambda: open_data(tmp_path, max_bad=1.0))
    assert len(dataset.rejected) == 1
    assert len(dataset) == 6 + 3
    assert used < 200 << 20


def test_broken_rows_beyond_what_is_allowed_are_an_error(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.wav").write_bytes(written(spoken(seed=number)))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    source = open_source(tmp_path)
    with pytest.raises(Exception, match="max-bad"):
        Dataset.open(source, "sound", open_data(tmp_path, max_bad=1.0).modality)
