"""Crops and mirrors move pixels, masks and boxes together."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from selftaught.core import Draw, Ragged, View
from selftaught.views import RegionCrop
from selftaught.views.regions import VISIBLE


def view_of(boxes: list[list[list[float]]], wide: int = 60, high: int = 48) -> View:
    """Pixels and mask of white rectangles, and their boxes."""
    mask = torch.zeros(len(boxes), high, wide, dtype=torch.uint8)
    for row, some in enumerate(boxes):
        for left, top, right, bottom in some:
            mask[row, int(top) : int(bottom), int(left) : int(right)] = 1
    flat = torch.tensor([[*b, 2.0] for some in boxes for b in some]).view(-1, 5)
    offsets = torch.tensor(np.cumsum([0, *map(len, boxes)]))
    pixels = (mask[:, None].float() * 255).to(torch.uint8).expand(-1, 3, -1, -1)
    return View("image", parts={"pixels": pixels, "mask": mask, "objects": Ragged(flat, offsets)})


@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.6, 1.0]))
def test_a_box_stays_around_its_pixels(seed, least):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, [30, 20], (4, 2))
    boxes = [
        [[float(x), float(y), float(x + w), float(y + h)]] for (x, y), (w, h) in zip(low, rng.integers(10, 24, (4, 2)))
    ]
    before = view_of(boxes)
    after = RegionCrop(least=least)(before, Draw(torch.arange(4), seed))
    objects = after.parts["objects"]
    assert torch.equal((after["pixels"][:, 0] > 0.5), after["mask"] == 1) or least < 1
    for row in range(4):
        own = objects.values[objects.offsets[row] : objects.offsets[row + 1]]
        inside = (after["mask"][row] == 1).nonzero()
        window = after.params["boxes"][row]
        if not len(own):  # gone: little of it was left
            scale = 60 * 48 / float(window[2] * window[3])
            whole = np.prod(np.subtract(boxes[row][0][2:], boxes[row][0][:2])) * scale
            assert len(inside) <= 1.3 * VISIBLE * whole + 60
            continue
        top, left = inside.amin(0).tolist()
        bottom, right = (inside.amax(0) + 1).tolist()
        np.testing.assert_allclose(own[0, :4], [left, top, right, bottom], atol=2.01)
        assert own[0, 4] == 2


def test_mirroring_alone_is_exact_and_a_row_does_not_depend_on_its_neighbours():
    before = view_of([[[5, 6, 20, 30]], [], [[0, 0, 8, 8], [40, 10, 60, 48]]])
    mirror = RegionCrop(least=1.0, flip=1.0)
    after = mirror(before, Draw(torch.arange(3), 0))
    assert torch.equal(after["mask"], before["mask"].flip(2))
    assert torch.equal(after["pixels"], before["pixels"].flip(3).float() / 255)
    assert after.parts["objects"].values[:, :4].tolist() == [[40, 6, 55, 30], [52, 0, 60, 8], [0, 10, 20, 48]]
    assert after.parts["objects"].lengths.tolist() == [1, 0, 2]
    crop = RegionCrop()
    whole, alone = (
        crop(before, Draw(torch.arange(3), 5)),
        crop(before.take(torch.tensor([2])), Draw(torch.tensor([2]), 5)),
    )
    assert torch.equal(whole["mask"][2], alone["mask"][0])
    torch.testing.assert_close(whole["pixels"][2], alone["pixels"][0])
    assert torch.equal(whole.parts["objects"].take(torch.tensor([2])).values, alone.parts["objects"].values)


def test_nothing_is_cropped_or_mirrored_where_nothing_is_asked():
    before = view_of([[[5, 6, 20, 30]]])
    after = RegionCrop(least=1.0, flip=0.0)(before, Draw(torch.arange(1), 0))
    assert torch.equal(after["mask"], before["mask"])
    assert torch.equal(after.parts["objects"].values, before.parts["objects"].values)
