"""Views of log-mel frames against known answers, and against what stands beside a row."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import Draw, View
from selftaught.nets.mel import FLOOR as LEAST
from selftaught.nets.mel import LogMel
from selftaught.views.clips import Clip, ToMel
from selftaught.views.spectrogram import (
    FLOOR,
    Fade,
    Filter,
    MixUp,
    Pitch,
    SpecAugment,
    Stretch,
    Warp,
    band_of,
    centres,
    elsewhere,
    joint_sound,
)

FRONT = LogMel(16000, 40)
EVERY = {
    "masks": SpecAugment(), "background": MixUp(), "equaliser": Filter(), "vocal tract": Warp(), "pitch": Pitch(),
    "tempo": Stretch((0.5, 1.5)), "fade": Fade(),
}  # fmt: skip


def mel(lengths: list[int], bands: int = 40, extra: int = 0, seed: int = 0) -> View:
    generator = torch.Generator().manual_seed(seed)
    values = torch.full((len(lengths), max(lengths) + extra, bands), FLOOR)
    for i, length in enumerate(lengths):
        values[i, :length] = -6 + 3 * torch.randn(length, bands, generator=generator)
    return View("sound", parts={"mel": values.clamp_min(FLOOR), "length": torch.tensor(lengths)})


def draw(rows: int = 1, seed: int = 0) -> Draw:
    return Draw(torch.arange(rows) * 7 + 3, seed, 5, 1)


def tones(frequencies: list[float], seconds: float = 0.3) -> View:
    time = torch.arange(int(16000 * seconds)) / 16000
    wave = torch.stack([0.3 * torch.sin(2 * math.pi * f * time) for f in frequencies])
    values, frames = FRONT(wave, torch.full((len(frequencies),), wave.shape[1]))
    return View("sound", parts={"mel": values, "length": frames})


@pytest.mark.parametrize("name", EVERY)
@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(0, 99), st.sampled_from([0, 1, 30]))
def test_a_row_becomes_the_same_whatever_stands_beside_it(name, lengths, seed, extra):
    view = mel(lengths, extra=extra, seed=seed)
    index = torch.arange(len(lengths)) * 5 + 2
    together = EVERY[name](view, Draw(index, seed, 3, 1))
    for i, length in enumerate(lengths):
        own = View("sound", parts={"mel": view["mel"][i : i + 1, :length], "length": view["length"][i : i + 1]})
        alone = EVERY[name](own, Draw(index[i : i + 1], seed, 3, 1))
        span = int(alone["length"][0])
        assert int(together["length"][i]) == span
        assert torch.allclose(together["mel"][i, :span], alone["mel"][0, :span], atol=2e-4)
        assert (together["mel"][i, span:] == view["mel"].new_tensor(FLOOR)).all(), "behind the end stands the floor"
        assert together["mel"].isfinite().all()
        assert (together["mel"] >= FLOOR - 1e-5).all()


def test_the_floor_is_the_front_end_s():
    assert pytest.approx(FRONT.floor_log) == FLOOR == math.log(LEAST)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=5), st.integers(0, 99))
def test_masks_lie_within_true_lengths_leave_something_and_hold_the_mean(lengths, seed):
    view = mel(lengths, extra=9, seed=seed)
    step = SpecAugment(2, 0.2, 2, 0.3)
    hidden, out = step.masked(view, draw(len(lengths), seed)), step(view, draw(len(lengths), seed))["mel"]
    for i, length in enumerate(lengths):
        assert not hidden[i, length:].any()
        along = hidden[i, :length].all(1)
        assert int(along.sum()) <= 2 * math.floor(0.3 * length)
        assert int(hidden[i, :length].all(0).sum()) <= 2 * 8
        assert (~hidden[i, :length]).any()
        mean = view["mel"][i, :length].mean()
        assert torch.allclose(out[i][hidden[i]], mean.expand(int(hidden[i].sum())), atol=1e-4)
        assert torch.equal(out[i][~hidden[i]], view["mel"][i][~hidden[i]])


def test_masks_are_as_wide_as_they_may_be_and_lie_everywhere():
    view = mel([40] * 2000)
    hidden = SpecAugment(0, 0.0, 1, 0.25).masked(view, draw(2000))[:, :, 0]
    widths = hidden.sum(1)
    assert set(widths.tolist()) == set(range(11))
    assert [int((widths == w).sum()) for w in (0, 10)] == pytest.approx([2000 / 11] * 2, rel=0.4)
    covered = hidden.float().mean(0)
    assert covered.min() > 0.01
    assert float(covered[20]) == pytest.approx(float(covered[10]), rel=0.3)


def test_masks_that_could_hide_a_whole_row_are_refused():
    with pytest.raises(ValueError, match="whole row"):
        SpecAugment(times=4, time=0.25)


def test_the_background_adds_energy_in_its_share_and_is_of_the_row_s_own():
    view = mel([50, 20, 7], extra=4)
    valid = (torch.arange(54) < view["length"][:, None])[..., None]
    step = MixUp(0.4)
    back = step.background(view, draw(3))
    for x, y in ((back, view["mel"]),):
        ours, theirs = ((e.exp() * valid).sum((1, 2)) for e in (x, y))
        assert torch.allclose(ours, theirs, rtol=1e-4)
    share = 0.4 * draw(3).uniform("background", 1, 1)
    wanted = ((1 - share) * view["mel"].exp() + share * back.exp()).log()
    out = step(view, draw(3))["mel"]
    assert torch.allclose(out[valid.expand_as(out)], wanted[valid.expand_as(out)], atol=1e-4)
    assert torch.equal(MixUp(0.0)(view, draw(3))["mel"], view["mel"])


def test_the_equaliser_moves_every_frame_of_a_row_by_one_curve():
    view = mel([30, 12])
    difference = Filter(gain=4.0, tilt=1.0)(view, draw(2))["mel"] - view["mel"]
    for i, length in enumerate((30, 12)):
        inside = difference[i, :length]
        above = (view["mel"][i, :length] > FLOOR + 5).all(0)
        assert (inside[:, above] - inside[0, above]).abs().max() < 1e-4
        assert inside[0].abs().max() * 10 / math.log(10) < 4 * 3 + 7
    assert not torch.allclose(difference[0, 0], difference[1, 0], atol=0.1)


def test_centres_are_where_a_tone_is_loudest_and_band_of_is_the_inverse():
    where = centres(40, 20.0, 8000.0)
    assert torch.allclose(band_of(where, 40, 20.0, 8000.0), torch.arange(40, dtype=torch.float64))
    picked = [10, 20, 35]
    loudest = tones([float(where[b]) for b in picked])["mel"][:, 10].argmax(1)
    assert loudest.tolist() == picked


def test_a_longer_or_shorter_vocal_tract_moves_tones_by_its_factor_and_keeps_the_upper_end():
    view = tones([1000.0, 2000.0])
    for factor in (0.85, 1.15):
        out = Warp((factor, factor))(view, draw(2))["mel"][:, 10]
        at = band_of(torch.tensor([1000.0, 2000.0], dtype=torch.float64) * factor, 40, 20.0, 8000.0)
        assert out.argmax(1).tolist() == pytest.approx(at.tolist(), abs=1.0)
        source = Warp().source(torch.tensor([[factor]]), 40)[0]
        assert (source.diff() > 0).all()
        assert source[-1] <= 8000
    same = Warp((1.0, 1.0))(view, draw(2))["mel"]
    assert torch.allclose(same, view["mel"], atol=1e-3)


def test_pitch_moves_the_fine_structure_and_leaves_the_envelope():
    bands = 80
    place = torch.arange(bands) / bands
    envelope = -5 + 2 * torch.cos(2 * math.pi * place)
    fine = torch.zeros(bands)
    fine[20] = 4.0
    view = View("sound", parts={"mel": (envelope + fine).repeat(1, 5, 1), "length": torch.tensor([5])})
    out = Pitch((2.0, 2.0))(view, draw())["mel"][0, 0]
    hz = float(centres(bands, 20.0, 8000.0)[20]) * 2 ** (2 / 12)
    moved = float(band_of(torch.tensor(hz, dtype=torch.float64), bands, 20.0, 8000.0))
    assert int((out - envelope).argmax()) == pytest.approx(moved, abs=1.0)
    assert float(out[60:].mean() - envelope[60:].mean()) == pytest.approx(0, abs=0.15)
    flat = View("sound", parts={"mel": envelope.repeat(1, 5, 1), "length": torch.tensor([5])})
    assert torch.allclose(Pitch((5.0, 5.0))(flat, draw())["mel"], flat["mel"], atol=0.05)


def test_tempo_changes_the_length_and_a_slope_in_time_stays_a_slope():
    ramp = torch.linspace(-10, 0, 50)[None, :, None].repeat(3, 1, 4)
    view = View("sound", parts={"mel": ramp, "length": torch.tensor([50, 50, 50])})
    out = Stretch((1.5, 1.5))(view, draw(3))
    assert out["length"].tolist() == [75] * 3
    steps = out["mel"][:, 3:-3].diff(dim=1)
    assert torch.allclose(steps, torch.full_like(steps, 10 / 49 / 1.5), atol=1e-4)
    assert Stretch((1.5, 1.5), longest=60)(view, draw(3))["length"].tolist() == [60] * 3
    assert Stretch((1.5, 1.5), longest=20)(view, draw(3))["length"].tolist() == [50] * 3
    short = View("sound", parts={"mel": ramp[:, :1], "length": torch.tensor([1, 1, 1])})
    assert Stretch((0.5, 0.5))(short, draw(3))["length"].tolist() == [1] * 3
    assert torch.allclose(Stretch((1.0, 1.0))(view, draw(3))["mel"], ramp, atol=1e-5)
    needed = view.with_parts(least=torch.tensor([40, 10, 70]))  # a row is never lengthened to what it would need
    assert Stretch((0.5, 0.5))(needed, draw(3))["length"].tolist() == [40, 25, 50]


def test_fading_goes_in_a_straight_line_over_the_true_length():
    view = mel([21, 11], extra=5)
    view = view.with_parts(mel=view["mel"] + 5)
    difference = Fade(6.0)(view, draw(2))["mel"] - view["mel"]
    for i, length in enumerate((21, 11)):
        line = difference[i, :length].median(1).values
        assert (line.diff() - line.diff()[0]).abs().max() < 1e-3
        assert line.abs().max() * 10 / math.log(10) <= 6.001
        assert not difference[i, length:].any()


def waves(lengths: list[int], extra: int = 0) -> View:
    generator = torch.Generator().manual_seed(1)
    wave = torch.zeros(len(lengths), max(lengths) + extra, dtype=torch.int16)
    for i, length in enumerate(lengths):
        wave[i, :length] = (4000 * torch.randn(length, generator=generator)).to(torch.int16)
    return View("sound", parts={"wave": wave, "length": torch.tensor(lengths)})


@pytest.mark.parametrize("front", [None, ToMel(FRONT)])
def test_the_joint_view_gives_two_different_views_that_do_not_depend_on_the_batch(front):
    step = joint_sound(Clip(3000, (0.6, 1.0)), front, rate=16000)
    part = "wave" if front is None else "mel"
    lengths = [4000, 2500, 900]
    view, index = waves(lengths, extra=333), torch.tensor([4, 8, 15])
    one, two = (step(view, Draw(index, 0, 2, v)) for v in (0, 1))
    assert not torch.equal(one["length"], two["length"])
    for i, length in enumerate(lengths):
        own = View("sound", parts={"wave": view["wave"][i : i + 1, :length], "length": view["length"][i : i + 1]})
        alone = step(own, Draw(index[i : i + 1], 0, 2, 0))
        span = int(alone["length"][0])
        assert int(one["length"][i]) == span
        assert torch.allclose(one[part][i, :span], alone[part][0, :span], atol=1e-3)
    assert one[part].dtype == torch.float32
    assert one[part].isfinite().all()


def test_a_whole_sound_is_changed_along_its_whole_length_and_keeps_its_tempo_where_asked():
    view = mel([60, 20], extra=3)
    still, moved = (elsewhere(rate=16000, tempo=tempo)(view, draw(2)) for tempo in (False, True))
    assert torch.equal(still["length"], view["length"])
    assert (moved["length"] != view["length"]).any()
    changed = (still["mel"] != view["mel"]).any(2)
    assert changed[0, :60].all()
    assert changed[1, :20].all()
    assert not changed[0, 60:].any()
    assert not changed[1, 20:].any()
    heard = waves([3000, 900], extra=7)
    other = elsewhere(rate=16000)(heard, draw(2))
    assert torch.equal(other["length"], heard["length"])
    assert not other["wave"][1, 900:].any()
    with pytest.raises(ValueError, match="strength of 3"):
        elsewhere(rate=16000, strength=3)


def test_no_strength_leaves_a_crop():
    step = joint_sound(Clip(2000, head=True), ToMel(FRONT), rate=16000, strength=0.0)
    view = waves([3000, 1500])
    plain = ToMel(FRONT)(Clip(2000, head=True)(view, draw(2)), draw(2))
    assert torch.allclose(step(view, draw(2))["mel"], plain["mel"], atol=1e-3)
    with pytest.raises(ValueError, match="strength"):
        joint_sound(Clip(2000), None, rate=16000, strength=3.0)


def test_frames_without_frames_are_refused():
    with pytest.raises(ValueError, match="ToMel"):
        SpecAugment()(waves([100]), draw())
