"""SimCLR, BYOL, SwAV and rotation: the objective against loops in float64, and what each promises about its state."""

import copy
import math

import numpy as np
import pytest
import torch

from selftaught.core import View
from selftaught.methods.byol import BYOL
from selftaught.methods.rotation import Rotation
from selftaught.methods.simclr import SimCLR
from selftaught.methods.swav import SwAV

from ..losses.test_losses import nt_xent, sinkhorn_loops
from .small import batch_of, convolutional, gradients, made, pictures, tokens


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("copies", [2, 3])
def test_simclr_is_nt_xent_of_its_projections(copies):
    method = made(SimCLR(copies=copies, hidden=12, width=5), convolutional())
    batch = batch_of(method, pictures())
    z = method.projector(method.encoder(View.cat(batch.views))).detach().numpy().reshape(copies, 6, 5).swapaxes(0, 1)
    out = method(batch)
    wanted, found = nt_xent(z, 0.1)
    assert out["loss"].item() == pytest.approx(wanted, abs=1e-9)
    assert float(out["accuracy"]) == pytest.approx(found)


@pytest.mark.parametrize("copies", [2, 3])
def test_simclr_that_sees_no_difference_loses_what_its_baseline_says(copies):
    method = made(SimCLR(copies=copies), tokens())
    out = method.couple(torch.ones(6, copies, 5, dtype=torch.float64))
    assert out["loss"].item() == pytest.approx(float(out["baseline"]), abs=1e-12)


def test_swav_that_sees_no_difference_loses_what_its_baseline_says_and_uses_one_code():
    method = made(SwAV(prototypes=7, crops=1), tokens())
    with torch.no_grad():
        for p in method.projector.parameters():
            p.zero_()  # every row at the origin: every prototype alike
    out = method(batch_of(method, pictures()))
    assert out["loss"].item() == pytest.approx(float(out["baseline"]), abs=1e-9)
    assert float(out["code_perplexity"]) == pytest.approx(1)
    assert float(out["codes"]) == 7


def test_rotation_that_sees_no_difference_loses_what_its_baseline_says():
    method = made(Rotation(), tokens())
    with torch.no_grad():
        method.head.weight.zero_()
        method.head.bias.zero_()
    out = method(batch_of(method, pictures()))
    assert out["loss"].item() == pytest.approx(float(out["baseline"]), abs=1e-12)


def test_simclr_coupling_its_embeddings_is_its_loss():
    method = made(SimCLR(), tokens())
    batch = batch_of(method, pictures())
    assert method.embed(batch).shape == (6, 2, 64)
    torch.testing.assert_close(method.couple(method.embed(batch))["loss"], method(batch)["loss"], rtol=0, atol=1e-12)


def test_simclr_alarm_features_are_the_encoders():
    method = made(SimCLR(), tokens())
    batch = batch_of(method, pictures())
    features = method(batch)["features"]
    torch.testing.assert_close(features, method.encoder(batch.views[0]))
    assert not features.requires_grad


def test_byol_is_the_squared_distance_of_unit_vectors_both_ways():
    method = made(BYOL(hidden=12, width=5), tokens())
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(0.01 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(0)))
    batch = batch_of(method, pictures())
    joined = View.cat(batch.views)
    features = method.encoder(joined)
    halves = [method.projector(f) for f in features.chunk(2)]
    predicted = [unit(method.predictor(h).detach().numpy()) for h in halves]
    wanted = unit(method.teacher(joined).numpy()).reshape(2, 6, 5)
    loss = (
        sum(
            ((predicted[0][i] - wanted[1][i]) ** 2).sum() + ((predicted[1][i] - wanted[0][i]) ** 2).sum()
            for i in range(6)
        )
        / 6
    )
    assert method(batch)["loss"].item() == pytest.approx(loss, abs=1e-9)
    assert 0 < loss < 8


def test_byol_gradient_is_the_students_alone():
    method = made(BYOL(), convolutional())
    grads, _ = gradients(method, batch_of(method, pictures()))
    assert not any(name.startswith("teacher") for name in grads)
    assert all(p.grad is None for p in method.teacher.parameters())
    assert not {id(p) for p in method.teacher.parameters()} & {
        id(p) for g in method.param_groups() for p in g["params"]
    }


@pytest.mark.parametrize(("progress", "momentum"), [(0.0, 0.99), (0.5, 0.995), (1.0, 1.0)])
def test_byol_teacher_follows_after_a_step_and_only_then(progress, momentum):
    method = made(BYOL(momentum=0.99), convolutional())
    batch = batch_of(method, pictures())
    before = copy.deepcopy(dict(method.teacher.named_parameters()))
    optimizer = torch.optim.SGD([p for g in method.param_groups() for p in g["params"]], lr=1.0)
    out = method(batch)
    out["loss"].backward()
    optimizer.step()
    assert all(torch.equal(p, before[n]) for n, p in method.teacher.named_parameters())
    method.after_step(progress, out)
    student = [*method.encoder.parameters(), *method.projector.parameters()]
    moved = 0
    for (name, mine), theirs in zip(method.teacher.named_parameters(), student, strict=True):
        torch.testing.assert_close(mine, momentum * before[name] + (1 - momentum) * theirs, rtol=0, atol=1e-14)
        moved += int(not torch.equal(mine, before[name]))
    assert (moved > 0) == (momentum < 1)
    buffers = [*method.encoder.buffers(), *method.projector.buffers()]
    assert all(map(torch.equal, method.teacher.buffers(), buffers))


def test_byol_loss_is_zero_for_a_collapsed_network():
    """So that nobody takes a low loss for success: the collapse alarm looks at the features instead."""
    method = made(BYOL(), tokens()).eval()
    with torch.no_grad():
        for module in (method.projector, method.predictor, method.teacher.net[1]):
            last = [m for m in module.modules() if isinstance(m, torch.nn.Linear)][-1]
            last.weight.zero_()
            last.bias.fill_(1.0)
    assert method(batch_of(method, pictures()))["loss"].item() == pytest.approx(0, abs=1e-12)


def swav_by_loops(z: list[np.ndarray], prototypes: np.ndarray, *, temperature: float, epsilon: float) -> float:
    """z: a (B, P) for each view, the two large crops first."""
    scores = [unit(x) @ unit(prototypes).T for x in z]
    total = 0.0
    for a in range(2):
        q = sinkhorn_loops(scores[a], epsilon, 3)
        for v in range(len(z)):
            for b in range(len(q)) if v != a else ():
                s = [math.exp(x / temperature) for x in scores[v][b]]
                total -= sum(q[b, k] * math.log(s[k] / sum(s)) for k in range(len(s)))
    return total / len(q) / (2 * (len(z) - 1))


def test_swav_is_the_swapped_prediction_of_its_projections():
    method = made(SwAV(prototypes=7, crops=2, epsilon=0.05, hidden=12, width=5), tokens())
    batch = batch_of(method, pictures())
    assert [v["pixels"].shape[-1] for v in batch.views] == [8, 8, 4, 4]
    features = [method.encoder(View.cat(batch.views[:2])), method.encoder(View.cat(batch.views[2:]))]
    z = method.projector(torch.cat(features)).detach().numpy().reshape(4, 6, 5)
    wanted = swav_by_loops(list(z), method.codebook.weight.detach().numpy(), temperature=0.1, epsilon=0.05)
    out = method(batch)
    assert out["loss"].item() == pytest.approx(wanted, abs=1e-9)
    assert 1 <= float(out["code_perplexity"]) <= 6 + 1e-9


def test_swav_of_a_queue_assigns_the_batch_together_with_earlier_rows():
    method = made(SwAV(prototypes=7, crops=1, queue=9, queue_from=0.3, epsilon=0.05, hidden=12, width=5), tokens())
    batch, early = (batch_of(method, pictures(), progress=p) for p in (0.5, 0.2))
    features = torch.cat([method.encoder(View.cat(batch.views[:2])), method.encoder(batch.views[2])])
    z = method.projector(features).detach().numpy().reshape(3, 6, 5)
    prototypes = unit(method.codebook.weight.detach().numpy())
    alone = swav_by_loops(list(z), prototypes, temperature=0.1, epsilon=0.05)
    first = method(batch)
    assert first["loss"].item() == pytest.approx(alone, abs=1e-9), "nothing is stored yet"
    method.after_step(0.5, first)
    np.testing.assert_allclose(method.earlier.rows[:6].numpy(), np.concatenate([z[0], z[1]], 1), atol=1e-12)
    assert method(batch)["loss"].item() == pytest.approx(alone, abs=1e-9), "six rows of nine"
    method.after_step(0.5, first)
    old = method.earlier.rows.numpy()
    q = [
        sinkhorn_loops(np.concatenate([unit(z[v]), unit(old[:, 5 * v : 5 * v + 5])]) @ prototypes.T, 0.05, 3)[:6]
        for v in range(2)
    ]
    total = 0.0
    for v in range(2):
        for other in {0, 1, 2} - {v}:
            for b in range(6):
                s = np.exp(unit(z[other]) @ prototypes.T / 0.1)[b]
                total -= (q[v][b] * np.log(s / s.sum())).sum() / 24
    assert method(batch)["loss"].item() == pytest.approx(total, abs=1e-9)
    assert abs(total - alone) > 1e-4
    assert method(early)["loss"].item() == pytest.approx(alone, abs=1e-9), "before its share of the run"


def test_swav_prototypes_rest_at_first_but_keep_their_place_in_the_graph():
    method = made(SwAV(prototypes=7, crops=1, resting=0.1), tokens())
    resting, loss = gradients(method, batch_of(method, pictures(), progress=0.05))
    moving, same = gradients(method, batch_of(method, pictures(), progress=0.2))
    assert torch.equal(resting["codebook.weight"], torch.zeros_like(resting["codebook.weight"]))
    assert moving["codebook.weight"].abs().max() > 0
    assert loss == same
    assert all(torch.equal(resting[n], moving[n]) for n in resting if n != "codebook.weight")


def test_swav_perplexity_counts_used_prototypes():
    from selftaught.methods.swav import _perplexity

    assert float(_perplexity(torch.eye(5, dtype=torch.float64))) == pytest.approx(5)
    assert float(_perplexity(torch.eye(5, dtype=torch.float64)[[0, 0, 0]])) == pytest.approx(1)


def test_rotation_is_cross_entropy_over_four_turns_of_every_picture():
    method = made(Rotation(), tokens())
    batch = batch_of(method, pictures())
    loss, right = 0.0, 0
    for picture in batch.views[0]["pixels"]:
        for quarters in range(4):
            turned = View(
                "image", parts={"pixels": torch.from_numpy(np.rot90(picture.numpy(), quarters, (1, 2)).copy())[None]}
            )
            logits = method.head(method.encoder(turned))[0].tolist()
            loss -= logits[quarters] - math.log(sum(map(math.exp, logits)))
            right += int(np.argmax(logits)) == quarters
    out = method(batch)
    assert out["loss"].item() == pytest.approx(loss / 24, abs=1e-9)
    assert float(out["accuracy"]) == pytest.approx(right / 24)


def test_rotation_learns_nothing_from_pictures_without_an_upright():
    method = made(Rotation(), tokens(positions="sincos"))
    view = View(
        "image",
        parts={"pixels": torch.ones(5, 3, 8, 8, dtype=torch.float64) * torch.rand(5, 3, 1, 1, dtype=torch.float64)},
    )
    out = method(batch_of(method, view))
    assert float(out["accuracy"]) == pytest.approx(0.25)
    assert out["loss"].item() >= math.log(4)
