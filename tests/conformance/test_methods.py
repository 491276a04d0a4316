"""What every method promises on every kind of data that it fits.  A new file in methods/ or modalities/ is tested the day it lands."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch

from selftaught.core import Method, RequestError
from selftaught.nets import store
from selftaught.nets.store import Stored
from selftaught.train.step import STEPS, check_accumulation

from .cases import cases

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
UNUSED = {"encoder.mask_token"}  # takes part times zero where nothing is masked

every_case = pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)


def descend(method: Method, batch, lr: float):
    """One plain step of gradient descent; the loss before it."""
    method.zero_grad()
    loss = method(batch)["loss"]
    loss.backward()
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p.sub_(lr * p.grad)
    return loss.detach()


@every_case
def test_outputs(case):
    """A scalar loss with gradient; everything else detached scalars, and features of the rows for the alarms."""
    method, batch = case.make()
    outputs = method(batch)
    assert outputs["loss"].shape == ()
    assert outputs["loss"].requires_grad
    for name, value in outputs.items():
        assert value.isfinite().all(), name
        assert name == "loss" or not value.requires_grad, name
        assert name in method.commits or value.shape == (
            (len(batch), method.encoder.dim) if name in ("features", "positives") else ()
        ), name


@every_case
def test_gradient_reaches_every_parameter(case):
    method, batch = case.make()
    method(batch)["loss"].backward()
    trained = {id(p) for group in method.param_groups() for p in group["params"]}
    for name, p in method.named_parameters():
        assert (id(p) in trained) == p.requires_grad, name
        assert (p.grad is not None) == p.requires_grad, name
        assert p.grad is None or name in UNUSED or p.grad.abs().max() > 0, name


GAMES = ("bigan",)
"""Methods of players whose losses are at odds: their sum need not fall (tests/methods/test_adversarial.py moves one player at a time)."""


@every_case
def test_a_small_step_lowers_the_loss_and_three_stay_finite(case):
    method, batch = case.make()
    before = descend(method, batch, 1e-3)
    method.after_step(0.5, {})
    assert case.method in GAMES or method(batch)["loss"] < before
    for _ in range(3):
        assert descend(method, batch, 1e-2).isfinite()
        method.after_step(0.6, {})
    assert all(p.isfinite().all() for p in method.parameters())


@every_case
def test_same_batch_same_loss_and_no_state_but_statistics(case):
    method, batch = case.make()
    method(batch)  # statistics of the teacher settle with the first call
    before = {k: v.clone() for k, v in method.state_dict().items()}
    first, random_state = method(batch)["loss"], torch.get_rng_state()
    assert torch.equal(first, method(batch)["loss"])
    assert torch.equal(random_state, torch.get_rng_state())
    changed = {k for k, v in method.state_dict().items() if not torch.equal(v, before[k])}
    assert all(name.endswith(STATISTICS) for name in changed)


@every_case
def test_copies_and_saved_states_are_the_same_method(case):
    method, batch = case.make()
    descend(method, batch, 1e-2)
    method.after_step(0.5, {})
    restored, _ = case.make()
    restored.load_state_dict(method.state_dict())
    wanted = copy.deepcopy(method)(batch)["loss"]
    for other in (copy.deepcopy(method), pickle.loads(pickle.dumps(method)), restored):
        assert torch.equal(other(batch)["loss"], wanted)
        shared = {p.data_ptr() for p in other.parameters()} & {p.data_ptr() for p in method.parameters()}
        assert not shared
    resumed, _ = case.make()
    resumed.load_state_dict(method.state_dict())
    for way in (method, resumed):  # going on from a saved state is going on: teachers and codebooks included
        descend(way, batch, 1e-2)
        way.after_step(0.6, {})
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in method.state_dict().items())


@every_case
def test_order_of_rows_does_not_matter(case):
    method, batch = case.make()
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))
    turned = replace(batch, views=[v.take(order) for v in batch.views], index=batch.index[order])
    torch.testing.assert_close(method(turned)["loss"], method(batch)["loss"], rtol=0, atol=1e-10)


@every_case
def test_loss_is_computed_in_full_precision_under_autocast(case):
    method, batch = case.make(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = method(batch)["loss"]
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(reduced, copy.deepcopy(method)(batch)["loss"], rtol=0.05, atol=0.02)


@every_case
def test_count_is_what_the_loss_divides_by(case):
    method, batch = case.make()
    if method.couples_rows:
        assert method.count(batch) is None
        return
    count = method.count(batch)
    count = torch.tensor(len(batch)) if count is None else count
    torch.testing.assert_close(
        method(replace(batch, total=3 * count))["loss"] * 3, method(batch)["loss"], rtol=0, atol=1e-10
    )


LAYERED = ("simclr", "simclr-v2", "emp-ssl", "byol", "barlow-twins", "vicreg", "simsiam", "dino", "deepcluster-v2")
"""Methods whose heads can do without batch normalisation."""


@every_case
def test_accumulation_changes_nothing_or_is_refused(case):
    """Four micro-batches give the whole batch's loss and gradients: summed, or embedded, coupled and replayed."""
    options = {"norm": "layer"} if case.method in LAYERED else {}
    method, batch = case.make(**options)
    normalised = any(name.endswith("running_mean") for name, _ in method.named_buffers())
    if normalised or (method.couples_rows and type(method).embed is Method.embed):
        with pytest.raises(RequestError, match="accumulate = 4"):
            check_accumulation(method, 4)
        return
    found = {}
    for way in ("whole", check_accumulation(method, 4)):
        method.zero_grad()
        outputs = STEPS[way](method, method, batch, lambda loss: loss.backward(), 4)
        found[way] = (
            torch.stack([outputs[n].detach() for n in ("loss", "accuracy", "kl") if n in outputs]),
            {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None},
        )
    (loss, grads), (again, others) = found.values()
    torch.testing.assert_close(again, loss, rtol=0, atol=1e-9)
    assert grads.keys() == others.keys()
    for name in grads:
        torch.testing.assert_close(others[name], grads[name], rtol=0, atol=1e-9, msg=name)


@every_case
def test_what_is_kept_loads_as_it_stands(case, tmp_path):
    """Encoder and parts come back from a folder with the same numbers, ties still tied; nothing else is needed."""
    method, batch = case.make(dtype=torch.float32)
    descend(method, batch, 1e-2)
    kept = method.eval().keep()
    store.save(tmp_path / "encoder", kept)
    loaded = store.load(tmp_path / "encoder")
    assert torch.equal(loaded.encoder(batch.views[0]), kept.encoder(batch.views[0]))
    assert loaded.parts.keys() == kept.parts.keys()
    for name, part in kept.parts.items():
        assert not isinstance(loaded.parts[name], Stored), f"nets.PARTS does not know how to build {name!r} again"
        state = loaded.parts[name].state_dict()
        assert all(torch.equal(state[k], v) for k, v in part.state_dict().items())
    for ours, theirs in kept.ties.items():
        part, _, path = ours.partition(".")
        assert loaded.parts[part].get_parameter(path) is loaded.encoder.get_parameter(theirs)
