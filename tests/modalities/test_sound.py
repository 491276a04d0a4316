"""Sound: rates, what is kept of a file, ragged rows, targets, the raw control, long recordings, saving and loading."""

import io

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught import modalities
from selftaught.core import DataError, Draw, Facts, ModelError, Ragged, RequestError, View
from selftaught.data.arrays import of_memory
from selftaught.data.bad import Bad
from selftaught.data.folders import Folder, scan
from selftaught.data.sounds import Recording, facts, read_sound, sound_format
from selftaught.modalities._voices import as_wav
from selftaught.modalities.sound import Sound

CLIPS, FACTORS = Sound.toy(40, 0)


@pytest.fixture(scope="module")
def sound() -> Sound:
    return Sound.fit(of_memory(CLIPS), "sound")


def batch(sound: Sound, clips: list) -> View:
    stored = [torch.from_numpy(sound.decode(c)) for c in clips]
    return sound.collate(Ragged(torch.cat(stored), torch.tensor([0, *map(len, stored)]).cumsum(0)))


def tone(frequency: float, seconds: float, rate: int, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def encoded(wave: np.ndarray, rate: int, form: str = "WAV", subtype: str | None = None) -> bytes:
    held = io.BytesIO()
    soundfile.write(held, wave, rate, format=form, subtype=subtype)
    return held.getvalue()


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("CAF", "PCM_16"), ("AU", "PCM_16")],
)
def test_sixteen_bits_at_the_kept_rate_come_sample_for_sample(form, subtype):
    wave = np.random.default_rng(0).integers(-32768, 32768, 1000).astype(np.int16)
    data = encoded(wave, 8000, form, subtype)
    assert sound_format(data[:32]) == form
    assert np.array_equal(read_sound(data, 8000), wave)


@pytest.mark.parametrize(
    ("form", "subtype", "error"),
    [("OGG", "VORBIS", 0.05), ("MP3", None, 0.05), ("WAV", "FLOAT", 1e-4), ("WAV", "PCM_24", 1e-4)],
)
def test_a_tone_in_two_channels_at_another_rate_stays_that_tone(form, subtype, error):
    left = tone(440, 0.5, 44100)
    data = encoded(np.stack([left, 0 * left], 1), 44100, form, subtype)
    assert facts(data).rate == 44100
    assert facts(data).channels == 2
    found = read_sound(data, 16000).astype(float) / 32768
    wanted = tone(440, len(found) / 16000, 16000, 0.25)[: len(found)]
    middle = slice(2000, 6000)
    best = (
        min(np.abs(np.roll(found, -shift)[middle] - wanted[middle]).max() for shift in range(-1200, 1200))
        if form == "MP3"
        else np.abs(found[middle] - wanted[middle]).max()
    )
    assert best < error
    assert abs(len(found) - 8000) < 2000 if form == "MP3" else len(found) == 8000


def test_what_says_nothing_is_set_apart_with_its_reason():
    for data, reason in (
        (encoded(np.zeros(100), 8000), "silent"), (encoded(np.empty(0), 8000), "empty"), (b"RIFF", "not a sound"),
        (encoded(np.array([0, np.nan, 1.0]), 8000, "WAV", "FLOAT"), "not finite"), (b"", "empty"),
        (encoded(np.array([0, 20.0, 1.0]), 8000, "WAV", "FLOAT"), "not in -1..1"),
    ):  # fmt: skip
        with pytest.raises(Bad, match=reason):
            read_sound(data, 8000)


def test_the_rate_is_the_files_own_up_to_16_khz_and_arrays_need_one():
    for rate, kept in ((8000, 8000), (11025, 11025), (48000, 16000)):
        clips = [encoded(tone(300, 0.1 + 0.01 * i, rate), rate) for i in range(5)]
        assert Sound.fit(of_memory(clips), "data" if "data" in of_memory(clips).columns else "sound").rate == kept
    arrays = [tone(300, 0.1 + 0.01 * i, 8000).astype(np.float32) for i in range(5)]
    data = modalities.open_data(arrays, modality="sound", rate=8000)
    assert (data.modality.rate, len(data)) == (8000, 5)
    assert data.fetch([2])["length"].tolist() == [960]
    with pytest.raises(RequestError, match="Arrays say no rate"):
        modalities.open_data(arrays, modality="sound")
    with pytest.raises(RequestError, match="has no rate"):
        modalities.open_data(["a text", "another one"], rate=8000)
    assert modalities.open_data(arrays).modality.name == "series"


def test_integer_arrays_are_samples_and_not_numbers_beyond_full_scale():
    wave = np.random.default_rng(0).integers(-3000, 3000, 500).astype(np.int16)
    held = Sound(rate=8000)
    assert np.array_equal(held.decode(wave), wave)
    assert np.array_equal(held.decode(wave.astype(np.float32)), wave)
    assert np.abs(held.decode(wave.astype(np.float32) / 32768) - wave).max() <= 1


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 700), st.integers(0, 5))
def test_target_raw_and_views_do_not_see_padding(padding, row):
    held = Sound.fit(of_memory(CLIPS), "sound")
    view = held.plain()(batch(held, CLIPS[: row + 1]), Draw(torch.arange(row + 1)))
    longer = view.with_parts(wave=torch.nn.functional.pad(view["wave"], (0, padding)))
    for found, wanted in ((held.raw(longer), held.raw(view)), (held.mel(longer)[1], held.mel(view)[1])):
        torch.testing.assert_close(found, wanted)
    one, other = held.target(longer, None), held.target(view, None)
    count = other.values.shape[1]
    torch.testing.assert_close(one.values[:, :count], other.values)
    assert torch.equal(one.valid[:, :count], other.valid)
    assert not one.valid[:, count:].any()
    for make in (held.mild, held.augment, held.local):
        draw = Draw(torch.arange(row + 1), 3)
        alone = make(Facts(rows=6, modality=held))(batch(held, CLIPS[row : row + 1]), Draw(torch.tensor([row]), 3))
        whole = make(Facts(rows=6, modality=held))(batch(held, CLIPS[: row + 1]), draw)
        length = int(alone["length"][0])
        assert int(whole["length"][row]) == length
        part = next(k for k in ("wave", "mel") if k in alone.parts)
        torch.testing.assert_close(whole[part][row, :length], alone[part][0, :length])


def test_targets_are_the_normalised_energies_of_each_token(sound):
    view = sound.plain()(batch(sound, CLIPS[:3]), Draw(torch.arange(3)))
    mel, frames = sound.front(view["wave"], view["length"])
    target = sound.target(view, None)
    assert target.width == 4 * sound.bands
    for row in range(3):
        for token in range(int(frames[row]) // 4):
            wanted = (mel[row, 4 * token : 4 * token + 4] - torch.tensor(sound.mean)) / torch.tensor(sound.std)
            torch.testing.assert_close(target.values[row, token], wanted.flatten())
        assert int(target.valid[row].sum()) == (int(frames[row]) + 2) // 4


def test_the_raw_control_averages_eighths(sound):
    view = sound.plain()(
        batch(sound, [as_wav(0.1 * np.sin(np.arange(80 * 16 * 2) * 0.5), 8000)]), Draw(torch.arange(1))
    )
    mel, frames = sound.mel(view)
    assert int(frames[0]) == 32
    wanted = mel[0].view(8, 4, -1).mean(1).T.flatten()
    torch.testing.assert_close(sound.raw(view)[0], wanted)


def test_long_recordings_become_pieces_of_one_group(tmp_path):
    rng = np.random.default_rng(0)
    long = rng.integers(-2000, 2000, 8000 * 95).astype(np.int16)
    for name, wave in (("a.wav", long), ("b.wav", long[: 8000 * 3]), ("c.wav", long[: 8000 * 62])):
        soundfile.write(tmp_path / name, wave, 8000)
    said: list[str] = []
    data = modalities.open_data(tmp_path, say=said.append)
    assert data.names() == ["a.wav#0", "a.wav#1", "a.wav#2", "b.wav", "c.wav#0", "c.wav#1"]
    assert data.lengths.tolist() == [240000, 240000, 280000, 24000, 240000, 256000]
    assert np.array_equal(data.rows([1]).values.numpy(), long[240000:480000])
    assert np.array_equal(data.rows([2]).values.numpy(), long[480000:])
    groups = data.groups()
    assert [len(set(groups[a:b])) for a, b in ((0, 3), (3, 4), (4, 6))] == [1, 1, 1]
    assert len(set(groups.tolist())) == 3
    assert any("2 of 3 recordings are longer than 60 s" in text for text in said)


def test_pieces_read_in_any_order_give_the_same(tmp_path):
    rng = np.random.default_rng(1)
    for name, seconds in (("x.flac", 130), ("y.flac", 70)):
        soundfile.write(tmp_path / name, rng.integers(-99, 99, 4000 * seconds).astype(np.int16), 4000)
    source = Sound.divide(Folder(scan(tmp_path), "sound"), "sound")
    order = np.random.default_rng(2).permutation(source.rows)
    straight = [read_sound(p, 4000) for p in source.payloads("sound")]
    for place, payload in zip(order, source.payloads("sound", order), strict=True):
        assert isinstance(payload, Recording)
        assert np.array_equal(read_sound(payload, 4000), straight[place])


def test_saving_and_loading_gives_the_same_modality(sound, tmp_path):
    sound.save(tmp_path)
    assert modalities.load(tmp_path) == sound
    (tmp_path / "preprocessor.json").write_text('{"name": "sound", "rate": -1}')
    with pytest.raises(ModelError, match="broken"):
        modalities.load(tmp_path)


def test_wrong_requests_name_the_value():
    for options, text in (({"size": 1}, "--size 1"), ({"rate": 10}, "--rate 10")):
        with pytest.raises(RequestError, match=text):
            Sound.fit(of_memory(CLIPS), "sound", **options)
    with pytest.raises(DataError, match="no sound that can be read"):
        Sound.fit(of_memory([b"RIFF1234WAVEnothing"] * 3), "sound")
