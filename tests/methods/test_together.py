"""Several methods at once: the weighted sum of what each says alone, equal views made once, state moved in each."""

from dataclasses import replace

import pytest
import torch

from selftaught import methods
from selftaught.core import RequestError, random
from selftaught.methods.rotation import Rotation
from selftaught.methods.together import Together

from .small import batch_of, facts, made, pictures, tokens


def test_the_loss_is_the_weighted_sum_and_so_is_its_gradient():
    method = made(Together(methods="simclr:hidden=12,width=5+rotation", weights="2,0.25"), tokens())
    batch = batch_of(method, pictures())
    method(batch)["loss"].backward()
    both = {n: p.grad.clone() for n, p in method.encoder.named_parameters()}
    alone = {}
    for name, views in (("simclr", batch.views[:2]), ("rotation", batch.views[2:])):
        method.zero_grad()
        alone[name] = method.parts[name](replace(batch, views=views))
        alone[name]["loss"].backward()
        alone[name]["grads"] = {n: p.grad.clone() for n, p in method.encoder.named_parameters()}
    out = method(batch)
    assert out["loss"].item() == pytest.approx(
        2 * alone["simclr"]["loss"].item() + 0.25 * alone["rotation"]["loss"].item()
    )
    assert float(out["simclr accuracy"]) == float(alone["simclr"]["accuracy"])
    assert float(out["baseline"]) == pytest.approx(
        2 * float(alone["simclr"]["baseline"]) + 0.25 * float(alone["rotation"]["baseline"])
    )
    for n, grad in both.items():
        torch.testing.assert_close(
            grad, 2 * alone["simclr"]["grads"][n] + 0.25 * alone["rotation"]["grads"][n], rtol=0, atol=1e-10
        )
    assert method.parts["simclr"].hidden == 12


def test_equal_views_are_made_once():
    method = made(Together(methods="simclr+byol+rotation"), tokens())
    specs = method.views(facts())
    assert method.places == [[0, 1], [0, 1], [2]]
    assert len(specs) == 3
    assert method.notes()[0] == "views: 5 asked for, 3 made."


def test_each_draws_numbers_of_its_own():
    method = made(Together(methods="simmim+masked-token"), tokens())
    batch = batch_of(method, pictures())
    out = method(batch)
    for k, name in enumerate(("simmim", "masked-token")):
        own = replace(batch, views=[batch.views[k]], seed=random.key(batch.seed, "together", k))
        assert float(out[f"{name} loss"]) == method.parts[name](own)["loss"].item()
    other = replace(batch, views=[batch.views[1]], seed=random.key(batch.seed, "together", 0))
    assert float(out["masked-token loss"]) != method.parts["masked-token"](other)["loss"].item()


def test_state_moves_in_each_and_commits_keep_their_names():
    method = made(Together(methods="moco-v2:queue=9,hidden=12,width=5+byol:hidden=12,width=5"), tokens())
    assert method.commits == {"moco-v2 keys"}
    batch = batch_of(method, pictures())
    out = method(batch)
    before = method.parts["moco-v2"].old.rows.clone()
    with torch.no_grad():
        method.encoder.project.weight.add_(0.1)
    slow = [method.parts[n].teacher.net[0].project.weight.clone() for n in ("moco-v2", "byol")]
    method.after_step(0.5, {k: v.detach() for k, v in out.items()})
    torch.testing.assert_close(method.parts["moco-v2"].old.rows[:6], out["moco-v2 keys"])
    assert torch.equal(method.parts["moco-v2"].old.rows[6:], before[6:])
    for n, old in zip(("moco-v2", "byol"), slow):
        assert not torch.equal(method.parts[n].teacher.net[0].project.weight, old)


def test_every_parameter_is_trained_once():
    method = made(Together(methods="byol+simclr+rotation"), tokens())
    listed = [id(p) for group in method.param_groups() for p in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in method.parameters() if p.requires_grad}


def test_parts_are_kept_under_both_names():
    method = made(Together(methods="simclr-v2+rotation"), tokens())
    kept = method.keep()
    assert kept.encoder.kind == "headed"
    assert set(kept.parts) == {"simclr-v2-projector", "rotation-head"}


def test_what_they_ask_for_together():
    method = Together(methods="mae+rotation")
    assert method.needs == methods.find("mae").needs | Rotation.needs
    assert methods.fits(method, "text").startswith("together cannot learn from text: it needs 'turn'")
    assert methods.fits(Together(methods="simclr+masked-token"), "text") is None
    assert Together(methods="deepcluster-v2+simclr").refresh_at == methods.find("deepcluster-v2").refresh_at


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": "simclr"}, "names one method"),
        ({"methods": "simclr+simclr"}, "one twice"),
        ({"methods": "simclr+sparse-manifold"}, "cannot be one of several"),
        ({"methods": "simclr+together"}, "cannot be one of several"),
        ({"methods": "simclr+rotaton"}, "Did you mean 'rotation'"),
        ({"methods": "simclr:temprature=1+rotation"}, "Did you mean 'temperature'"),
        ({"weights": "1"}, "are not 2 positive numbers"),
        ({"weights": "1,-1"}, "are not 2 positive numbers"),
        ({"weights": "1,nan"}, "are not 2 positive numbers"),
        ({"weights": "one,two"}, "are not 2 positive numbers"),
    ],
)
def test_what_cannot_be_joined_is_refused_in_words(options, said):
    with pytest.raises(RequestError, match=said):
        Together(**options)
