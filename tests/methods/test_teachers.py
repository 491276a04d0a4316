"""SimSiam, MoCo, NNCLR and DINO: objectives against loops, and what they commit after a step."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selftaught.core import RequestError, View
from selftaught.methods.dino import DINO
from selftaught.methods.moco_v2 import MoCoV2
from selftaught.methods.moco_v3 import MoCoV3
from selftaught.methods.nnclr import NNCLR
from selftaught.methods.simsiam import SimSiam
from selftaught.nets.queue import Queue

from ..losses.test_losses import keyed_by_loops, queued_by_loops
from .small import batch_of, convolutional, gradients, made, pictures, tokens


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def shaken(teacher):
    """The teacher, a little away from its student."""
    with torch.no_grad():
        for p in teacher.parameters():
            p.add_(0.05 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(0)))
    return teacher


# SimSiam -----------------------------------------------------------------------------------------------------------


def test_simsiam_is_minus_the_cosine_of_prediction_and_stopped_embedding():
    method = made(SimSiam(width=12, bottleneck=5, norm="layer"), tokens())
    batch = batch_of(method, pictures())
    z = method.projector(method.encoder(View.cat(batch.views)))
    p, z = (unit(x.detach().numpy()).reshape(2, 6, -1) for x in (method.predictor(z), z))
    wanted = -np.mean([(p[0][i] @ z[1][i] + p[1][i] @ z[0][i]) / 2 for i in range(6)])
    assert method(batch)["loss"].item() == pytest.approx(wanted, abs=1e-9)


def test_simsiam_without_predictor_has_no_gradient_through_what_is_predicted():
    """With the predictor a constant, nothing may reach the encoder: the other branch is stopped."""
    method = made(SimSiam(width=12, bottleneck=5, norm="layer"), tokens())
    with torch.no_grad():
        method.predictor[-1].weight.zero_()
        method.predictor[-1].bias.fill_(1.0)
    found, _ = gradients(method, batch_of(method, pictures()))
    assert all(g.abs().max() == 0 for name, g in found.items() if name.startswith("encoder"))


# the queue ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 7), st.lists(st.integers(1, 9), max_size=8))
def test_queue_holds_the_last_rows_pushed(size, pushes):
    queue, seen = Queue(size, 2), []
    for n in pushes:
        rows = torch.arange(len(seen), len(seen) + n).float()[:, None].expand(-1, 2)
        queue.push(rows)
        seen += range(len(seen), len(seen) + n)
    held = sorted(queue.rows[:, 0].tolist())
    last = seen[-size:]
    assert [v for v in last if v in held] == last
    assert len(queue.rows) == size


# MoCo --------------------------------------------------------------------------------------------------------------


def test_moco_v3_finds_the_teachers_key_of_the_other_view():
    method = made(MoCoV3(hidden=12, width=5, norm="layer"), tokens())
    shaken(method.teacher)
    batch = batch_of(method, pictures())
    joined = View.cat(batch.views)
    queries = method.predictor(method.projector(method.encoder(joined))).detach().numpy().reshape(2, 6, 5)
    keys = method.teacher(joined).numpy().reshape(2, 6, 5)
    there, back = (keyed_by_loops(queries[a], keys[1 - a], 0.1) for a in range(2))
    out = method(batch)
    assert out["loss"].item() == pytest.approx((there[0] + back[0]) / 2, abs=1e-9)
    assert float(out["accuracy"]) == pytest.approx((there[1] + back[1]) / 2)
    assert float(out["baseline"]) == pytest.approx(math.log(6))


def test_moco_v2_finds_the_teachers_key_among_old_ones_and_keeps_it_for_later():
    method = made(MoCoV2(temperature=0.1, norm="none", hidden=12, width=5, queue=7), tokens())
    shaken(method.teacher)
    batch = batch_of(method, pictures())
    queries = method.projector(method.encoder(batch.views[0])).detach().numpy()
    keys, old = method.teacher(batch.views[1]).numpy(), method.old.rows.numpy().copy()
    wanted, share = queued_by_loops(queries, keys, old, 0.1)
    out = method(batch)
    assert out["loss"].item() == pytest.approx(wanted, abs=1e-9)
    assert float(out["accuracy"]) == pytest.approx(share)
    assert float(out["baseline"]) == pytest.approx(math.log(8))
    method.after_step(0.5, out)
    np.testing.assert_allclose(method.old.rows.numpy(), np.concatenate([unit(keys), old[6:]]), atol=1e-12)


def test_a_queue_of_nothing_is_refused():
    with pytest.raises(RequestError, match="queue = 0"):
        made(MoCoV2(queue=0), tokens())
    with pytest.raises(RequestError, match="support = 0"):
        made(NNCLR(support=0), tokens())


@pytest.mark.parametrize("method", [MoCoV2(hidden=12, width=5), MoCoV3(hidden=12, width=5, norm="layer")])
def test_moco_that_sees_no_difference_loses_what_its_baseline_says(method):
    method = made(method, tokens())
    with torch.no_grad():
        for p in [*method.teacher.parameters(), *method.projector.parameters()]:
            p.zero_()
    out = method(batch_of(method, pictures()))
    assert out["loss"].item() == pytest.approx(float(out["baseline"]), abs=1e-9)


# NNCLR -------------------------------------------------------------------------------------------------------------


def test_nnclr_looks_for_the_neighbours_own_prediction():
    method = made(NNCLR(hidden=12, width=5, support=9, norm="layer"), tokens())
    batch = batch_of(method, pictures())
    embedded = method.projector(method.encoder(View.cat(batch.views)))
    predicted = method.predictor(embedded).detach().numpy().reshape(2, 6, 5)
    z, support = unit(embedded.detach().numpy()).reshape(2, 6, 5), method.earlier.rows.numpy()
    friends = [np.stack([max(support, key=lambda s: float(s @ row)) for row in view]) for view in z]
    losses = [keyed_by_loops(friends[a], predicted[1 - a], 0.1)[0] for a in range(2)]
    out = method(batch)
    assert out["loss"].item() == pytest.approx(np.mean(losses), abs=1e-9)
    method.after_step(0.5, out)
    np.testing.assert_allclose(method.earlier.rows[:6].numpy(), z[0], atol=1e-12)


# DINO --------------------------------------------------------------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


@pytest.mark.parametrize(("progress", "sharp"), [(0.0, 0.04), (0.05, 0.055), (0.5, 0.07)])
def test_dino_is_the_cross_entropy_with_the_centred_teacher_of_other_views(progress, sharp):
    method = made(DINO(prototypes=7, crops=1, cold=0.04, warm=0.07, hidden=12, width=5, norm="layer"), tokens())
    shaken(method.teacher)
    centre = torch.linspace(-0.1, 0.1, 7, dtype=torch.float64)
    method.get_buffer("centre").copy_(centre)
    batch = batch_of(method, pictures(), progress=progress)
    features = torch.cat([method.encoder(View.cat(batch.views[:2])), method.encoder(batch.views[2])])
    scores = method.codebook(method.projector(features)).detach().numpy().reshape(3, 6, 7)
    taught = method.teacher(View.cat(batch.views[:2])).numpy().reshape(2, 6, 7)
    total = 0.0
    for a in range(2):
        for v in range(3):
            for b in range(6) if v != a else ():
                wanted = softmax((taught[a, b] - centre.numpy()) / sharp)
                total -= (wanted * np.log(softmax(scores[v, b] / 0.1))).sum()
    out = method(batch)
    assert out["loss"].item() == pytest.approx(total / 6 / 4, abs=1e-9)
    assert 1 <= float(out["code_perplexity"]) <= 7 + 1e-9
    method.after_step(progress, out)
    np.testing.assert_allclose(
        method.get_buffer("centre").numpy(), 0.9 * centre.numpy() + 0.1 * taught.mean((0, 1)), atol=1e-12
    )


def test_dino_teacher_has_no_gradient():
    method = made(DINO(prototypes=7, crops=1), convolutional())
    found, _ = gradients(method, batch_of(method, pictures()))
    assert not any(name.startswith("teacher") for name in found)
