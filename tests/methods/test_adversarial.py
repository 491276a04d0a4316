"""Games in one loss: each player's gradient against that of its own loss worked out apart, and what is kept of them."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from selftaught import train
from selftaught.core import RequestError
from selftaught.losses import log_loss
from selftaught.methods.bigan import BiGAN
from selftaught.methods.inpainting import Inpainting
from selftaught.modalities import find
from selftaught.nets import store
from selftaught.nets.adversary import frozen

from .small import batch_of, convolutional, made, pictures
from .test_painting import Paintable

DRIFT = 0.2
SIDES = ("encoder", "discriminator")


def ready(method, rows=6):
    method = made(method, convolutional(), Paintable())
    return method, batch_of(method, pictures(rows), Paintable())


def bigan(representation="encoder", **options):
    return ready(BiGAN(representation=representation, code=4, width=16, hidden=12, drift=DRIFT, **options))


def sides(method) -> tuple[dict, dict]:
    """({name: parameter} of the discriminator, of everybody else)."""
    kept = method.representation == "discriminator"
    own = ("encoder." if kept else "other.", "judge.")
    named = dict(method.named_parameters())
    critic = {n: p for n, p in named.items() if n.startswith(own)}
    return critic, {n: p for n, p in named.items() if n not in critic}


def scores(method, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The discriminator's log-odds of real and of painted pairs, in plain operations with every gradient left in."""
    reader, trunk = method.encoder, method.other
    if method.representation == "discriminator":
        reader, trunk = trunk, reader
    draw, real = batch.draw(), Paintable().painted(batch.views[0])
    read, drawn = method.middle(reader(batch.views[0])), draw.normal("code", 4).double()
    shown = torch.cat([real, method.painter(drawn)])
    noise = torch.cat([draw.normal(f"on {what}", 3, 8, 8) for what in ("real", "painted")])
    shown = shown + method.noise * (1 - batch.progress) * noise.double()
    features = trunk(Paintable().unpainted(shown))
    return method.judge(torch.cat([features, torch.cat([read, drawn])], 1)).squeeze(1).chunk(2)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_log_loss_is_the_logarithm_of_the_chance_and_stays_finite():
    s = torch.tensor([-2.0, 0.3, 5.0], dtype=torch.float64)
    chance = torch.sigmoid(s)
    torch.testing.assert_close(log_loss(s, real=True), -chance.log())
    torch.testing.assert_close(log_loss(s, real=False), -(1 - chance).log())
    far = torch.tensor([1e4, -1e4], requires_grad=True)
    (log_loss(far, real=True) + log_loss(far, real=False)).sum().backward()
    assert far.grad.isfinite().all()


def test_a_frozen_network_hands_gradients_through_and_keeps_none():
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double(), torch.randn(5, 3).double()
    x.requires_grad_()
    (wanted,) = torch.autograd.grad(net(x).sum(), x)
    frozen(net, x).sum().backward()
    assert torch.equal(x.grad, wanted)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("representation", SIDES)
def test_bigan_is_the_sum_of_both_players_losses(representation):
    method, batch = bigan(representation)
    with torch.no_grad():
        real, painted = (s.tolist() for s in scores(method, batch))
    critic = np.mean([-math.log(sigmoid(r)) - math.log(1 - sigmoid(p)) for r, p in zip(real, painted, strict=True)])
    players = np.mean([-math.log(1 - sigmoid(r)) - math.log(sigmoid(p)) for r, p in zip(real, painted, strict=True)])
    out = method(batch)
    assert float(out["critic"]) == pytest.approx(critic, abs=1e-9)
    assert float(out["players"]) == pytest.approx(players, abs=1e-9)
    drift = np.mean([r * r + p * p for r, p in zip(real, painted, strict=True)])
    assert out["loss"].item() == pytest.approx(critic + DRIFT * drift + players, abs=1e-9)


@pytest.mark.parametrize("representation", SIDES)
def test_each_player_of_bigan_gets_the_gradient_of_its_own_loss_alone(representation):
    method, batch = bigan(representation)
    critic, others = sides(method)
    assert len(critic) > 5
    assert len(others) > 5
    real, painted = scores(method, batch)
    own = (nn.functional.softplus(-real) + nn.functional.softplus(painted) + DRIFT * (real**2 + painted**2)).mean()
    theirs = (nn.functional.softplus(real) + nn.functional.softplus(-painted)).mean()
    wanted = dict(zip(critic, torch.autograd.grad(own, critic.values(), retain_graph=True), strict=True))
    wanted |= dict(zip(others, torch.autograd.grad(theirs, others.values()), strict=True))
    method(batch)["loss"].backward()
    for name, p in method.named_parameters():
        torch.testing.assert_close(p.grad, wanted[name], rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("representation", SIDES)
@pytest.mark.parametrize("player", ["critic", "players"])
def test_a_small_step_of_one_player_lowers_its_own_loss(representation, player):
    method, batch = bigan(representation)
    before = method(batch)
    before["loss"].backward()
    with torch.no_grad():
        for p in sides(method)[player == "players"].values():
            p.sub_(1e-3 * p.grad)
    assert method(batch)[player] < before[player]


def test_codes_have_no_length_that_would_give_them_away():
    method, batch = bigan()
    codes = method._pairs(batch)[1][:6]
    torch.testing.assert_close(codes.mean(0), torch.zeros(4).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(codes.std(0, correction=0), torch.ones(4).double(), rtol=0, atol=1e-2)


def test_the_discriminator_steps_at_its_own_pace():
    method, _ = bigan(pace=0.25)
    critic = {id(p) for p in sides(method)[0].values()}
    groups = method.param_groups()
    assert sum(len(g["params"]) for g in groups) == len(list(method.parameters()))
    for group in groups:
        assert {id(p) in critic for p in group["params"]} == {group["lr_scale"] == 0.25}
        assert all((p.ndim > 1) != (group.get("weight_decay") == 0.0) for p in group["params"])


def test_noise_on_pictures_fades_and_never_reaches_the_encoder():
    seen = []
    for progress in (0.0, 1.0):
        method, batch = bigan(noise=0.5)
        batch = batch_of(method, pictures(6), Paintable(), progress=progress)
        shown, codes, _ = method._pairs(batch)
        seen.append((shown["pixels"][:6], codes[:6]))
    torch.testing.assert_close(seen[1][0], batch.views[0]["pixels"])
    off = Paintable().painted(batch.views[0].with_parts(pixels=seen[0][0])) - Paintable().painted(batch.views[0])
    assert float(off.detach().std()) == pytest.approx(0.5, rel=0.1)
    assert torch.equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize("options", [{"code": 0}, {"pace": 0.0}, {"noise": -1.0}, {"drift": -1.0}])
def test_bigan_refuses_what_is_no_game(options):
    with pytest.raises(RequestError, match=next(iter(options))):
        ready(BiGAN(**options))


def test_inpainting_against_a_discriminator_is_the_weighted_sum_and_each_side_has_its_own_gradient():
    weight = 0.3
    method, batch = ready(Inpainting(width=16, adversarial=weight))
    real = Paintable().painted(batch.views[0])
    hole = method._hole(batch, 8)
    painted = method.painter(method.encoder(Paintable().unpainted(real.masked_fill(hole, 0))))
    error = ((painted - real).square() * hole).sum((1, 2, 3)) / (hole.sum((1, 2, 3)) * 3)
    shown = torch.cat([real, torch.where(hole, painted, real)])
    assert torch.equal(shown[6:].masked_fill(hole, 0), real.masked_fill(hole, 0))
    true, false = method.judge(method.critic(Paintable().unpainted(shown))).squeeze(1).chunk(2)
    own = (nn.functional.softplus(-true) + nn.functional.softplus(false)).mean()
    theirs = ((1 - weight) * error + weight * nn.functional.softplus(-false)).mean()
    named = dict(method.named_parameters())
    critic = {n: p for n, p in named.items() if n.startswith(("critic.", "judge."))}
    others = {n: p for n, p in named.items() if n not in critic}
    wanted = dict(zip(critic, torch.autograd.grad(own, critic.values(), retain_graph=True), strict=True))
    wanted |= dict(zip(others, torch.autograd.grad(theirs, others.values()), strict=True))
    out = method(batch)
    out["loss"].backward()
    assert out["loss"].item() == pytest.approx((own + theirs).item(), abs=1e-9)
    assert float(out["critic"]) == pytest.approx(own.item(), abs=1e-9)
    assert float(out["error"]) == pytest.approx(error.mean().item(), abs=1e-9)
    for name, p in named.items():
        torch.testing.assert_close(p.grad, wanted[name], rtol=0, atol=1e-10, msg=name)


def test_inpainting_has_no_discriminator_unless_asked():
    assert not any(n.startswith(("critic", "judge")) for n, _ in ready(Inpainting())[0].named_parameters())
    with pytest.raises(RequestError, match="adversarial = 1"):
        ready(Inpainting(adversarial=1.0))


RUNS = [("bigan", {"code": 8, "hidden": 16}), ("bigan", {"representation": "discriminator"}), ("inpainting", {"adversarial": 0.01})]  # fmt: skip


@pytest.mark.parametrize(("method", "options"), RUNS, ids=["encoder", "discriminator", "inpainting"])
def test_a_game_that_was_cut_ends_in_the_same_bits_and_its_encoder_is_kept(tmp_path, method, options):
    rows = np.stack(find("image").toy(64, 0)[0])[:, ::2, ::2]
    small = {"widths": (8, 16), "blocks": (1, 1), "strides": (2, 2), "stem": 8}
    settings = {"method": method, "options": options, "encoder_options": small, "recipe": {"batch": 32}, "steps": 5}
    whole = train.pretrain(rows, out=tmp_path / "whole", **settings)
    calls = iter(range(100))
    cut = train.pretrain(rows, out=tmp_path / "cut", stop=lambda: next(calls) >= 2, **settings)
    assert not cut.result["finished"]
    resumed = train.resume(tmp_path / "cut", data=rows)
    ours, theirs = (store.load(run.run.encoder) for run in (whole, resumed))
    assert ours.encoder.kind == "resnet-small"
    for a, b in [(ours.encoder, theirs.encoder), *((ours.parts[n], theirs.parts[n]) for n in ours.parts)]:
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    assert ("middle" in ours.parts) == (method == "bigan" and "representation" not in options)
