import multiprocessing

import pytest
import torch
import torch.nn as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from selftaught.nets.norm import BatchNorm1d, BatchNorm2d, moments, recalibrate, synchronised

from . import pair


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """The results of two gloo processes, each with half of every batch."""
    folder = str(tmp_path_factory.mktemp("pair"))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=pair.work, args=(rank, folder)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    return [load_file(f"{folder}/{rank}.safetensors") for rank in range(2)]


@pytest.mark.parametrize("name", list(pair.nets_to_compare()))
def test_two_processes_are_one(two, name):
    """Outputs, gradients of input and parameters, running statistics and the evaluation afterwards, in float64."""
    net, x = pair.nets_to_compare()[name]
    one = pair.run(net, x, pair.ROWS)
    for key, wanted in one.items():
        mine, theirs = (results[f"{name}/{key}"] for results in two)
        if key in ("y", "x", "eval"):
            got = torch.cat([mine, theirs])
        else:
            assert torch.equal(mine, theirs), key
            got = mine
        scale = wanted.double().abs().max().clamp_min(1)
        assert (got - wanted).abs().max() <= 1e-9 * scale, key


def test_one_process_is_torch_to_the_last_bit():
    torch.manual_seed(0)
    for ours, theirs, shape in (
        (BatchNorm1d(6), nn.BatchNorm1d(6), (9, 6)),
        (BatchNorm2d(6, momentum=None), nn.BatchNorm2d(6, momentum=None), (4, 6, 5, 3)),
    ):
        x = torch.randn(shape)
        for _ in range(3):
            assert torch.equal(ours(x), theirs(x))
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value)
        assert torch.equal(ours.eval()(x), theirs.eval()(x))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 9), width=st.integers(1, 5), shift=st.floats(-1e4, 1e4), seed=st.integers(0, 999))
def test_moments_are_those_of_numpy(rows, width, shift, seed):
    x = torch.randn(rows, width, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + shift
    count, mean, var = moments(x)
    assert count == rows * 3
    assert torch.allclose(mean, torch.from_numpy(x.numpy().mean((0, 2))), rtol=1e-12)
    assert torch.allclose(var, torch.from_numpy(x.numpy().var((0, 2))), rtol=1e-6)


def test_running_statistics_stay_fp32_under_bf16():
    norm = BatchNorm2d(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        norm(torch.randn(8, 4, 3, 3).bfloat16())
    assert norm.running_var.dtype == torch.float32
    assert norm.running_mean.abs().max() > 0


def test_synchronised_keeps_names_values_and_mode():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4, eps=1e-3, momentum=0.2), nn.ReLU()))
    before, x = {k: v.clone() for k, v in net.state_dict().items()}, torch.randn(5, 3, 2, 2)
    parameters = list(net.parameters())
    wanted = net.eval()(x)
    after = synchronised(net)
    assert type(after[1][0]) is BatchNorm2d
    assert (after[1][0].eps, after[1][0].momentum, after[1][0].training) == (1e-3, 0.2, False)
    assert list(after.state_dict()) == list(before)
    assert all(torch.equal(after.state_dict()[k], v) for k, v in before.items())
    assert [id(p) for p in after.parameters()] == [id(p) for p in parameters]
    assert torch.equal(after(x), wanted)


def test_recalibration_takes_the_statistics_of_the_views():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.5), BatchNorm2d(3, momentum=0.1)).train()
    for _ in range(5):
        net(torch.randn(8, 3, 2, 2))
    views = [5 + 2 * torch.randn(64, 3, 4, 4) for _ in range(6)]
    recalibrate(net, views)
    assert torch.allclose(net[1].running_mean, torch.stack([v.mean((0, 2, 3)) for v in views]).mean(0), atol=1e-5)
    assert torch.allclose(
        net[1].running_var, torch.stack([v.transpose(0, 1).flatten(1).var(1) for v in views]).mean(0), atol=1e-5
    )
    assert net.training
    assert net[0].training
    assert net[1].momentum == 0.1
