"""The front end beside transformers' computations of the same (test_sound has it beside loops), and beside a clip's padding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ASTFeatureExtractor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from selftaught.nets.mel import FLOOR, LogMel, filterbank


def clip(length: int, seed: int = 0) -> np.ndarray:
    """(L,) float32: a voice-like sweep with noise and an offset."""
    rng = np.random.default_rng(seed)
    time = np.arange(length) / 16000
    return (0.3 * np.sin(2 * np.pi * (200 + 900 * time) * time) + 0.02 * rng.standard_normal(length) + 0.05).astype(
        np.float32
    )


pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter")


@pytest.mark.parametrize("length", [400, 5000, 16000])
def test_it_equals_transformers_feature_extractor(length):
    theirs = ASTFeatureExtractor(num_mel_bins=128, max_length=1 + (length - 400) // 160, do_normalize=False)
    wave = clip(length)
    wanted = theirs(wave, sampling_rate=16000, return_tensors="np")["input_values"][0]
    found = LogMel(16000, 128)(torch.from_numpy(wave)[None], torch.tensor([length]))[0][0].numpy()
    assert np.abs(found[: len(wanted)] - wanted).max() < 1e-3, (
        "whole frames; ours has those that reach past the end too"
    )


def test_it_equals_transformers_spectrogram_with_other_settings():
    filters = mel_filter_bank(129, 40, 20, 4000, 8000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True)
    wave = clip(4000)
    wanted = spectrogram(
        wave, window_function(200, "hann", periodic=False), frame_length=200, hop_length=80, fft_length=256, power=2.0, center=False,
        preemphasis=0.97, mel_filters=filters, log_mel="log", mel_floor=FLOOR, remove_dc_offset=True,
    ).T  # fmt: skip
    found = LogMel(8000, 40)(torch.from_numpy(wave)[None], torch.tensor([4000]))[0][0].numpy()
    assert np.abs(found[: len(wanted)] - wanted).max() < 1e-3
    assert np.abs(filterbank(40, 8000, 256, 20.0, 4000.0).numpy() - filters).max() < 1e-6


@pytest.mark.parametrize(("preemphasis", "remove_dc"), [(0.0, True), (0.97, False), (0.0, False)])
def test_without_emphasis_or_offset_removed_it_is_still_transformers_computation(preemphasis, remove_dc):
    wave = clip(2000)
    filters = mel_filter_bank(257, 64, 20, 8000, 16000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True)
    wanted = spectrogram(
        wave, window_function(400, "hann", periodic=False), frame_length=400, hop_length=160, fft_length=512, power=2.0, center=False,
        preemphasis=preemphasis or None, mel_filters=filters, log_mel="log", mel_floor=FLOOR, remove_dc_offset=remove_dc,
    ).T  # fmt: skip
    front = LogMel(16000, 64, preemphasis=preemphasis, remove_dc=remove_dc)
    found = front(torch.from_numpy(wave)[None], torch.tensor([2000]))[0][0].numpy()
    assert np.abs(found[: len(wanted)] - wanted).max() < 1e-3


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 2500), min_size=1, max_size=4), st.integers(0, 900))
def test_a_clip_s_energies_do_not_depend_on_its_padding_or_its_neighbours(lengths, extra):
    front = LogMel(16000, 40)
    wave = torch.randn(len(lengths), max(lengths) + extra) * 0.1  # what lies behind an end is not looked at
    together, frames = front(wave, torch.tensor(lengths))
    for i, length in enumerate(lengths):
        alone, count = front(wave[i : i + 1, :length], torch.tensor([length]))
        assert int(frames[i]) == int(count) == int(front.frames(torch.tensor(length)))
        assert torch.equal(together[i, : int(count)], alone[0])
        assert (together[i, int(count) :] == torch.tensor(front.floor_log)).all()


def test_integers_are_read_as_shares_of_full_scale_and_batches_in_parts_as_a_whole():
    front = LogMel(16000, 40)
    samples = torch.from_numpy((clip(9000) * 32768).astype(np.int16))[None]
    length = torch.tensor([9000])
    assert torch.equal(front(samples, length)[0], front(samples / 32768, length)[0])
    many = samples.repeat(400, 1)
    found, _ = front(many, length.repeat(400))
    assert torch.equal(found, front(samples, length)[0].expand_as(found))


SETTINGS = [(4000, 20, {}), (8000, 40, {}), (11025, 40, {}), (16000, 128, {"window": 0.0251}), (22050, 64, {"hop": 0.0031}), (48000, 80, {"low": 50.0}), (16000, 23, {"high": 4000.0, "remove_dc": False})]  # fmt: skip


@pytest.mark.parametrize(("rate", "bands", "more"), SETTINGS)
def test_the_kernel_equals_the_tensors_expressions(rate, bands, more):
    """Sizes that are powers of two and of four, odd windows, hops that meet no border: what is differentiated goes through torch."""
    front = LogMel(rate, bands, **more)
    generator = torch.Generator().manual_seed(0)
    wave, length = 0.1 * torch.randn(5, 7000, generator=generator), torch.tensor([7000, 1, 6999, front.window - 1, 0])
    found, frames = front(wave, length)
    wanted, _ = front(wave.clone().requires_grad_(), length)
    assert wanted.requires_grad
    assert (found - wanted).abs().max() < 5e-4
    assert frames.tolist() == [-(-n // front.hop) for n in length.tolist()]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_spoils_the_frames_that_hold_it_and_no_others(bad):
    front = LogMel(16000, 40)
    wave = torch.from_numpy(clip(4000))[None].repeat(3, 1)
    clean, _ = front(wave, torch.tensor([4000] * 3))
    wave[1, 2000] = bad
    found, _ = front(wave, torch.tensor([4000] * 3))
    spoilt = ~found.isfinite().all(-1)
    starts = torch.arange(found.shape[1]) * front.hop
    assert torch.equal(spoilt[1], (starts <= 2000) & (starts + front.window > 2000))
    assert not spoilt[[0, 2]].any()
    assert torch.equal(found[~spoilt], clean[~spoilt])


def test_threads_and_the_memory_s_order_change_no_bit(monkeypatch):
    front, length = LogMel(16000, 40), torch.full((40,), 16000)
    wave = torch.randn(16000, 40).T * 0.1  # not contiguous
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone, _ = front(wave, length)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(front(wave.contiguous(), length)[0], alone)


def test_a_front_end_beyond_its_rate_is_refused():
    with pytest.raises(ValueError, match="do not fit a rate"):
        LogMel(8000, 40, high=5000.0)
