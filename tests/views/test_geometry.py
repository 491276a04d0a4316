import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from selftaught.views import Flip, Plain, ResizedCrop, Rotate, central, quarter_turns, rotate, side_at
from selftaught.views.geometry import ATTEMPTS, draw_boxes, resized_crop

from .pictures import draw, uint8, view

BOXES = torch.tensor([[0, 0, 12, 17], [3, 2, 7, 11], [11, 16, 1, 1], [0, 5, 12, 4], [2, 0, 5, 17]])


def reference_crop(pixels, box, size, flip, antialias):
    """What torchvision's resized_crop and hflip call on one float image."""
    top, left, height, width = box.tolist()
    window = pixels[None, :, top : top + height, left : left + width].double() / 255
    out = F.interpolate(window, size, mode="bilinear", align_corners=False, antialias=antialias)[0]
    return out.flip(2) if flip else out


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(9, 9), (5, 30), (1, 1), (12, 17)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resized_crop_is_interpolation_of_each_window(size, antialias, channels):
    pixels = uint8(5, channels, 12, 17)
    flip = torch.tensor([False, True, False, True, True])
    wanted = torch.stack(
        [reference_crop(p, b, size, f, antialias) for p, b, f in zip(pixels, BOXES, flip, strict=True)]
    )
    loops = resized_crop(pixels, BOXES, size, flip=flip, antialias=antialias)
    floats = resized_crop((pixels / 255).float(), BOXES, size, flip=flip, antialias=antialias)
    tensors = resized_crop(pixels.double() / 255, BOXES, size, flip=flip, antialias=antialias)
    assert loops.dtype == torch.float32
    torch.testing.assert_close(loops.double(), wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(floats.double(), wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(tensors, wanted, rtol=0, atol=1e-12)


def test_resized_crop_is_pillows_antialiased_resize():
    pixels = uint8(3, 1, 40, 31)
    boxes = torch.tensor([[0, 0, 40, 31], [5, 3, 30, 20], [1, 2, 9, 28]])
    ours = resized_crop(pixels, boxes, (13, 16))
    for row, (top, left, height, width) in enumerate(boxes.tolist()):
        window = pixels[row, 0, top : top + height, left : left + width].numpy().astype(np.float32)
        pillow = np.asarray(Image.fromarray(window).resize((16, 13), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(ours[row, 0].numpy() * 255, pillow, atol=2e-3)


def test_whole_window_at_its_own_size_is_the_picture():
    pixels = uint8(4)
    box = torch.tensor([[0, 0, 12, 12]]).expand(4, -1)
    assert torch.equal((resized_crop(pixels, box, 12) * 255).round().byte(), pixels)
    assert torch.equal(
        (resized_crop(pixels, box, 12, flip=torch.ones(4, dtype=torch.bool)) * 255).round().byte(), pixels.flip(3)
    )


@pytest.mark.parametrize("box", [[-1, 0, 4, 4], [0, 9, 4, 4], [0, 0, 0, 4], [9, 0, 4, 4]])
def test_windows_outside_the_picture_are_refused(box):
    with pytest.raises(ValueError, match="outside the 12 x 12"):
        resized_crop(uint8(2), torch.tensor([[0, 0, 12, 12], box]), 8)


def torchvision_windows(count, height, width, scale, ratio, seed):
    """RandomResizedCrop.get_params as torchvision documents it, one picture at a time."""
    rng, out = np.random.default_rng(seed), []
    for _ in range(count):
        for _ in range(10):
            area = height * width * rng.uniform(*scale)
            aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                out.append((rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w))
                break
        else:
            inside = min(max(width / height, ratio[0]), ratio[1])
            w = width if width / height <= ratio[1] else round(height * inside)
            h = height if width / height >= ratio[0] else round(width / inside)
            out.append(((height - h) // 2, (width - w) // 2, h, w))
    return np.array(out)


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(240, 240, (0.2, 1.0)), (150, 400, (0.08, 1.0)), (90, 80, (0.9, 1.0))]
)
def test_windows_are_distributed_as_torchvisions(height, width, scale):
    count, ratio = 4000, (3 / 4, 4 / 3)
    uniform = draw(count).uniform("crop", 2 * ATTEMPTS + 2)
    ours = draw_boxes(uniform, height, width, scale, ratio).numpy()
    theirs = torchvision_windows(count, height, width, scale, ratio, 1)
    top, left, h, w = ours.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()
    for ours_of, theirs_of in (
        (h * w, theirs[:, 2] * theirs[:, 3]), (np.log(w / h), np.log(theirs[:, 3] / theirs[:, 2])), (top, theirs[:, 0]), (left, theirs[:, 1]),
    ):  # fmt: skip
        assert stats.ks_2samp(ours_of, theirs_of).pvalue > 1e-3


def test_without_a_fitting_shape_the_middle_is_taken():
    uniform = torch.full((1, 2 * ATTEMPTS + 2), 0.999)
    assert draw_boxes(uniform, 10, 100, (1.0, 1.0), (3 / 4, 4 / 3)).tolist() == [[0, 43, 10, 13]]
    assert draw_boxes(uniform, 100, 10, (1.0, 1.0), (3 / 4, 4 / 3)).tolist() == [[43, 0, 13, 10]]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 1), st.integers(0, 1000))
def test_windows_stay_inside_pictures_of_any_shape(height, width, low, seed):
    uniform = draw(64, seed).uniform("crop", 2 * ATTEMPTS + 2)
    uniform[:8, -2:] = 1 - 2**-24  # the largest number that is drawn
    top, left, h, w = draw_boxes(uniform, height, width, (low, 1.0), (3 / 4, 4 / 3)).T
    assert bool(((top >= 0) & (left >= 0) & (h > 0) & (w > 0) & (top + h <= height) & (left + w <= width)).all())


def test_crop_writes_what_it_did():
    pixels = uint8(64, height=20, width=20)
    out = ResizedCrop(10, scale=(0.3, 1.0), flip=0.5)(view(pixels), draw(64))
    assert out["pixels"].shape == (64, 3, 10, 10)
    again = resized_crop(pixels, out.params["boxes"].long(), 10, flip=out.params["flips"])
    assert torch.equal(out["pixels"], again)
    assert 20 < int(out.params["flips"].sum()) < 44


def test_schedule_of_sizes():
    size = ((0.0, 8), (0.4, 12), (0.9, 16))
    assert [side_at(size, p) for p in (0.0, 0.39, 0.4, 0.89, 0.9, 1.0)] == [8, 8, 12, 12, 16, 16]
    crop = ResizedCrop(size)
    assert crop(view(uint8(3)), draw(3, progress=0.5))["pixels"].shape[2:] == (12, 12)
    for wrong in (0, (), ((0.1, 8),), ((0.0, 8), (0.5, 0)), ((0.0, 8), (0.9, 9), (0.5, 10))):
        with pytest.raises(ValueError, match="size"):
            ResizedCrop(wrong)


def test_flip_mirrors_the_rows_it_says():
    pixels = uint8(50)
    out = Flip(0.5)(view(pixels), draw(50))
    for row, flipped in enumerate(out.params["flips"].tolist()):
        assert torch.equal(out["pixels"][row], pixels[row].flip(2) if flipped else pixels[row])
    assert 0 < int(out.params["flips"].sum()) < 50


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_quarter_turns_are_exact_in_each_row(dtype):
    pixels = uint8(9).to(dtype)
    turns = torch.tensor([0, 1, 2, 3, 4, 5, -1, 2, 1])
    out = quarter_turns(pixels, turns)
    for row, turn in enumerate(turns.tolist()):
        assert np.array_equal(out[row].numpy(), np.rot90(pixels[row].numpy(), turn, (1, 2)))
    with pytest.raises(ValueError, match="square"):
        quarter_turns(uint8(2, height=4, width=5), torch.tensor([1, 0]))


def slow_rotation(pixels, degrees, nearest):
    """One picture, by the definition: each output pixel looks where it came from."""
    _, height, width = pixels.shape
    out = np.zeros(pixels.shape)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for i in range(height):
        for j in range(width):
            x, y = j + 0.5 - width / 2, i + 0.5 - height / 2
            u = cosine * x - sine * y + width / 2 - 0.5  # anticlockwise on screen, where y points down
            v = sine * x + cosine * y + height / 2 - 0.5
            corners = [(round(v), round(u), 1.0)] if nearest else [
                (math.floor(v) + a, math.floor(u) + b, (1 - abs(v - math.floor(v) - a)) * (1 - abs(u - math.floor(u) - b)))
                for a in (0, 1) for b in (0, 1)
            ]  # fmt: skip
            for r, c, weight in corners:
                if 0 <= r < height and 0 <= c < width:
                    out[:, i, j] += weight * pixels[:, r, c]
    return out


@pytest.mark.parametrize("nearest", [False, True])
def test_rotation_by_any_angle(nearest):
    pixels = uint8(4, height=11, width=8).double() / 255
    degrees = torch.tensor([0.0, 17.3, -120.5, 45.0], dtype=torch.float64)
    out = rotate(pixels, degrees, nearest=nearest)
    for row in range(4):
        np.testing.assert_allclose(
            out[row].numpy(), slow_rotation(pixels[row].numpy(), degrees[row].item(), nearest), atol=1e-9
        )


def test_rotation_by_a_quarter_is_a_quarter_turn():
    pixels = uint8(3).double() / 255
    torch.testing.assert_close(
        rotate(pixels, torch.tensor([90.0, -90.0, 180.0])), quarter_turns(pixels, torch.tensor([1, 3, 2]))
    )
    turned = Rotate((-30.0, 30.0))(view(uint8(200)), draw(200))
    assert turned.params["degrees"].min() >= -30
    assert turned.params["degrees"].max() <= 30
    assert stats.kstest(turned.params["degrees"].numpy(), stats.uniform(-30, 60).cdf).pvalue > 1e-3


def test_plain_view_is_the_same_memory_where_the_size_matches():
    pixels = uint8(3)
    assert Plain(12)(view(pixels))["pixels"] is pixels


@pytest.mark.parametrize(("height", "width"), [(30, 20), (16, 41), (9, 9)])
def test_plain_view_resizes_the_shorter_side_and_cuts_the_middle(height, width):
    pixels, side = uint8(2, 3, height, width), 8
    whole = (side, int(side * width / height)) if height <= width else (int(side * height / width), side)
    resized = F.interpolate(pixels.double() / 255, whole, mode="bilinear", antialias=True)
    top, left = round((whole[0] - side) / 2), round((whole[1] - side) / 2)
    torch.testing.assert_close(
        central(pixels, side).double(), resized[:, :, top : top + side, left : left + side], rtol=0, atol=1e-6
    )
