"""Relative position, jigsaw and same-image: objectives against loops over rows and tiles, and answers that can be learned."""

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from selftaught import views
from selftaught.core import View
from selftaught.methods.jigsaw import Jigsaw, far_apart
from selftaught.methods.relative_position import RelativePosition
from selftaught.methods.same_image import SameImage

from .small import Pictures, batch_of, convolutional, made


@dataclass(frozen=True)
class Tiled(Pictures):
    """Pictures of 16 pixels that can be cut."""

    side: ClassVar[int] = 16

    def plain(self, facts):
        return lambda view, draw: view

    def tiles(self, view, grid, draw, **shortcuts):
        cut = views.tiles(view["pixels"], grid, draw, (0.5,) * 3, (0.25,) * 3, **shortcuts)
        return [View("image", parts={"pixels": tile}) for tile in cut]


def ready(method, rows=5):
    pixels = torch.rand(rows, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    method = made(method, convolutional().eval(), Tiled())
    method.encoder.eval()  # running statistics: so that a row's loss is its own
    return method, batch_of(method, View("image", parts={"pixels": pixels}), Tiled())


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def features(method, batch, grid, **shortcuts):
    tiles = Tiled().tiles(batch.views[0], grid, batch.draw(), **shortcuts)
    with torch.no_grad():
        return [method.encoder(t) for t in tiles]


def test_relative_position_is_cross_entropy_over_the_eight_neighbours():
    method, batch = ready(RelativePosition(grid=3, hidden=12, colour="project", reveal=("border",)))
    found, total, right = features(method, batch, 3, colour="project", reveal=("border",)), 0.0, 0
    neighbours = [0, 1, 2, 3, 5, 6, 7, 8]
    with torch.no_grad():
        for row, (answer, tile) in itertools.product(range(5), enumerate(neighbours)):
            logits = method.head(torch.cat([found[4][row], found[tile][row]])[None])[0].numpy()
            total -= math.log(softmax(logits)[answer])
            right += int(logits.argmax() == answer)
    out = method(batch)
    assert out["loss"].item() == pytest.approx(total / 40, abs=1e-9)
    assert float(out["accuracy"]) == pytest.approx(right / 40)
    assert float(out["baseline"]) == pytest.approx(math.log(8))


def test_of_four_tiles_every_pair_is_asked_in_both_directions():
    method, batch = ready(RelativePosition(hidden=12))
    found, total, places = features(method, batch, 2, colour="drop"), 0.0, []
    around = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    with torch.no_grad():
        for a, b in itertools.permutations(range(4), 2):
            place = around.index((b // 2 - a // 2, b % 2 - a % 2))
            places.append(place)
            for row in range(5):
                logits = method.head(torch.cat([found[a][row], found[b][row]])[None])[0].numpy()
                total -= math.log(softmax(logits)[place])
    out = method(batch)
    assert out["loss"].item() == pytest.approx(total / 60, abs=1e-9)
    shares = np.bincount(places) / 12
    assert float(out["baseline"]) == pytest.approx(-(shares * np.log(shares)).sum())


def test_four_tiles_have_twenty_four_orders():
    method, _ = ready(Jigsaw(part=4, hidden=12))
    assert sorted(map(tuple, method.get_buffer("order").tolist())) == sorted(itertools.permutations(range(4)))


def test_jigsaw_is_cross_entropy_over_the_orders():
    method, batch = ready(Jigsaw(grid=3, orders=7, part=4, hidden=12))
    found, order = features(method, batch, 3), method.get_buffer("order")
    wanted = batch.draw().integers("order", 7)
    total = 0.0
    with torch.no_grad():
        for row in range(5):
            parts = [method.narrow(found[int(t)][row][None])[0] for t in order[wanted[row]]]
            total -= math.log(softmax(method.head(torch.cat(parts)[None])[0].numpy())[wanted[row]])
    out = method(batch)
    assert out["loss"].item() == pytest.approx(total / 5, abs=1e-9)
    assert float(out["baseline"]) == pytest.approx(math.log(7))
    assert len(set(batch.draw().integers("order", 7).tolist())) > 1


def test_orders_of_the_jigsaw_are_permutations_far_from_one_another():
    order = far_apart(64, 9)
    assert all(sorted(row) == list(range(9)) for row in order.tolist())
    apart = [(a != b).sum().item() for a, b in itertools.combinations(order, 2)]
    assert min(apart) >= 5
    random_ones = torch.stack([torch.randperm(9, generator=torch.Generator().manual_seed(k)) for k in range(64)])
    assert min(apart) > min((a != b).sum().item() for a, b in itertools.combinations(random_ones, 2))
    assert torch.equal(order[:10], far_apart(10, 9)), "the first ones are the same whatever their number"


def test_same_image_asks_every_pair_of_the_batch_with_as_many_yes_as_no():
    method, batch = ready(SameImage(width=6))
    found, total, right = features(method, batch, 2, colour="jitter"), 0.0, 0.0
    with torch.no_grad():
        asked, other = ([head(f).numpy() for f in found] for head in (method.asked, method.other))
    for tile in range(4):
        for i in range(5):
            for j in range(5):
                score = asked[tile][i] @ other[(tile + 1) % 4][j] / math.sqrt(6)
                share = 0.5 if i == j else 0.5 / 4
                total += share * math.log1p(math.exp(-score if i == j else score))
                right += share * ((score > 0) == (i == j))
    out = method(batch)
    assert out["loss"].item() == pytest.approx(total / 20, abs=1e-9)
    assert float(out["accuracy"]) == pytest.approx(right / 20)


def test_same_image_that_sees_no_difference_loses_what_its_baseline_says():
    method, batch = ready(SameImage(width=6))
    with torch.no_grad():
        method.asked.weight.zero_()
        method.asked.bias.zero_()
    out = method(batch)
    assert out["loss"].item() == pytest.approx(float(out["baseline"]), abs=1e-12)
