"""Heads for objects and masks: their shapes, what they lose, what their answers mean, and that they are saved whole."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selftaught import nets
from selftaught.core import Kept, Ragged, RequestError, Tokens, View, random
from selftaught.losses.detection import assign
from selftaught.measures.detection import match
from selftaught.measures.segmentation import IGNORED
from selftaught.nets import store
from selftaught.nets.dense import Answers, Segmenter, maps_of, shape_of
from selftaught.nets.pixels import tokens_of
from selftaught.tasks.detect import Detect
from selftaught.tasks.segment import Segment

SIZE = (32, 40)


def net(**options):
    return nets.build("resnet-small", widths=(8, 16), blocks=(1, 1), strides=(2, 2), stem=8, **options)


def view(rows: int = 2) -> View:
    return View("image", parts={"pixels": random.uniform(0, torch.arange(rows), (3, *SIZE))})


def objects(*rows: list[list[float]]) -> Ragged:
    flat = torch.tensor([o for row in rows for o in row]).view(-1, 5)
    return Ragged(flat, torch.tensor(np.cumsum([0, *map(len, rows)])))


def test_stages_of_one_grid_are_read_together():
    tokens = [Tokens(torch.full((1, 7, 4), float(k)), grid=(2, 3), prefix=1) for k in range(6)]
    (maps,) = maps_of(tokens)
    assert maps.shape == (1, 16, 2, 3)
    assert maps[0, ::4, 0, 0].tolist() == [1, 2, 4, 5]  # evenly spaced, the last among them
    two = maps_of([tokens_of(torch.zeros(1, 5, 2, 2)), tokens_of(torch.ones(1, 3, 4, 4))])
    assert [m.shape[1] for m in two] == [3, 5]  # the finest first
    with pytest.raises(RequestError, match="no grid"):
        maps_of([Tokens(torch.zeros(1, 3, 4))])


def test_a_coarse_grid_is_doubled_and_a_lone_one_halved():
    lone = [tokens_of(torch.zeros(1, 8, 4, 5))]
    assert shape_of(lone, (64, 80), 3) == {"widths": [8], "up": 1, "down": 0}  # 2 cells a side would be too few
    assert shape_of(lone, (32, 40), 0) == {"widths": [8], "up": 0, "down": 0}
    fine = [tokens_of(torch.zeros(1, 8, 16, 20))]
    assert shape_of(fine, (64, 80), 3) == {"widths": [8], "up": 0, "down": 2}


@pytest.mark.parametrize("kind", ["resnet-small", "vit", "resnet"])
def test_heads_stand_over_every_encoder_with_a_grid(kind):
    encoder = {
        "resnet-small": net,
        "vit": lambda: nets.build("vit", image_size=32, patch=8, width=16, depth=2, heads=2),
        "resnet": lambda: nets.build("resnet", depth=18, width=8, image_size=32),
    }[kind]().eval()
    stages = encoder.features(view())
    answers = Detect(classes=("a", "b")).head(stages, SIZE)(stages)
    count = len(answers.points)
    assert answers.logits.shape == (2, count, 2)
    assert answers.distances.shape == (2, count, 4)
    assert (answers.distances > 0).all()
    assert (answers.points > 0).all()
    assert (answers.points < torch.tensor([40.0, 32.0])).all()
    assert float(torch.sigmoid(answers.logits.detach()).mean()) == pytest.approx(0.01, rel=0.2)
    assert Segment(classes=("a", "b", "c")).head(stages, SIZE)(stages).shape == (2, 3, *SIZE)


def perfect(task: Detect, true: Ragged, rows: int) -> Answers:
    """What a detector would say that knows the boxes: certain where a point answers for one, blind elsewhere."""
    stages = net().eval().features(view(rows))
    blank = task.head(stages, SIZE)(stages)
    logits, distances, centre = (
        torch.full_like(blank.logits, -20),
        torch.ones_like(blank.distances),
        torch.full_like(blank.centre, -20),
    )
    for row in range(rows):
        own = true.values[true.offsets[row] : true.offsets[row + 1]]
        which = assign(blank.points, blank.strides, own[:, :4])
        for a in (which >= 0).nonzero().flatten().tolist():
            left, top, right, bottom, kind = own[which[a]].tolist()
            x, y = blank.points[a].tolist()
            distances[row, a] = torch.tensor([x - left, y - top, right - x, bottom - y])
            ratio = (
                min(x - left, right - x)
                / max(x - left, right - x)
                * min(y - top, bottom - y)
                / max(y - top, bottom - y)
            )
            middle = ratio**0.5
            logits[row, a, int(kind)] = 20
            centre[row, a] = float(torch.logit(torch.tensor(middle), eps=1e-6))
    return Answers(logits, distances, centre, blank.points, blank.strides)


def test_answers_that_are_right_lose_little_and_score_one():
    task = Detect(classes=("a", "b"))
    true = objects([[2, 3, 14, 15, 0], [20, 10, 38, 30, 1]], [], [[8, 8, 20, 24, 1]])
    answers = perfect(task, true, 3)
    wrong = answers._replace(logits=-answers.logits, distances=answers.distances + 3)
    assert float(task.loss(answers, true).detach()) < 0.7  # the entropy of centre-ness between 0 and 1 remains
    assert float(task.loss(wrong, true).detach()) > 10
    sizes, inner = np.array([[80, 64]] * 3), np.array([[40, 32]] * 3)  # pictures twice as large as their canvas
    found = task.predict(answers, sizes, inner)
    assert [len(f) for f in found] == [2, 0, 1]
    np.testing.assert_allclose(sorted(found[0].boxes.tolist()), [[4, 6, 28, 30], [40, 20, 76, 60]], atol=1e-3)
    truths = [type(f)(f.boxes.round(), f.classes, np.ones(len(f)), np.zeros(len(f), bool)) for f in found]
    assert (
        task.tally(found, truths).figures(task.classes)["mAP"]
        == match(found, truths, 2).figures(task.classes)["mAP"]
        == 1.0
    )


def test_a_batch_without_any_object_has_a_gradient_for_every_parameter():
    task = Detect(classes=("a",))
    stages = net().eval().features(view())
    head = task.head(stages, SIZE)
    task.loss(head(stages), objects([], [])).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


def test_ignored_pixels_teach_nothing_and_count_nowhere():
    task = Segment(classes=("a", "b", "c"), values=(0, 1, 2))
    logits = random.normal(1, torch.arange(2), (3, 4, 6)).requires_grad_()
    mask = random.integers(2, torch.arange(2), 3, (4, 6)).to(torch.uint8)
    mask[:, :, :2] = IGNORED
    loss = task.loss(logits, mask)
    wanted = torch.stack([F.cross_entropy(logits[b, :, i, j].double()[None], mask[b, i, j].long()[None]) for b in range(2) for i in range(4) for j in range(2, 6)])  # fmt: skip
    assert float(loss.detach()) == pytest.approx(float(wanted.mean().detach()), rel=1e-6)
    loss.backward()
    assert (logits.grad[:, :, :, :2] == 0).all()
    nothing = task.loss(logits, torch.full_like(mask, IGNORED))
    assert float(nothing.detach()) == 0


def test_masks_come_back_in_the_pictures_own_size():
    task = Segment(classes=("a", "b"), values=(0, 1))
    logits = torch.zeros(1, 2, 8, 12)
    logits[0, 0], logits[0, 1, :4, :5] = 2.5, 5.0
    (codes,) = task.predict(logits, np.array([[20, 16]]), np.array([[10, 8]]))
    assert codes.shape == (16, 20)
    assert codes.dtype == np.uint8
    assert (codes[:8, :10] == 1).all()
    assert codes.sum() == 80  # what of the canvas is beyond the picture is cut off


@pytest.mark.parametrize("task", [Detect(classes=("a", "b")), Segment(classes=("a", "b"), values=(0, 1))])
def test_heads_are_saved_and_built_again(task, tmp_path):
    encoder = net().eval()
    stages = encoder.features(view())
    head = task.head(stages, SIZE).eval()
    store.save(tmp_path / "m", Kept(encoder, {"head": head}))
    again = store.load(tmp_path / "m").parts["head"]
    first, second = head(stages), again(stages)
    for a, b in zip(
        first if isinstance(first, tuple) else [first], second if isinstance(second, tuple) else [second], strict=True
    ):
        assert torch.equal(a, b)


def test_heads_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="width 12"):
        Segmenter([8], 2, SIZE, width=12)
