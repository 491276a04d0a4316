import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import Draw
from selftaught.views import (
    Blur,
    Compose,
    Flip,
    Grey,
    Jitter,
    Plain,
    ResizedCrop,
    Rotate,
    Solarise,
    joint,
    local,
    mild,
    multi_crop,
)

from .pictures import draw, uint8, view

EVERY = {
    "crop": ResizedCrop(9, flip=0.5),
    "plain bilinear crop": ResizedCrop(9, antialias=False),
    "flip": Flip(),
    "rotate": Rotate(),
    "jitter": Jitter(),
    "grey": Grey(0.5),
    "solarise": Solarise(0.5),
    "blur": Blur(),
    "joint": joint(20, blur=0.5, solarise=0.2),
    "local": local(8),
    "mild": mild(16),
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@settings(max_examples=8, deadline=None)
@given(rows=st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True))
def test_a_row_depends_on_nothing_beside_it(name, dtype, rows):
    """Any subset in any order gives the same rows: exactly in the compiled loops, to rounding in tensor expressions."""
    pixels = uint8(12, height=24, width=24)
    pixels = pixels if dtype == torch.uint8 else (pixels / 255).to(dtype)
    index, chosen = torch.arange(12) * 31 + 5, torch.tensor(rows)
    whole = EVERY[name](view(pixels), Draw(index, 1, 2, 3))
    part = EVERY[name](view(pixels[chosen]), Draw(index[chosen], 1, 2, 3))
    torch.testing.assert_close(part["pixels"], whole["pixels"][chosen], rtol=0, atol=1e-6)
    for key, value in whole.params.items():
        assert torch.equal(part.params[key], value[chosen])


@pytest.mark.parametrize("name", EVERY)
def test_views_stay_in_range_leave_their_input_alone_and_differ_by_view(name):
    pixels = uint8(12, height=24, width=24)
    for given_pixels in (pixels, pixels / 255, (pixels / 255).contiguous(memory_format=torch.channels_last)):
        before = given_pixels.clone()
        out = EVERY[name](view(given_pixels), draw(12))["pixels"]
        assert torch.equal(given_pixels, before)
        if name != "flip":
            assert out.dtype == torch.float32
            assert out.min() >= -1e-6
            assert out.max() <= 1 + 1e-6
        assert torch.equal(out, EVERY[name](view(given_pixels), draw(12))["pixels"])
        other = EVERY[name](view(given_pixels), draw(12, number=1))["pixels"]
        assert out.shape == other.shape
        assert not torch.equal(out, other)


def test_threads_change_no_bit():
    pixels = uint8(64, height=64, width=64)
    step, threads = joint(64, blur=0.5), torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(step(view(pixels), draw(64))["pixels"])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_compiled_loops_and_tensor_expressions_agree():
    pixels = uint8(40, height=32, width=32)
    step = joint(40, scale=(0.1, 1.0), blur=0.5, solarise=0.3, strength=1.0)
    loops, tensors = (step(view(p), draw(40))["pixels"] for p in (pixels, pixels.double() / 255))
    difference = (loops.double() - tensors).abs()
    near = (loops.double() - 0.5).abs() < 1e-3  # a value at the threshold of solarising may fall on either side of it
    assert difference[~near].max() < 1e-4
    assert near.float().mean() < 0.02


def test_output_is_channels_last():
    out = joint(16)(view(uint8(6)), draw(6))["pixels"]
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_joint_follows_the_recipe():
    small, large = joint(32), joint(((0.0, 32), (0.5, 96)))
    assert [type(s).__name__ for s in small.steps] == ["ResizedCrop", "Jitter", "Grey"]
    assert [type(s).__name__ for s in large.steps] == ["ResizedCrop", "Jitter", "Grey", "Blur"]
    crop, tint, _ = small.steps
    assert (crop.scale, crop.flip, tint.brightness, tint.hue, tint.p) == ((0.2, 1.0), 0.5, 0.4, 0.1, 0.8)
    assert [type(s).__name__ for s in joint(32, grey=0, jitter=0, solarise=0.2).steps] == ["ResizedCrop", "Solarise"]
    assert "mirrored at 0.5" in small.describe()
    assert "grey left out: 1 channels" in small.describe(1)


def test_a_purpose_that_two_transforms_share_is_refused():
    with pytest.raises(ValueError, match="share a purpose"):
        Compose((Blur(), Blur()))
    pixels = uint8(8, height=24, width=24)
    twice = Compose((Blur(1.0), Blur(1.0, purpose="second blur")))
    assert not torch.equal(twice(view(pixels), draw(8))["pixels"], Blur(1.0)(view(pixels), draw(8))["pixels"])


def test_compose_after_an_identity_does_not_write_into_the_data():
    pixels = uint8(30) / 255
    before = pixels.clone()
    Compose((Plain(12), Jitter(p=1.0), Grey(1.0), Solarise(1.0)))(view(pixels), draw(30))
    assert torch.equal(pixels, before)


def test_progressive_sizes_and_multi_crop():
    step = joint(((0.0, 8), (0.5, 12)))
    assert step(view(uint8(3)), draw(3, progress=0.2))["pixels"].shape[2:] == (8, 8)
    assert step(view(uint8(3)), draw(3, progress=0.7))["pixels"].shape[2:] == (12, 12)
    specs = multi_crop(joint(12), local(6), wholes=2, parts=4)
    assert [s.role for s in specs] == ["global"] * 2 + ["local"] * 4
    sides = [s.transform(view(uint8(3)), draw(3, number=i))["pixels"].shape[2] for i, s in enumerate(specs)]
    assert sides == [12, 12, 6, 6, 6, 6]


def test_small_crops_see_less():
    pixels = uint8(400, height=32, width=32)
    whole, part = (step(view(pixels), draw(400)).params["boxes"] for step in (joint(16), local(8)))
    share = [float((b[:, 2] * b[:, 3]).mean()) / 32**2 for b in (whole, part)]
    assert np.isclose(share[0], 0.57, atol=0.06)
    assert np.isclose(share[1], 0.125, atol=0.02)


def test_loops_are_compiled_where_no_cache_can_be_written():
    from selftaught.views import kernels

    place: dict = {}
    exec("def double(x):\n    return 2 * x\n", place)  # numba has no folder for code that came from no file
    assert kernels.compiled(place["double"])(21) == 42


@pytest.mark.parametrize("rows", [0, 1])
def test_batches_of_none_and_of_one(rows):
    pixels = torch.zeros(rows, 3, 24, 24, dtype=torch.uint8)
    for step in (joint(20, blur=0.5, solarise=0.5), mild(24)):
        assert step(view(pixels), draw(rows))["pixels"].shape[:2] == (rows, 3)
