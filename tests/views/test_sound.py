"""Views of waves against known answers, and against what stands beside a row."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import Draw, View
from selftaught.views.sound import (
    Band,
    Clipped,
    Equalise,
    Gain,
    Noise,
    Reverberate,
    Speed,
    Stored,
    convolve,
    corruptions,
    energy,
    noise_bank,
)

RATE = 16000
EVERY = {
    "gain": Gain(),
    "equaliser": Equalise(RATE),
    "noise": Noise(colours=(0.0, 1.0, 2.0)),
    "room": Reverberate(RATE, (0.02, 0.1)),
    "sometimes a room": Reverberate(RATE, (0.02, 0.1), chance=0.5),
    "speed": Speed(),
    "band": Band(RATE, 300, 3400),
    "clipped": Clipped(0.2),
    "stored": Stored(),
}


def raw(lengths: list[int], extra: int = 0, seed: int = 0) -> View:
    """int16 noise with a slope, as loud as speech; zeros behind the end."""
    generator = torch.Generator().manual_seed(seed)
    wave = torch.zeros(len(lengths), max(lengths) + extra, dtype=torch.int16)
    for i, length in enumerate(lengths):
        wave[i, :length] = (3000 * torch.randn(length, generator=generator).cumsum(0).sin()).to(torch.int16)
    return View("sound", parts={"wave": wave, "length": torch.tensor(lengths)})


def tone(frequency: float, seconds: float = 0.5, level: float = 0.5, rate: int = RATE) -> View:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    wave = (level * torch.sin(2 * math.pi * frequency * time)).float()[None]
    return View("sound", parts={"wave": wave, "length": torch.tensor([wave.shape[1]])})


def draw(rows: int = 1, seed: int = 0) -> Draw:
    return Draw(torch.arange(rows) * 7 + 3, seed, 5, 1)


def power_at(wave: torch.Tensor, frequency: float, rate: int = RATE) -> float:
    """Power of a sine of that frequency in the middle half of a wave, by a windowed projection in float64."""
    x = wave[len(wave) // 4 : 3 * len(wave) // 4].double().numpy()
    window = np.blackman(len(x))
    turn = np.exp(-2j * np.pi * frequency * np.arange(len(x)) / rate)
    return float(2 * abs((x * window * turn).sum() / window.sum()) ** 2)


@pytest.mark.parametrize("name", EVERY)
@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=4), st.integers(0, 99), st.sampled_from([0, 1, 777]))
def test_a_row_is_heard_the_same_whatever_stands_beside_it(name, lengths, seed, extra):
    view = raw(lengths, extra, seed)
    index = torch.arange(len(lengths)) * 5 + 2
    together = EVERY[name](view, Draw(index, seed, 3, 1))
    for i, length in enumerate(lengths):
        own = View("sound", parts={"wave": view["wave"][i : i + 1, :length], "length": view["length"][i : i + 1]})
        alone = EVERY[name](own, Draw(index[i : i + 1], seed, 3, 1))
        span = int(alone["length"][0])
        assert int(together["length"][i]) == span
        there = together["wave"][i]
        assert torch.allclose(there[:span].double(), alone["wave"][0, :span].double(), atol=1e-5)
        assert not there[span:].any(), "something sounds behind the end"
        assert there.dtype == torch.int16 or (there.abs() <= 1).all()
        assert there.isfinite().all()


@pytest.mark.parametrize("name", EVERY)
def test_silence_stays_silent_and_the_raw_row_as_it_was(name):
    view = View("sound", parts={"wave": torch.zeros(2, 400, dtype=torch.int16), "length": torch.tensor([400, 7])})
    assert not EVERY[name](view, draw(2))["wave"].any()
    given_row = raw([300, 200])
    kept = given_row["wave"].clone()
    EVERY[name](given_row, draw(2))
    assert torch.equal(given_row["wave"], kept)


def test_gain_is_uniform_in_decibels_and_stops_at_full_scale():
    quiet = tone(440, 0.02, 0.01)
    many = View("sound", parts={"wave": quiet["wave"].repeat(4000, 1), "length": quiet["length"].repeat(4000)})
    out = Gain((-12.0, 6.0))(many, draw(4000))["wave"]
    decibels = 20 * torch.log10(out.abs().amax(1) / quiet["wave"].abs().max())
    assert decibels.min() >= -12.001
    assert decibels.max() <= 6.001
    assert decibels.mean() == pytest.approx(-3, abs=5 * 18 / math.sqrt(12 * 4000))
    loud = Gain((6.0, 6.0))(tone(440, 0.1, 0.9), draw())["wave"]
    assert loud.abs().max() == pytest.approx(1.0, abs=1e-5)


def test_the_signal_to_noise_ratio_is_what_was_asked_over_the_true_length():
    view = raw([4000, 1000, 30], extra=500)
    for ratio in (0.0, 12.5, 40.0):
        step = Noise((ratio, ratio), (0.0, 1.0))
        before, after = view["wave"] / 32768, step(view, draw(3))["wave"]
        # rows that would go beyond full scale are made quieter as a whole: the part that is the clean row gives the factor
        noise = after - before
        for i in range(3):
            level = 10 * math.log10(before[i].square().sum() / noise[i].square().sum())
            assert level == pytest.approx(ratio, abs=0.02)
            assert not noise[i, view["length"][i] :].any()


def test_pink_falls_by_three_decibels_an_octave_and_brown_by_six():
    for colour, slope in ((0.0, 0.0), (1.0, -3.01), (2.0, -6.02)):
        power = torch.fft.rfft(noise_bank(colour).double()).abs().square()
        octaves = [power[len(power) // 2 ** (k + 1) : len(power) // 2**k].mean() for k in range(6)]
        steps = [10 * math.log10(b / a) for a, b in itertools.pairwise(octaves)]
        assert all(step == pytest.approx(-slope, abs=0.35) for step in steps), steps
        assert noise_bank(colour).square().mean() == pytest.approx(1.0, abs=1e-4)


def test_noise_of_two_rows_and_of_two_draws_differs():
    view = View("sound", parts={"wave": raw([2000])["wave"].repeat(2, 1), "length": torch.tensor([2000, 2000])})
    a, b = (Noise((10.0, 10.0))(view, draw(2, seed))["wave"] - view["wave"] / 32768 for seed in (0, 1))
    for x, y in ((a[0], a[1]), (a[0], b[0])):
        assert torch.nn.functional.cosine_similarity(x, y, dim=0).abs() < 0.15


@pytest.mark.parametrize("frequency", [150.0, 700.0, 2500.0, 6000.0])
def test_a_tone_comes_out_of_the_equaliser_as_its_curve_says(frequency):
    for seed in range(4):
        step = Equalise(RATE, gain=6.0, tilt=1.0)
        out = step(tone(frequency, level=0.05), draw(1, seed))["wave"][0]
        found = 10 * math.log10(power_at(out, frequency) / (0.05**2 / 2))
        asked = 20 * math.log10(step.response(torch.tensor([frequency]), draw(1, seed)).item())
        assert found == pytest.approx(asked, abs=0.6)


def test_the_equaliser_has_no_delay():
    click = torch.zeros(1, 2000)
    click[0, 1000] = 0.5
    out = Equalise(RATE)(View("sound", parts={"wave": click, "length": torch.tensor([2000])}), draw())["wave"]
    assert int(out.abs().argmax()) == 1000


def test_convolution_is_that_of_a_loop():
    wave, kernel = torch.randn(2, 50, dtype=torch.float64), torch.randn(2, 9, dtype=torch.float64)
    whole = torch.stack([torch.from_numpy(np.convolve(w, k)) for w, k in zip(wave.numpy(), kernel.numpy())])
    assert torch.allclose(convolve(wave, kernel), whole[:, :50])
    assert torch.allclose(convolve(wave, kernel, ahead=4), whole[:, 4:54])


def test_a_room_keeps_energy_and_length_and_its_answer_falls_by_sixty_decibels():
    view = raw([9000, 5000], extra=300)
    out = Reverberate(RATE, (0.1, 0.3))(view, draw(2))
    clean = view["wave"] / 32768
    assert torch.allclose(energy(out["wave"]), energy(clean), rtol=1e-4)
    assert torch.equal(out["length"], view["length"])
    assert not torch.allclose(out["wave"], clean, atol=1e-2)
    click = torch.zeros(1, RATE // 2)
    click[0, 0] = 0.5
    view = View("sound", parts={"wave": click, "length": torch.tensor([RATE // 2])})
    tail = Reverberate(RATE, (0.4, 0.4), (0.0, 0.0))(view, draw())["wave"][0, 1:]
    levels = [
        10 * math.log10(tail[int(s * RATE) : int((s + 0.05) * RATE)].square().mean()) for s in (0.0, 0.1, 0.2, 0.3)
    ]
    assert [a - b for a, b in itertools.pairwise(levels)] == pytest.approx([15, 15, 15], abs=1.5)
    assert tail[int(0.41 * RATE) :].abs().max() < 1e-6


@pytest.mark.parametrize("percent", [80, 90, 95, 105, 110, 125])
def test_a_tone_at_another_speed_has_another_pitch_and_nothing_else(percent):
    out = Speed((percent,))(tone(1000.0, 0.5, 0.5), draw())
    assert int(out["length"]) == math.ceil(8000 * 100 / percent)
    wave = out["wave"][0]
    now = 1000.0 * percent / 100
    assert power_at(wave, now) == pytest.approx(0.125, rel=2e-3)
    middle = wave[len(wave) // 4 : 3 * len(wave) // 4].double()
    time = torch.arange(len(middle), dtype=torch.float64) / RATE
    both = torch.stack([torch.sin(2 * math.pi * now * time), torch.cos(2 * math.pi * now * time)], 1)
    rest = middle - both @ torch.linalg.lstsq(both, middle[:, None]).solution[:, 0]
    assert 10 * math.log10(rest.square().mean() / 0.125) < -70, "it does not only sound of one frequency"


def test_faster_playing_folds_nothing_back_and_slower_adds_nothing_above():
    high = Speed((125,))(tone(7500.0), draw())["wave"][0]  # 9375 Hz is beyond the band
    assert high[500:-500].square().mean() < 1e-5
    slow = Speed((80,))(tone(7000.0), draw())["wave"][0]
    assert power_at(slow, 5600.0) == pytest.approx(0.125, rel=0.02)
    assert power_at(slow, 8000 - 1600) < 1e-8


def test_speeds_are_drawn_row_by_row_and_lengths_follow():
    view = View("sound", parts={"wave": torch.zeros(500, 40), "length": torch.full((500,), 40)})
    lengths = Speed((80, 100, 125))(view, draw(500))["length"]
    count = {n: int((lengths == n).sum()) for n in (50, 40, 32)}
    assert sum(count.values()) == 500
    assert all(100 < n < 235 for n in count.values())


def test_a_telephone_lets_its_band_pass_and_nothing_else():
    step = Band(RATE, 300.0, 3400.0)
    through = {
        f: 10 * math.log10(power_at(step(tone(f), draw())["wave"][0], f) / 0.125)
        for f in (100, 600, 1500, 3000, 4000, 7000)
    }
    assert all(abs(through[f]) < 0.1 for f in (600, 1500, 3000))
    assert all(through[f] < -40 for f in (100, 4000, 7000))
    low = Band(RATE, 0.0, 4000.0)(tone(50.0), draw())["wave"][0]
    assert power_at(low, 50.0) == pytest.approx(0.125, rel=0.02)


def test_clipping_flattens_the_share_above_it_and_keeps_the_peak():
    out = Clipped(0.5)(tone(100.0, level=0.4), draw())["wave"][0]
    assert out.abs().max() == pytest.approx(0.4, rel=1e-4)
    assert (out.abs() > 0.3999).float().mean() == pytest.approx(
        2 / 3, abs=0.02
    )  # a sine is above half its peak two thirds of the time


def test_corruptions_get_worse_with_severity_and_are_files_again():
    view = raw([6000, 4000], extra=100)
    for name, levels in corruptions(RATE).items():
        away = []
        for severity in (1, 3, 5):
            out = levels[severity](view, draw(2))
            assert out["wave"].dtype == torch.int16
            assert torch.equal(out["length"], view["length"])
            clean = view["wave"].double()
            factor = (out["wave"] * clean).sum(1, keepdim=True) / out["wave"].double().square().sum(
                1, keepdim=True
            ).clamp_min(1)
            away.append(float((factor * out["wave"] - clean).square().sum() / clean.square().sum()))
        assert away[0] < away[1] < away[2] or name == "reverberation", (name, away)
    level = corruptions(RATE)["level"][5](view, draw(2))["wave"]
    assert 20 * math.log10(
        level.double().square().mean().sqrt() / view["wave"].double().square().mean().sqrt()
    ) == pytest.approx(-45, abs=0.5)


def test_a_view_without_a_wave_is_refused():
    with pytest.raises(ValueError, match="before ToMel"):
        Gain()(View("sound", parts={"mel": torch.zeros(1, 3, 8), "length": torch.tensor([3])}), draw())
