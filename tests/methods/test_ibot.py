"""iBOT: both its losses against loops, the two ways to centre, what it commits and what it hands over."""

import math

import numpy as np
import pytest
import torch

from selftaught.methods.ibot import IBOT

from ..losses.test_losses import sinkhorn_loops
from ..losses.test_statistics import koleo_by_loops
from .small import Texts, batch_of, gradients, made, pictures, texts, tokens, words

SMALL = {"prototypes": 7, "crops": 1, "hidden": 12, "width": 5, "ratio": 0.4, "koleo": 0.0, "resting": 0.0}


def shaken(teacher):
    with torch.no_grad():
        for p in teacher.parameters():
            p.add_(0.05 * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(0)))
    return teacher


def log_softmax(x):
    return x - x.max() - math.log(np.exp(x - x.max()).sum())


def read(encoder, head, token_head, view):
    """Scores of the picture (B, K) and of every patch (B, N, K), as arrays."""
    found = encoder.trunk(encoder.tokenize(view))
    return head(encoder.pool(found)).detach().numpy(), token_head(found.patches).detach().numpy()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("centring", ["mean", "sinkhorn"])
@pytest.mark.parametrize(("progress", "sharp"), [(0.0, 0.04), (0.05, 0.055), (0.5, 0.07)])
def test_it_is_dino_of_the_whole_and_of_every_hidden_patch(shared, centring, progress, sharp):
    method = made(IBOT(shared=shared, centring=centring, sharp=0.07, **SMALL), tokens())
    net = shaken(method.teacher).net
    centres = 0.1 * torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    method.get_buffer("centres").copy_(centres)
    batch = batch_of(method, pictures(), progress=progress)
    masks = [method._hidden(batch, v)[0] for v in range(2)]
    hidden = [batch.views[v].with_parts(masked=masks[v]) for v in range(2)]
    scores, patches = zip(*(read(method.encoder, method.head, method.token_head, v) for v in hidden))
    small = method.head(method.encoder(batch.views[2])).detach().numpy()
    taught, named = zip(*(read(net["encoder"], net["head"], net["token_head"], v) for v in batch.views[:2]))
    places = [(v, b, n) for v in range(2) for b in range(6) for n in range(16) if masks[v][b, n]]
    rows = [(v, b) for v in range(2) for b in range(6)]

    def targets(found, which):
        if centring == "sinkhorn":
            return sinkhorn_loops(np.stack(found), sharp, 3)
        return [np.exp(log_softmax((f - centres[which].numpy()) / sharp)) for f in found]

    wanted = dict(zip(rows, targets([taught[v][b] for v, b in rows], 0)))
    meant = dict(zip(places, targets([named[v][b, n] for v, b, n in places], 1)))
    whole = hidden_loss = 0.0
    for v, b in rows:
        for other in (scores[1 - v], small):
            whole -= (wanted[v, b] * log_softmax(other[b] / 0.1)).sum() / 4 / 6
        own = [-(meant[p] * log_softmax(patches[v][b, p[2]] / 0.1)).sum() for p in places if p[:2] == (v, b)]
        hidden_loss += np.mean(own) / 12 if own else 0.0
    out = method(batch)
    assert 0 < len({p[:2] for p in places}) < 12, "some views are masked, some not"
    assert float(out["class_loss"]) == pytest.approx(whole, abs=1e-9)
    assert out["loss"].item() == pytest.approx(whole + hidden_loss, abs=1e-9)
    method.after_step(progress, out)
    middle = [np.mean([taught[v][b] for v, b in rows], 0), np.mean([named[v][b, n] for v, b, n in places], 0)]
    np.testing.assert_allclose(
        method.get_buffer("centres").numpy(), 0.9 * centres.numpy() + 0.1 * np.stack(middle), atol=1e-12
    )


def test_koleo_is_added_for_both_large_views():
    plain, driven = (made(IBOT(**{**SMALL, "koleo": k}), tokens()) for k in (0.0, 0.3))
    batch = batch_of(plain, pictures())
    views = [plain._hidden(batch, v)[1] for v in range(2)]
    apart = np.mean([koleo_by_loops(plain.encoder(v).detach().numpy(), 1e-4) for v in views])
    assert driven(batch)["loss"].item() - plain(batch)["loss"].item() == pytest.approx(0.3 * apart, abs=1e-9)


def test_one_who_sees_no_difference_loses_what_the_baseline_says():
    method = made(IBOT(**SMALL), tokens())
    with torch.no_grad():
        for p in method.head[0].parameters():
            p.zero_()
    out = method(batch_of(method, pictures()))
    assert out["loss"].item() == pytest.approx(float(out["baseline"]), abs=1e-9)


def test_the_teacher_has_no_gradient_and_sees_what_is_hidden():
    method = made(IBOT(**SMALL), tokens())
    found, _ = gradients(method, batch_of(method, pictures()))
    assert not any(name.startswith("teacher") for name in found)
    assert found["encoder.mask_token"].abs().max() > 0


def test_prototypes_rest_at_first_but_keep_their_place_in_the_graph():
    method = made(IBOT(**{**SMALL, "resting": 0.1}), tokens())
    resting, loss = gradients(method, batch_of(method, pictures(), progress=0.05))
    moving, _ = gradients(method, batch_of(method, pictures(), progress=0.2))
    assert resting["head.1.weight"].abs().max() == 0
    assert moving["head.1.weight"].abs().max() > 0
    assert loss.isfinite()


def test_words_of_texts_are_hidden_too():
    class Crops(Texts):
        local = Texts.mild

    method = made(IBOT(**{**SMALL, "shared": False}), words(), Crops())
    batch = batch_of(method, texts((7, 12, 9, 8)), Crops())
    chosen = torch.stack([method._hidden(batch, v)[0] for v in range(2)])
    assert chosen.any()
    assert not (chosen & ~batch.views[0]["valid"]).any()
    assert method(batch)["loss"].isfinite()


def test_heads_are_kept_under_their_names():
    shared, own = (made(IBOT(shared=s, **SMALL), tokens()).keep().parts for s in (True, False))
    assert set(shared) == {"projector", "prototypes"}
    assert set(own) == {"projector", "prototypes", "token_projector", "token_prototypes"}
