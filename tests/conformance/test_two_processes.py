"""Two gloo processes give one process's loss, gradients and statistics, for every method: one start serves all of them."""

import pytest
import torch
from safetensors.torch import load_file

from .processes import accumulates, baseline, distributed, run, tensors, twice

WORLD = 2


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """{name: [tensors of each rank]}"""
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(run, args=(WORLD, str(folder)), nprocs=WORLD)
    names = [path.name.split(".", 1)[1] for path in folder.glob("0.*.safetensors")]
    return {n.removesuffix(".safetensors"): [load_file(folder / f"{r}.{n}") for r in range(WORLD)] for n in names}


def alone(case):
    """What one process finds on the whole batch."""
    method, batch = case.make()
    outputs = twice(method, method, batch)
    return tensors(outputs["loss"], method) | baseline(outputs)


def at_once(case):
    """What one process finds in its first step."""
    method, batch = case.make()
    outputs = method(batch)
    outputs["loss"].backward()
    return tensors(outputs["loss"], method)


def assert_same(ranks, wanted):
    for rank, ours in enumerate(ranks):
        assert ours.keys() == wanted.keys()
        for name, value in wanted.items():
            difference = (ours[name] - value).abs().max() / (1 + value.abs().max())
            assert difference < 1e-9, (name, rank, float(difference))


@pytest.mark.parametrize("case", distributed(), ids=lambda c: c.name)
def test_two_processes_are_one(case, found):
    wanted = alone(case)
    assert_same(found[case.name], wanted)


@pytest.mark.parametrize("case", [c for c in distributed() if accumulates(c)], ids=lambda c: c.name)
def test_two_processes_with_two_micro_batches_each_are_one(case, found):
    assert_same(found[f"accumulated {case.name}"], at_once(case))  # the baseline of micro-batches is the mean of theirs


def test_enough_is_accumulated():
    """Summed and replayed steps are both among them."""
    names = {c.name for c in distributed() if accumulates(c)}
    assert {
        "simclr-text-norm=layer",
        "byol-series-norm=layer",
        "mae-image",
        "next-token-text",
        "masked-token-text",
    } <= names


def test_gather_brings_back_every_ranks_gradient(found):
    whole = (torch.arange(12.0, dtype=torch.float64).view(6, 2) / 7).requires_grad_()
    weight = (torch.arange(6.0, dtype=torch.float64) + 1)[:, None]
    (3 * weight * whole**2).sum().backward()
    ours = [f["gather"] for f in found["collectives"]]
    torch.testing.assert_close(torch.cat(ours), whole.grad, rtol=0, atol=1e-12)
    for rank in found["collectives"]:
        torch.testing.assert_close(rank["gathered"], whole.detach())


def test_sum_brings_back_every_ranks_gradient(found):
    whole = (torch.arange(12.0, dtype=torch.float64).view(6, 2) / 7).requires_grad_()
    (3 * whole.sum(0) ** 2).sum().backward()
    torch.testing.assert_close(torch.cat([f["sum"] for f in found["collectives"]]), whole.grad, rtol=0, atol=1e-12)
    for rank in found["collectives"]:
        torch.testing.assert_close(rank["total"], whole.detach().sum(0))
        assert float(rank["word"]) == 7  # rank 0's
        torch.testing.assert_close(rank["mean"], 0.1 * whole.detach().mean(0))
