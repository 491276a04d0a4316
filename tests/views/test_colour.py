import colorsys
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from selftaught.views import Blur, Grey, Jitter, Solarise
from selftaught.views.colour import blur, brightness, contrast, grey, hue, jitter, saturation, solarise

from .pictures import draw, uint8, view

LUMA = np.array([0.2989, 0.587, 0.114])[:, None, None]


def blend(first, second, factor):
    return np.clip(factor * first + (1 - factor) * second, 0, 1)


def turn_hue(picture, shift):
    """colorsys, one pixel after the other."""
    out = np.empty_like(picture)
    for i, j in np.ndindex(picture.shape[1:]):
        h, s, v = colorsys.rgb_to_hsv(*picture[:, i, j])
        out[:, i, j] = colorsys.hsv_to_rgb((h + shift) % 1.0, s, v)
    return out


SLOW = {  # torchvision's documented formulas on one (3, H, W) float64 picture
    "brightness": lambda x, f: blend(x, 0 * x, f),
    "contrast": lambda x, f: blend(x, np.full_like(x, (LUMA * x).sum(0).mean()), f),
    "saturation": lambda x, f: blend(x, np.broadcast_to((LUMA * x).sum(0), x.shape), f),
    "hue": turn_hue,
}
FAST = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}


@pytest.mark.parametrize("name", SLOW)
def test_each_operation_is_torchvisions_formula(name):
    pixels = uint8(6).double() / 255
    factors = torch.tensor([-0.5, -0.13, 0.0, 0.07, 0.31, 0.5] if name == "hue" else [0.0, 0.3, 0.8, 1.0, 1.4, 2.5])
    ours = FAST[name](pixels, factors).numpy()
    for row, factor in enumerate(factors.double().tolist()):
        np.testing.assert_allclose(ours[row], SLOW[name](pixels[row].numpy(), factor), atol=1e-9)


@pytest.mark.parametrize("exact", [True, False])
def test_jitter_in_every_order(exact):
    orders = torch.tensor(list(itertools.permutations(range(4))))
    pixels = uint8(24, height=6, width=5)
    rng = np.random.default_rng(1)
    factors = torch.tensor(np.concatenate([rng.uniform(0.2, 1.8, (24, 3)), rng.uniform(-0.5, 0.5, (24, 1))], 1))
    wanted = pixels.double().numpy() / 255
    for row, order in enumerate(orders.tolist()):
        for number in order:
            name = list(SLOW)[number]
            wanted[row] = SLOW[name](wanted[row], factors[row, number].item())
    given_pixels = pixels.double() / 255 if exact else pixels
    np.testing.assert_allclose(jitter(given_pixels, factors, orders).numpy(), wanted, atol=1e-9 if exact else 3e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=3, max_size=3), st.floats(-0.5, 0.5))
def test_hue_of_any_colour(colour, shift):
    pixels = torch.tensor(colour, dtype=torch.uint8)[None, :, None, None]
    wanted = turn_hue(pixels[0].double().numpy() / 255, shift)
    factors = torch.tensor([[1.0, 1.0, 1.0, shift]])
    order = torch.tensor([[3, 0, 2, 1]])
    np.testing.assert_allclose(hue(pixels.double() / 255, factors[:, 3].double())[0].numpy(), wanted, atol=1e-7)
    np.testing.assert_allclose(jitter(pixels, factors, order)[0].numpy(), wanted, atol=1e-5)


def test_factors_of_one_change_nothing_and_rows_left_out_stay():
    pixels = uint8(8)
    still = torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(8, -1)
    order = draw(8).permutations("order", 4)
    torch.testing.assert_close(jitter(pixels, still, order), pixels / 255, rtol=0, atol=1e-6)
    chosen = torch.arange(8) % 2 == 0
    out = jitter(pixels, torch.full((8, 4), 0.4), order, chosen)
    assert torch.equal(out[~chosen], pixels[~chosen] / 255)
    assert (out[chosen] - pixels[chosen] / 255).abs().flatten(1).amax(1)[:-1].min() > 0.05


def test_jitter_draws_its_strengths_uniformly_and_every_order():
    given_jitter = Jitter(0.4, 1.5, 0.0, 0.1)
    uniform = draw(4000).uniform("jitter", 4)
    factors = given_jitter.factors(uniform).numpy()
    for column, (low, high) in enumerate([(0.6, 1.4), (0.0, 2.5), (1.0, 1.0), (-0.1, 0.1)]):
        assert low - 1e-6 <= factors[:, column].min()
        assert factors[:, column].max() <= high + 1e-6
        if high > low:
            assert stats.kstest(factors[:, column], stats.uniform(low, high - low).cdf).pvalue > 1e-3
    # a dark picture brightened, then contrasted, tells orders apart: all 24 occur about equally often
    pixels = uint8(2)[1:].expand(2400, -1, -1, -1)[:, :, :4, :4]
    full = Jitter(0.4, 0.4, 0.4, 0.1, p=1.0)
    order = torch.argsort(draw(2400).uniform("jitter", 9)[:, 5:], dim=1)
    codes, counts = np.unique(order.numpy() @ np.array([64, 16, 4, 1]), return_counts=True)
    assert len(codes) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
    uniform = draw(2400).uniform("jitter", 9)
    wanted = jitter(pixels, full.factors(uniform[:, :4]), order)
    assert torch.equal(full(view(pixels), draw(2400))["pixels"], wanted)


def test_fixed_order_and_probability():
    pixels = uint8(500, height=4, width=4)
    uniform = draw(500).uniform("jitter", 9)
    chosen = uniform[:, 4] < 0.3
    step = Jitter(p=0.3, order="fixed")
    wanted = jitter(pixels, step.factors(uniform[:, :4]), torch.arange(4).expand(500, -1), chosen)
    assert torch.equal(step(view(pixels), draw(500))["pixels"], wanted)
    assert 110 < int(chosen.sum()) < 190


def test_grey_and_solarise_touch_the_chosen_rows_only():
    pixels = uint8(300, height=4, width=4)
    floats = pixels.numpy() / 255
    chosen = (draw(300).uniform("grey") < 0.2).numpy()
    out = Grey(0.2)(view(pixels), draw(300))["pixels"].numpy()
    np.testing.assert_allclose(out[chosen], np.repeat((LUMA * floats[chosen]).sum(1, keepdims=True), 3, 1), atol=1e-6)
    np.testing.assert_allclose(out[~chosen], floats[~chosen], atol=1e-7)
    assert 30 < chosen.sum() < 90
    chosen = (draw(300).uniform("solarise") < 0.2).numpy()
    out = Solarise(0.2)(view(pixels), draw(300))["pixels"].numpy()
    bright = pixels.numpy()[chosen] >= 128  # torchvision's solarize(threshold=128) on uint8
    np.testing.assert_allclose(
        out[chosen] * 255, np.where(bright, 255 - pixels.numpy()[chosen].astype(int), pixels.numpy()[chosen]), atol=1e-4
    )
    np.testing.assert_allclose(out[~chosen], floats[~chosen], atol=1e-7)


def test_solarise_at_the_threshold():
    values = torch.tensor([0.0, 0.4999, 0.5, 0.75, 1.0])
    torch.testing.assert_close(solarise(values), torch.tensor([0.0, 0.4999, 0.5, 0.25, 0.0]))
    torch.testing.assert_close(
        grey(torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]).flatten(), torch.full((3,), 0.2989)
    )


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_blur_is_a_mirrored_gaussian_of_each_rows_width(channels, exact):
    pixels, radius = uint8(5, channels, 13, 10), 4
    sigma = torch.tensor([0.1, 0.5, 1.0, 2.0, 7.0])
    chosen = torch.tensor([True, True, True, False, True])
    ours = blur(pixels.double() / 255 if exact else pixels, sigma, radius, chosen).numpy()
    for row in range(5):
        wanted = pixels[row].double().numpy() / 255
        if chosen[row]:
            weight = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma[row].double().item()) ** 2)
            for axis in (1, 2):
                wanted = ndimage.correlate1d(wanted, weight / weight.sum(), axis, mode="mirror")
        np.testing.assert_allclose(ours[row], wanted, atol=1e-9 if exact else 1e-6)
    with pytest.raises(ValueError, match="does not fit"):
        blur(pixels, sigma, 10)


def test_blur_draws_sigma_and_follows_the_side():
    big, small = uint8(60, height=40, width=40), uint8(60, height=19, width=19)
    uniform = draw(60).uniform("blur", 2)
    wanted = blur(big, 0.1 + 1.9 * uniform[:, 0], 2, uniform[:, 1] < 0.5)  # a tenth of 40 pixels: 5
    torch.testing.assert_close(Blur(0.5)(view(big), draw(60))["pixels"], wanted, rtol=0, atol=1e-6)
    assert torch.equal(Blur(1.0)(view(small), draw(60))["pixels"], small / 255)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_pictures_that_are_not_rgb_leave_colour_out_and_say_so(channels):
    pixels = uint8(6, channels)
    factors = torch.tensor([[0.5, 1.6, 0.1, 0.4]]).expand(6, -1)
    order = torch.tensor([3, 1, 0, 2]).expand(6, -1)
    wanted = pixels.double().numpy() / 255
    for row in range(6):
        wanted[row] = blend(wanted[row], wanted[row].mean(), 1.6)
        wanted[row] = blend(wanted[row], 0, 0.5)
    np.testing.assert_allclose(jitter(pixels, factors, order).numpy(), wanted, atol=1e-5)
    unchanged = view(pixels)
    assert Grey(1.0)(unchanged, draw(6)) is unchanged
    assert f"{channels} channels are not RGB" in Grey().describe(channels)
    assert "hue left out" in Jitter().describe(channels)
    assert "hue 0.1" in Jitter().describe(3)


def test_strengths_that_no_jitter_has():
    for wrong in ({"hue": 0.6}, {"brightness": -0.1}):
        with pytest.raises(ValueError, match="strengths"):
            Jitter(**wrong)
