"""Corruptions of known strength on known pictures, against independent ways of doing the same."""

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from selftaught import modalities
from selftaught.core import Draw, View, random
from selftaught.views import corruptions
from selftaught.views.corruptions import SEVERITIES, Blurred, Flat, Jpeg, Noise, Saturated


def pictures(rows: int = 6, channels: int = 3, side: int = 12) -> View:
    pixels = (255 * random.uniform(3, torch.arange(rows), (channels, side, side))).to(torch.uint8)
    pixels[0] = 90  # one without colour or contrast
    return View("image", parts={"pixels": pixels})


def draw(rows: int = 6, seed: int = 0) -> Draw:
    return Draw(torch.arange(rows), seed)


def test_noise_has_its_deviation():
    view = View("image", parts={"pixels": torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)})
    for sigma in (0.04, 0.1):
        out = Noise(sigma)(view, draw(4))["pixels"].double() / 255
        assert out.std().item() == pytest.approx(sigma, rel=0.03)
        assert out.mean().item() == pytest.approx(128 / 255, abs=0.003)


def test_blur_is_a_gaussian():
    view = pictures()
    out = Blurred(1.3)(view, draw())["pixels"].double()
    expected = gaussian_filter(view["pixels"].double().numpy(), 1.3, axes=(2, 3), radius=6, mode="mirror")
    assert np.abs(out.numpy() - expected).max() < 0.51


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels):
    view = pictures(channels=channels)
    out = Jpeg(40)(view, draw())["pixels"].permute(0, 2, 3, 1).numpy()
    for row, given in zip(out, view["pixels"].permute(0, 2, 3, 1).numpy(), strict=True):
        file = io.BytesIO()
        Image.fromarray(given.squeeze()).save(file, "JPEG", quality=40)
        assert np.array_equal(row.squeeze(), np.asarray(Image.open(file)))


@pytest.mark.parametrize(("factor", "shift"), [(0.3, 0.0), (2.5, 0.2), (1.0, 0.0)])
def test_saturation_is_that_of_hsv(factor, shift):
    view = pictures(rows=3, side=4)
    out = Saturated(factor, shift)(view, draw(3))["pixels"].double().numpy() / 255
    for r, y, x in np.ndindex(3, 4, 4):
        hue, saturation, value = colorsys.rgb_to_hsv(*(view["pixels"][r, :, y, x].double().numpy() / 255))
        expected = colorsys.hsv_to_rgb(hue, min(max(saturation * factor + shift, 0), 1), value)
        np.testing.assert_allclose(out[r, :, y, x], expected, atol=0.51 / 255 + 1e-6)


def test_flat_pictures_keep_their_mean_and_lose_contrast():
    view = pictures()
    before, after = view["pixels"].double(), Flat(0.3)(view, draw())["pixels"].double()
    assert (before.mean((2, 3)) - after.mean((2, 3))).abs().max() < 0.5
    assert (after.std((2, 3))[1:] / before.std((2, 3))[1:]).sub(0.3).abs().max() < 0.01


@pytest.mark.parametrize("modality", ["image", "series"])
def test_a_row_is_spoiled_by_its_seed_and_itself_alone(modality):
    payloads, _ = modalities.find(modality).toy(8, 0)
    from selftaught.modalities import open_data

    data = open_data(payloads if modality == "series" else np.stack(payloads))
    part = "pixels" if modality == "image" else "values"
    whole, ids = data.fetch(np.arange(8)), torch.arange(8)
    for by in data.modality.corruptions().values():
        for change in by.values():
            out = change(whole, Draw(ids, 5))[part]
            some = change(data.fetch(np.array([6, 2])), Draw(ids[[6, 2]], 5))[part]
            width = some.shape[-1]
            assert torch.equal(out[[6, 2]][..., :width].nan_to_num(-9), some.nan_to_num(-9))
            assert not torch.equal(out.nan_to_num(-9), whole[part].nan_to_num(-9))


def test_severities_get_worse_and_what_pictures_have_not_is_left_out():
    view = View("image", parts={"pixels": pictures(8, 3, 32)["pixels"]})
    for name, by in corruptions(32, 3).items():
        assert tuple(by) == SEVERITIES
        away = [
            (c(view, draw(8))["pixels"].double() - view["pixels"].double()).abs().mean().item() for c in by.values()
        ]
        assert name == "colour" or sorted(away) == away
    assert corruptions(32, 3)["noise"][1].sigma == 0.04
    assert corruptions(224, 3)["blur"][5].sigma == 6.0
    assert corruptions(112, 3)["blur"][5].sigma == 3.0
    assert set(corruptions(32, 5)) == {"noise", "blur", "colour"}
    assert set(corruptions(32, 1)) == {"noise", "blur", "jpeg", "colour"}
