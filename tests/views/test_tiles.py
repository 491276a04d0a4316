"""Tiles: where they come from, pixel by pixel, and that what would give their place away is taken out."""

import numpy as np
import pytest
import torch

from selftaught.core import Draw, RequestError
from selftaught.views import tile_side, tiles
from selftaught.views.tiles import GREY, cut, softened


def pixels(rows=5, side=26, channels=3):
    return torch.rand(rows, channels, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_cut_takes_these_pixels():
    x, draw = pixels(), torch.Generator().manual_seed(1)
    corner = torch.randint(0, 5, (5, 9, 2), generator=draw)
    shift = torch.randint(-1, 2, (5, 9, 3, 2), generator=draw)
    s = tile_side(26, 3)
    found = cut(x, 3, corner, shift, s)
    assert found.shape == (5, 9, 3, s, s)
    for b in range(5):
        for t in range(9):
            for c in range(3):
                top, left = np.array([t // 3, t % 3]) * 8 + corner[b, t].numpy() + shift[b, t, c].numpy()
                down = np.clip(np.arange(top, top + s), 0, 25)
                across = np.clip(np.arange(left, left + s), 0, 25)
                np.testing.assert_array_equal(found[b, t, c], x[b, c].numpy()[np.ix_(down, across)])


@pytest.mark.parametrize(("side", "grid", "wanted"), [(32, 3, 8), (16, 3, 4), (32, 2, 12), (128, 3, 32), (224, 3, 60)])
def test_tiles_leave_a_gap(side, grid, wanted):
    assert tile_side(side, grid) == wanted <= 0.85 * side / grid


def test_pictures_that_are_too_small_are_refused():
    with pytest.raises(RequestError, match="12 pixels are too small for 3 x 3"):
        tile_side(12, 3)


def test_every_tile_has_the_same_mean_and_deviation_and_some_rows_no_colour():
    draw = Draw(torch.arange(200), seed=3)
    ramp = torch.linspace(0, 1, 32, dtype=torch.float64).view(1, 1, 32, 1) * torch.tensor([1, 0.6, 0.3])[:, None, None]
    noise = 0.2 * torch.rand(200, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = torch.stack(
        tiles(ramp + noise, 3, draw, (0.5, 0.4, 0.3), (0.2, 0.1, 0.3), colour="jitter", reveal=("blocks",)), 1
    )
    torch.testing.assert_close(found.mean((3, 4)), torch.tensor([0.5, 0.4, 0.3]).double().expand(200, 9, 3))
    torch.testing.assert_close(
        found.std((3, 4), correction=0), torch.tensor([0.2, 0.1, 0.3]).double().expand(200, 9, 3), rtol=1e-6, atol=1e-6
    )
    plain = (found - found.mean((3, 4), keepdim=True)) / found.std((3, 4), keepdim=True)
    grey = (plain[:, :, 0] - plain[:, :, 1]).abs().amax((1, 2, 3)) < 1e-6
    assert grey.float().mean() == pytest.approx(GREY, abs=0.1)


def test_a_flat_tile_stays_flat():
    found = tiles(torch.full((2, 3, 32, 32), 0.7), 2, Draw(torch.arange(2)), (0.5,) * 3, (0.2,) * 3)
    assert all(torch.allclose(t, torch.tensor(0.5)) for t in found)


def test_a_rows_tiles_depend_on_that_row_alone_and_differ_from_step_to_step():
    x = pixels(6, 32)
    whole = tiles(x, 3, Draw(torch.arange(6), step=2), (0.5,) * 3, (0.2,) * 3)
    part = tiles(x[4:], 3, Draw(torch.tensor([4, 5]), step=2), (0.5,) * 3, (0.2,) * 3)
    later = tiles(x, 3, Draw(torch.arange(6), step=3), (0.5,) * 3, (0.2,) * 3)
    assert all(torch.equal(a[4:], b) for a, b in zip(whole, part, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(whole, later, strict=True))


def test_softening_is_a_triangle_of_each_tiles_own_width():
    x = torch.rand(2, 4, 3, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    width = torch.tensor([[1.0, 1.5, 2.0, 1.2], [1.9, 1.0, 1.1, 1.7]], dtype=torch.float64)
    found = softened(x, width)
    for b in range(2):
        for t in range(4):
            weight = np.maximum(0, 1 - np.abs(np.subtract.outer(np.arange(7), np.arange(7))) / float(width[b, t]))
            weight /= weight.sum(1, keepdims=True)
            for c in range(3):
                np.testing.assert_allclose(found[b, t, c], weight @ x[b, t, c].numpy() @ weight.T, atol=1e-12)


def test_a_tile_of_one_channel_shows_each_channel_as_often():
    x = torch.zeros(600, 3, 32, 32) + torch.tensor([0.2, 0.5, 0.8])[:, None, None]
    found = torch.stack(tiles(x, 3, Draw(torch.arange(600)), (0.5,) * 3, (0.2,) * 3, reveal=("brightness",)), 1)
    assert torch.equal(found[:, :, 0], found[:, :, 1])
    assert torch.equal(found[:, :, 0], found[:, :, 2])
    shown = found[:, :, 0, 0, 0]
    for value in (0.2, 0.5, 0.8):
        assert float((shown - value).abs().lt(1e-5).float().mean()) == pytest.approx(1 / 3, abs=0.03)
    assert len({tuple(row) for row in shown[:, :].round(decimals=3).tolist()}) > 300, "each tile draws its own"


def test_an_open_border_leaves_no_gap():
    x = pixels(3, 36)
    found = torch.stack(tiles(x, 3, Draw(torch.arange(3)), (0.5,) * 3, (0.2,) * 3, colour="keep", reveal=("border", "blocks", "brightness")), 1)  # fmt: skip
    whole = found.view(3, 3, 3, 3, 12, 12).permute(0, 3, 1, 4, 2, 5).reshape(3, 3, 36, 36)
    assert torch.equal(whole, x)
