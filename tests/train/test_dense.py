"""Training a dense head: it learns toy scenes, a frozen encoder stays as it is, and stages kept in memory change nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from selftaught import nets
from selftaught.core.errors import AlarmError
from selftaught.data import cache
from selftaught.data.boxes import open_boxes
from selftaught.data.masks import open_masks
from selftaught.modalities.canvas import Annotated, Canvas
from selftaught.tasks.detect import Detect
from selftaught.tasks.segment import Segment
from selftaught.train.dense import PLAN, predictions, stages_of, tune

from ..scenes import coco_folder, mask_folder

SHORT = replace(PLAN, epochs=2, steps=0, batch=4)


def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nets.build("resnet-small", widths=(16, 32), blocks=(1, 1), strides=(1, 2), stem=16).eval()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """{"boxes", "masks": (data, task)}."""
    root = tmp_path_factory.mktemp("scenes")
    source, column, boxes = open_boxes(coco_folder(root / "a", rows=40))
    detect = Annotated.of(source, column, Canvas((32, 40)), boxes), Detect(classes=boxes.classes, width=32)
    source, column, masks = open_masks(mask_folder(root / "b", rows=40))
    segment = (
        Annotated.of(source, column, Canvas((32, 40)), masks),
        Segment(classes=masks.classes, values=masks.values, width=32),
    )
    return {"boxes": detect, "masks": segment}


def figure(model, task, data, places) -> float:
    return float(task.tally(predictions(model, task, data, places), data.truth(places)).value()[0])


@pytest.mark.parametrize(("kind", "goal"), [("boxes", 0.4), ("masks", 0.7)])
def test_toy_scenes_are_learned(scenes, kind, goal):
    data, task = scenes[kind]
    plan = replace(PLAN, epochs=16, steps=0, batch=4, lr=4e-3, layer_decay=1.0)
    model, history = tune(encoder(), task, data, np.arange(28), np.arange(28, 34), plan=plan)
    assert figure(model, task, data, np.arange(34, 40)) > goal
    assert history.loss[-1] < 0.6 * history.loss[0]
    best = max(h[task.metric] for h in history.validation)
    assert figure(model, task, data, np.arange(28, 34)) == pytest.approx(best)  # the epoch that was best is kept


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_a_frozen_encoder_stays_and_stages_in_memory_change_nothing(scenes, kind, monkeypatch):
    data, task = scenes[kind]
    own = encoder()
    before = {k: v.clone() for k, v in own.state_dict().items()}
    held, first = tune(own, task, data, np.arange(10), mode="head", plan=SHORT)
    monkeypatch.setattr(cache, "memory_bytes", lambda: 0)
    assert stages_of(own, data, np.arange(2), mirrored=False) is None
    anew, second = tune(own, task, data, np.arange(10), mode="head", plan=SHORT)
    for model in (held, anew):
        assert all(torch.equal(v, before[k]) for k, v in model.encoder.state_dict().items())
    np.testing.assert_allclose(
        first.loss, second.loss, rtol=1e-3
    )  # held ones come from float32, where a chip may take bfloat16
    moved = tune(own, task, data, np.arange(10), mode="full", plan=SHORT)[0]
    assert not torch.equal(moved.encoder.conv.weight, before["conv.weight"])
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())  # a copy was trained


def test_the_same_arguments_give_the_same_model_whatever_was_drawn_before(scenes):
    data, task = scenes["masks"]
    first, one = tune(encoder(), task, data, np.arange(8), np.arange(8, 12), plan=SHORT)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    second, two = tune(encoder(), task, data, np.arange(8), np.arange(8, 12), plan=SHORT)
    assert torch.equal(torch.get_rng_state(), state)
    assert one == two
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert tune(encoder(), task, data, np.arange(8), np.arange(8, 12), plan=replace(SHORT, seed=1))[1].loss != one.loss


def test_a_rate_that_makes_it_diverge_is_said(scenes):
    data, task = scenes["masks"]
    with pytest.raises(AlarmError, match="Lower the learning rate"):
        tune(encoder(), task, data, np.arange(8), plan=replace(SHORT, epochs=6, lr=1e30, clip=1e30))
