"""Planted shortcuts: sets of noise whose only hint at a tile's place is one shortcut.  A small classifier uses it where it is open, and cannot where it is closed."""

import io
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image as Pillow

from selftaught.core import Draw, Facts, RequestError, View
from selftaught.methods.rotation import Rotation
from selftaught.modalities.image import Image
from selftaught.views import tiles

GRID, ROWS = 3, 240
CHANCE = 1 / GRID**2


def noise(side, *, channels=1, smooth=0.0, rows=ROWS, seed=0):
    """(rows, channels, side, side) in 0-1, smoothed by a Gaussian of `smooth` pixels."""
    x = torch.randn(rows, channels, side + 16, side + 16, generator=torch.Generator().manual_seed(seed))
    if smooth:
        along = torch.arange(-6, 7) / smooth
        kernel = torch.exp(-along.square() / 2)
        kernel = kernel / kernel.square().sum().sqrt()
        for shape in ((1, 1, 13, 1), (1, 1, 1, 13)):
            x = F.conv2d(x.flatten(0, 1)[:, None], kernel.view(shape), padding="same").view(x.shape)
    return (0.5 + 0.12 * x[..., 8:-8, 8:-8]).clamp(0, 1)


def cut(pixels, **options):
    """(rows, 9, C, s, s)"""
    return torch.stack(tiles(pixels, GRID, Draw(torch.arange(len(pixels))), (0.5,) * 3, (0.2,) * 3, **options), 1)


def accuracy(features: np.ndarray, answers: np.ndarray) -> float:
    """Share of the second half that a ridge regression on the first half gets right, numbers and their squares standardised."""
    x = np.concatenate([features, features**2], 1)
    half = len(x) // 2
    mean, std = x[:half].mean(0), x[:half].std(0) + 1e-9
    x = np.concatenate([(x - mean) / std, np.ones((len(x), 1))], 1)
    wanted = np.eye(answers.max() + 1)[answers]
    weights = np.linalg.solve(x[:half].T @ x[:half] + 3 * np.eye(x.shape[1]), x[:half].T @ wanted[:half])
    return float(((x[half:] @ weights).argmax(1) == answers[half:]).mean())


def place(found, statistics) -> float:
    """How well `statistics` of single tiles tell their place in the grid."""
    answers = np.tile(np.arange(GRID**2), len(found))
    return accuracy(statistics(found.flatten(0, 1)).double().numpy(), answers)


def fringes(found):
    """Products of every two channels, one of them moved by up to two pixels."""
    inner = found[..., 2:-2, 2:-2] - found.mean((2, 3), keepdim=True)
    s, out = inner.shape[-1], []
    for a, b in itertools.combinations_with_replacement(range(3), 2):
        for y, x in itertools.product(range(5), repeat=2):
            moved = found[:, b, y : y + s, x : x + s] - found[:, b].mean((1, 2), keepdim=True)
            out.append((inner[:, a] * moved).mean((1, 2)))
    return torch.stack(out, 1)


def lines(found):
    """How steep the picture is between each two neighbouring rows, and columns."""
    x = found[:, 0] - found[:, 0].mean((1, 2), keepdim=True)
    return torch.cat([x.diff(dim=1).abs().mean(2), x.diff(dim=2).abs().mean(1)], 1)


def lens(x, scales=(1.04, 1.0, 0.96)):
    """Grey pictures (B, 1, H, W) -> RGB, each channel magnified by its own scale about the middle."""
    planes = []
    for scale in scales:
        turn = torch.tensor([[1 / scale, 0, 0], [0, 1 / scale, 0]]).expand(len(x), -1, -1)
        grid = F.affine_grid(turn, list(x.shape), align_corners=False)
        planes.append(F.grid_sample(x, grid, padding_mode="reflection", align_corners=False))
    return torch.cat(planes, 1)


@pytest.fixture(scope="module")
def fringed():
    return lens(noise(72, smooth=1.0))


def test_fringes_of_a_lens_tell_the_place_and_one_channel_a_tile_does_not(fringed):
    assert place(cut(fringed, colour="keep", reveal=("blocks",)), fringes) > 0.9
    assert place(cut(fringed, colour="drop", reveal=("blocks",)), fringes) < CHANCE + 0.06
    assert place(cut(fringed), fringes) < CHANCE + 0.06, "closed by default"


def test_jitter_of_channels_hides_less(fringed):
    assert CHANCE + 0.1 < place(cut(fringed, colour="jitter", reveal=("blocks",)), fringes) < 0.5


def test_projection_takes_out_fringes_of_green_against_the_others_and_no_other_ones(fringed):
    green = lens(noise(72, smooth=1.0), (1.04, 1.0, 1.04))
    found = cut(green, colour="project", reveal=("blocks", "brightness"))
    torch.testing.assert_close(found[:, :, 0], found[:, :, 1], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, :, 0], found[:, :, 2], rtol=0, atol=1e-5)
    assert place(cut(green, colour="project"), fringes) < place(cut(green, colour="keep"), fringes) - 0.5
    assert place(cut(fringed, colour="project"), fringes) > 0.9, "red against blue"
    with pytest.raises(RequestError, match="not 2 channels"):
        cut(noise(72, channels=2, rows=2), colour="project")


def sides(found):
    """(pairs, numbers) the products of each tile's rim with the facing rim of each other, and (pairs,) on which side the other one lies."""
    x = found[:, :, 0] - found[:, :, 0].mean((2, 3), keepdim=True)
    rims = {"top": x[..., 0, :], "bottom": x[..., -1, :], "left": x[..., 0], "right": x[..., -1]}
    beside = {1: ("top", "bottom"), 3: ("left", "right"), 5: ("right", "left"), 7: ("bottom", "top")}
    numbers = [
        torch.stack([(rims[a][:, 4] * rims[b][:, other]).mean(1) for a, b in beside.values()], 1) for other in beside
    ]
    return torch.stack(numbers, 1).flatten(0, 1).double().numpy(), np.tile(np.arange(4), len(found))


def test_what_goes_on_across_a_border_tells_the_side_and_a_gap_with_jitter_hides_it():
    pictures = noise(72, channels=3, smooth=1.0, rows=2 * ROWS)
    pictures[:, 1:] = pictures[:, :1]
    assert accuracy(*sides(cut(pictures, reveal=("border", "blocks")))) > 0.8
    assert accuracy(*sides(cut(pictures))) < 0.25 + 0.1


def test_slow_changes_of_brightness_tell_the_place_and_even_tiles_do_not():
    ramp = torch.linspace(-0.15, 0.15, 72)
    pictures = noise(72, channels=3)
    pictures[:, 0] += ramp[:, None]
    pictures[:, 1] += ramp

    def light(found):
        return torch.cat([found.mean((2, 3)), found.std((2, 3))], 1)

    assert place(cut(pictures, colour="keep", reveal=("brightness",)), light) > 0.9
    assert place(cut(pictures, colour="keep"), light) < CHANCE + 0.06


def encoded(side, quality=30):
    """Noise as JPEG gives it back."""
    out = []
    for row in (255 * noise(side, smooth=0.8)[:, 0]).byte().numpy():
        file = io.BytesIO()
        Pillow.fromarray(row).convert("RGB").save(file, "jpeg", quality=quality)
        out.append(np.asarray(Pillow.open(file)))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2)


def test_blocks_tell_the_place_and_whole_blocks_of_jitter_hide_it():
    pictures = encoded(105)
    assert place(cut(pictures, reveal=("blocks", "border")), lines) > 0.5
    assert place(cut(pictures), lines) < CHANCE + 0.06


def test_in_small_pictures_blocks_are_softened():
    pictures = encoded(32)
    assert place(cut(pictures, reveal=("blocks",)), lines) > CHANCE + 0.07
    assert place(cut(pictures), lines) < CHANCE + 0.05


def turned(margin):
    """How well the rims of turned views tell the turn of pictures whose last line is dark."""
    pictures = noise(48, rows=600)
    pictures[:, :, -1] = 0
    raw = View("image", parts={"pixels": pictures})
    method, modality = Rotation(margin=margin), Image(48, 1, (0.5,), (0.2,))
    (spec,) = method.views(Facts(rows=len(pictures), modality=modality))
    view = spec.transform(raw, Draw(torch.arange(len(pictures))))
    views = torch.stack([modality.turn(view, quarter)["pixels"] for quarter in range(4)], 1)[:, :, 0]
    rims = torch.stack([views[..., 0, :], views[..., -1, :], views[..., 0], views[..., -1]], 2).mean(3)
    return accuracy(rims.flatten(0, 1).double().numpy(), np.tile(np.arange(4), len(views)))


def test_a_dark_rim_tells_the_turn_and_a_margin_hides_it():
    assert turned(0.0) > 0.25 + 0.08
    assert turned(Rotation().margin) < 0.25 + 0.03
