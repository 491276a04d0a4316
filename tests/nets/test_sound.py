"""Encoders of sound and their front end: equal to a loop in float64 and to transformers', blind to padding, masks, stages."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import RequestError, View
from selftaught.nets import build
from selftaught.nets.mel import FLOOR, LogMel

KINDS = {
    "sound-transformer": {"width": 16, "depth": 2, "heads": 2},
    "sound-transformer, conv": {"width": 16, "depth": 2, "heads": 2, "stem": "conv"},
    "sound-conv": {"stem": 4, "widths": (4, 6), "blocks": (1, 2), "strides": (2, 1)},
}


def clips(*lengths: int, seed: int = 0) -> View:
    draw = torch.Generator().manual_seed(seed)
    rows = [0.1 * torch.randn(n, generator=draw) for n in lengths]
    return View("sound", parts={"wave": torch.nn.utils.rnn.pad_sequence(rows, True), "length": torch.tensor(lengths)})


def made(kind: str, **options):
    torch.manual_seed(0)
    return build(kind.split(",")[0], rate=8000, bands=16, **KINDS[kind], **options)


def by_hand(wave: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """Kaldi's log-mel energies in float64, frame by frame."""
    window, hop = round(0.025 * rate), round(0.01 * rate)
    size = 2 ** int(np.ceil(np.log2(window)))
    mel = lambda f: 1127 * np.log(1 + f / 700)  # noqa: E731
    edges = np.linspace(mel(20), mel(rate / 2), bands + 2)
    out = []
    for start in range(0, len(wave), hop):
        frame = np.zeros(window)
        piece = wave[start : start + window]
        frame[: len(piece)] = piece
        frame -= frame.mean()
        emphasised = np.concatenate([[frame[0] * 0.03], frame[1:] - 0.97 * frame[:-1]])
        power = np.abs(np.fft.rfft(emphasised * np.hanning(window), size)) ** 2
        row = []
        for band in range(bands):
            left, middle, right = edges[band : band + 3]
            total = 0.0
            for index in range(size // 2):
                place = mel(index * rate / size)
                if left < place < right:
                    total += power[index] * (
                        (place - left) / (middle - left) if place <= middle else (right - place) / (right - middle)
                    )
            row.append(np.log(max(total, FLOOR)))
        out.append(row)
    return np.array(out)


@pytest.mark.parametrize(("rate", "length"), [(8000, 731), (16000, 1600), (8000, 3), (22050, 2000)])
def test_the_front_end_equals_a_loop_in_float64(rate, length):
    wave = 0.1 * np.random.default_rng(0).standard_normal(length)
    front = LogMel(rate, 20)
    mel, frames = front.double()(torch.from_numpy(wave)[None], torch.tensor([length]))
    wanted = by_hand(wave, rate, 20)
    assert int(frames[0]) == len(wanted)
    np.testing.assert_allclose(mel[0].numpy(), wanted, atol=3e-4)  # the filters are in single precision


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_the_front_end_equals_transformers_to_a_thousandth():
    from transformers import ASTFeatureExtractor

    wave = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    theirs = ASTFeatureExtractor(do_normalize=False, max_length=98)(wave, sampling_rate=16000, return_tensors="pt")
    mel, _ = LogMel(16000, 128)(torch.from_numpy(wave)[None], torch.tensor([16000]))
    assert (mel[0, :98] - theirs["input_values"][0]).abs().max() < 1e-3


def test_integers_are_read_as_shares_of_full_scale():
    wave = torch.randint(-3000, 3000, (2, 900), dtype=torch.int16)
    length, front = torch.tensor([900, 500]), LogMel(8000, 16)
    torch.testing.assert_close(front(wave, length)[0], front(wave.float() / 32768, length)[0])


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(sorted(KINDS)), st.integers(1, 500), st.booleans(), st.booleans())
def test_padding_changes_nothing(kind, padding, training, as_mel):
    encoder = made(kind).double().train(training)
    view = clips(1900, 800, 1)
    view = view.with_parts(wave=view["wave"].double())
    longer = view.with_parts(wave=torch.nn.functional.pad(view["wave"], (0, padding), value=0.3))
    if as_mel:
        view, longer = (
            View("sound", parts=dict(zip(("mel", "length"), encoder.hearing.front(v["wave"], v["length"]))))
            for v in (view, longer)
        )
    wanted = encoder(view)
    torch.testing.assert_close(encoder(longer), wanted, atol=1e-10, rtol=1e-10)
    for stage, other in zip(encoder.features(view), encoder.features(longer)):
        count = stage.values.shape[1]
        assert torch.equal(other.valid[:, :count], stage.valid)
        torch.testing.assert_close(
            other.values[:, :count][stage.valid], stage.values[stage.valid], atol=1e-10, rtol=1e-10
        )
    if not training:
        for row, length in enumerate((1900, 800, 1)):
            if not as_mel:
                alone = View(
                    "sound",
                    parts={"wave": view["wave"][row : row + 1, :length], "length": view["length"][row : row + 1]},
                )
                torch.testing.assert_close(encoder(alone)[0], wanted[row], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_waves_and_their_energies_are_one(kind):
    encoder = made(kind).eval()
    view = clips(1900, 800)
    mel, frames = encoder.hearing.front(view["wave"], view["length"])
    torch.testing.assert_close(encoder(View("sound", parts={"mel": mel, "length": frames})), encoder(view))


def test_batch_norm_counts_true_frames_only():
    encoder = made("sound-conv").double()
    view = clips(1900, 800)
    view = view.with_parts(wave=view["wave"].double())
    encoder(view)
    x, frames = encoder.hearing(view)
    raw = encoder.conv(x[:, None])
    true = torch.cat([raw[row, :, : int(frames[row])].flatten(1) for row in range(2)], 1)
    torch.testing.assert_close(encoder.norm.running_mean, 0.1 * true.mean(1))
    torch.testing.assert_close(encoder.norm.running_var, 0.9 + 0.1 * true.var(1))


@pytest.mark.parametrize("kind", ["sound-transformer", "sound-transformer, conv"])
def test_a_masked_token_says_nothing_of_what_it_hides(kind):
    encoder = made(kind).eval()
    view = clips(1900)
    other = view.with_parts(wave=view["wave"].clone())
    other["wave"][:, 640:800] += 1  # within the third token's frames and those that reach into it
    masked = torch.zeros(1, 6, dtype=torch.bool)
    masked[:, 1:3] = True
    torch.testing.assert_close(encoder(view.with_parts(masked=masked)), encoder(other.with_parts(masked=masked)))
    assert not torch.allclose(encoder(view), encoder(other))


def test_causal_tokens_do_not_hear_what_comes():
    encoder = made("sound-transformer", causal=True).eval()
    view = clips(1900)
    other = view.with_parts(wave=view["wave"].clone())
    other["wave"][:, 1400:] += 1
    ours, theirs = (encoder.trunk(encoder.tokenize(v)).values for v in (view, other))
    torch.testing.assert_close(ours[:, :3], theirs[:, :3])
    assert not torch.allclose(ours[:, 4:], theirs[:, 4:])


def test_what_does_not_fit_is_said():
    encoder = made("sound-conv")
    with pytest.raises(RequestError, match="20 bands meet an encoder of 16"):
        encoder(View("sound", parts={"mel": torch.zeros(1, 5, 20), "length": torch.tensor([5])}))
    with pytest.raises(RequestError, match="another kind"):
        encoder(View("image", parts={"pixels": torch.zeros(1, 3, 8, 8)}))
    with pytest.raises(ValueError, match="not 3"):
        made("sound-transformer, conv", stack=3)
    with pytest.raises(ValueError, match="what comes"):
        made("sound-transformer, conv", causal=True)
    with pytest.raises(RequestError, match="3 means"):
        build("sound-conv", bands=16, mean=(0.0,) * 3)


NARROW = """
import torch
from selftaught.core import View
from selftaught.nets import build
torch.set_num_threads(1)
for stem, widths in ((4, (4, 4)), (4, (8, 8)), (6, (6, 7))):
    net = build("sound-conv", rate=8000, bands=32, stem=stem, widths=widths, blocks=(1, 1), strides=(2, 2)).to(memory_format=torch.channels_last)
    for length in (4000, 3111):
        for _ in range(3):
            wave = (1000 * torch.randn(6, length)).to(torch.int16)
            net(View("sound", parts={"wave": wave, "length": torch.full((6,), length)})).square().sum().backward()
assert all(torch.isfinite(p.grad).all() for p in net.parameters())
"""


def test_few_channels_do_not_crash_the_backward_pass():
    """Torch 2.13 dies of it (a signal, not an exception), so another process tries."""
    done = subprocess.run([sys.executable, "-c", NARROW], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.returncode == 0, done.stderr
