"""Whole pictures on canvases: nothing is distorted, and boxes and masks lie where the pixels lie."""

import numpy as np
import pytest
import torch

from selftaught import nets
from selftaught.core import RequestError
from selftaught.data.boxes import open_boxes
from selftaught.data.masks import open_masks
from selftaught.measures.segmentation import IGNORED
from selftaught.modalities import find, names
from selftaught.modalities.canvas import Annotated, Canvas, MaskCanvas

from ..scenes import coco_folder, mask_folder, scene


def test_a_canvas_is_no_kind_of_data():
    assert "canvas" not in names()


@pytest.mark.parametrize(
    ("size", "inner"), [((40, 32), (80, 64)), ((100, 50), (96, 48)), ((10, 30), (21, 64)), ((1000, 5), (96, 1))]
)
def test_pictures_keep_their_shape(size, inner):
    canvas = Canvas((64, 96), mean=(0.2, 0.4, 0.6))
    assert canvas.inner(size) == inner
    picture = np.full((size[1], size[0], 3), 250, np.uint8)
    if max(size) <= 200 * min(size):
        out = canvas.decode(picture)
        assert (out[: inner[1], : inner[0]] == 250).all()
        rest = np.ones((64, 96), bool)
        rest[: inner[1], : inner[0]] = False
        assert (out[rest] == [51, 102, 153]).all()


def test_the_canvas_has_the_scale_of_pretraining_and_the_shape_of_the_median_picture():
    small = nets.build("resnet-small", widths=(8,), blocks=(1,), strides=(2,), stem=8)
    image = find("image")(side=32)
    canvas, same = Canvas.fit(np.array([[40, 32]] * 3 + [[32, 40], [0, 0]]), image, small)
    assert canvas.size == (32, 40)
    assert same is small
    assert Canvas.fit(np.array([[30, 90]] * 3), image, small)[0].size == (64, 32)  # at most twice as long as wide
    assert Canvas.fit(np.array([[40, 32]]), image, small, size=64)[0].size == (64, 80)
    vit = nets.build("vit", image_size=32, patch=8, width=16, depth=1, heads=2)
    assert Canvas.fit(np.array([[41, 32]]), image, vit)[0].size == (32, 48)  # whole patches
    with pytest.raises(RequestError, match="--size 7"):
        Canvas.fit(np.array([[40, 32]]), image, small, size=7)
    with pytest.raises(RequestError, match="5 channels"):
        Canvas.fit(np.array([[40, 32]]), find("image")(channels=5, mean=(0.5,) * 5, std=(0.2,) * 5), small)


def test_a_closed_form_keeps_its_dictionary_on_a_finer_grid():
    options = {"channels": 3, "patch": (6,), "shrink": (1,), "pad": (0,), "stride": (2,), "grey": (False,), "filters": (12,), "atoms": (32,), "width": (8,), "cells": (2,)}  # fmt: skip
    code = nets.build("patch-code", size=(32, 32), outputs=16, **options)
    fine, size = code.on_canvas((32, 40))
    assert size == (32, 40)
    pixels = torch.from_numpy(scene(0)[0]).permute(2, 0, 1)[None]
    (stage,) = fine.features(find("image")(side=32).collate(scene(0)[0][None]))
    assert stage.grid == (4, 4)
    square = code.sibling(cells=(2,), outputs=0)
    for name in ("filters", "atoms", "embedding", "threshold"):
        getattr(square.scales[0], name).copy_(getattr(code.scales[0], name))
    again, _ = square.on_canvas((32, 32))
    coarse = code.features(find("image")(side=32).collate(scene(0)[0][None, :, :32]))[0].values
    inner = again.features(find("image")(side=32).collate(scene(0)[0][None, :, :32]))[0].values
    assert pixels.shape[-1] == 40
    assert inner.shape[1] == 16
    assert coarse.shape[1] == 4


def test_boxes_and_masks_lie_where_the_pixels_lie(tmp_path):
    source, column, boxes = open_boxes(coco_folder(tmp_path / "a", rows=5))
    canvas = Canvas((64, 96), mean=(0.0, 0.0, 0.0))  # scale 2, 80 x 64 of it
    held = Annotated.of(source, column, canvas, boxes)
    view = held.fetch(np.array([3, 1]))
    assert view["pixels"].shape == (2, 3, 64, 96)
    for row, place in enumerate((3, 1)):
        start, end = view.parts["objects"].offsets[row : row + 2].tolist()
        np.testing.assert_allclose(view.parts["objects"].values[start:end, :4], 2 * scene(place)[1])
        assert held.truth(np.array([place]))[0] is boxes.objects[place]

    source, column, masks = open_masks(mask_folder(tmp_path / "b", rows=5))
    held = Annotated.of(source, column, canvas, masks)
    mask = held.fetch(np.array([4]))["mask"][0].numpy()
    assert (mask[:, 80:] == IGNORED).all()
    np.testing.assert_array_equal(mask[:, :80], scene(4)[3].repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(held.truth(np.array([4]))[0], scene(4)[3])
    assert held.subset(np.array([2, 4])).truth(np.array([1]))[0].tolist() == scene(4)[3].tolist()


def test_pictures_without_a_mask_are_left_out(tmp_path):
    root = mask_folder(tmp_path / "b", rows=5)
    (root / "masks" / "002.png").unlink()
    source, column, masks = open_masks(root, max_bad=0.5)
    held = Annotated.of(source, column, Canvas((32, 40)), masks)
    assert held.pictures.names() == ["000.jpg", "001.jpg", "003.jpg", "004.jpg"]
    np.testing.assert_array_equal(held.fetch(np.array([2]))["mask"][0], scene(3)[3])


def test_values_become_codes_and_what_is_no_class_is_ignored():
    codes = MaskCanvas(Canvas((2, 2)), values=(7, 0, 300)).codes(np.array([[0, 7], [300, 8]]))
    assert codes.tolist() == [[1, 0], [2, IGNORED]]
