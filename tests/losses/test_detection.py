"""What a detector loses, against loops in float64."""

import math

import pytest
import torch

from selftaught.core import random
from selftaught.losses.detection import EXTENT, REACH, assign, centreness, focal, giou


def numbers(key: int, *shape: int) -> torch.Tensor:
    return random.uniform(key, torch.arange(shape[0]), shape[1:]).double()


def test_focal_loss_is_its_equation():
    logits, wanted = 6 * numbers(0, 5, 3) - 3, (numbers(1, 5, 3) < 0.3).double()
    total = 0.0
    for x, y in zip(logits.flatten().tolist(), wanted.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        at, balance = (p, 0.25) if y else (1 - p, 0.75)
        total -= balance * (1 - at) ** 2 * math.log(at)
    assert float(focal(logits, wanted)) == pytest.approx(total, rel=1e-12)


def test_generalised_overlap_is_its_definition_and_falls_with_the_gap():
    low = 10 * numbers(2, 20, 2)
    first = torch.cat([low, low + 1 + 5 * numbers(3, 20, 2)], 1)
    low = 10 * numbers(4, 20, 2)
    second = torch.cat([low, low + 1 + 5 * numbers(5, 20, 2)], 1)
    for a, b, got in zip(first.tolist(), second.tolist(), giou(first, second).tolist(), strict=True):
        wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        shared = max(wide, 0) * max(high, 0)
        union = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)) - shared
        hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
        assert got == pytest.approx(shared / union - (hull - union) / hull, rel=1e-9)
    assert giou(first, first).tolist() == pytest.approx([1.0] * 20)
    box = torch.tensor([[0.0, 0, 1, 1]])
    near, far = giou(box, box + 2), giou(box, box + 5)
    assert -1 < far < near < 0


def test_centreness_is_one_in_the_middle_and_nought_at_the_rim():
    got = centreness(torch.tensor([[2.0, 3, 2, 3], [0, 3, 4, 3], [1, 1, 3, 4]]))
    assert got.tolist() == pytest.approx([1.0, 0.0, math.sqrt(1 / 3 * 1 / 4)])


def test_points_answer_for_the_smallest_box_of_their_level_near_its_centre():
    stride = torch.tensor([4.0, 8.0])
    points, strides = [], []
    for s in stride.tolist():
        count = int(48 / s)
        for i in range(count):
            for j in range(count):
                points.append([(j + 0.5) * s, (i + 0.5) * s])
                strides.append([s, s])
    points, strides = torch.tensor(points), torch.tensor(strides)
    low = 30 * numbers(6, 8, 2).float()
    boxes = torch.cat([low, low + 3 + 30 * numbers(7, 8, 2).float()], 1)
    got = assign(points, strides, boxes)
    for (x, y), (s, _), which in zip(points.tolist(), strides.tolist(), got.tolist(), strict=True):
        fits = []
        for number, (left, top, right, bottom) in enumerate(boxes.tolist()):
            sides = (x - left, y - top, right - x, bottom - y)
            near = abs(x - (left + right) / 2) < REACH * s and abs(y - (top + bottom) / 2) < REACH * s
            level = max(sides) <= EXTENT * 4 if s == 4 else max(sides) > EXTENT * 4
            if min(sides) > 0 and near and level:
                fits.append(((right - left) * (bottom - top), number))
        assert which == (min(fits)[1] if fits else -1)
    assert (got >= 0).any()
    assert (assign(points, strides, boxes[:0]) == -1).all()
