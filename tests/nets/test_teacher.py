import copy
import math

import pytest
import torch
import torch.nn as nn
from hypothesis import given
from hypothesis import strategies as st

from selftaught.nets.norm import BatchNorm1d
from selftaught.nets.teacher import Teacher


def student() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6, bias=False), BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))


def test_update_is_the_average_of_parameters_and_a_copy_of_buffers():
    net = student()
    teacher = Teacher(net, start=0.9)
    before = [p.clone() for p in teacher.net.parameters()]
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p))
    net(torch.randn(8, 4))
    m = teacher.update(net, 0.0)
    assert m == pytest.approx(0.9)
    for old, mine, theirs in zip(before, teacher.net.parameters(), net.parameters(), strict=True):
        assert (mine - (0.9 * old + 0.1 * theirs)).abs().max() < 1e-6
    for mine, theirs in zip(teacher.net.buffers(), net.buffers(), strict=True):
        assert torch.equal(mine, theirs)
    assert teacher.net[1].num_batches_tracked == 1


@given(start=st.floats(0, 1), first=st.floats(0, 1), second=st.floats(0, 1))
def test_momentum_rises_from_start_to_end(start, first, second):
    teacher = Teacher(nn.Linear(1, 1), start=start)
    low, high = sorted((first, second))
    assert start - 1e-12 <= teacher.momentum(low) <= teacher.momentum(high) + 1e-12 <= 1 + 2e-12
    assert teacher.momentum(0) == pytest.approx(start)
    assert teacher.momentum(1) == 1
    wanted = 1 - (1 - start) * (math.cos(math.pi * first) + 1) / 2
    assert teacher.momentum(first) == pytest.approx(wanted)


def test_an_average_is_kept_in_fp32_where_the_student_is_bf16():
    net = nn.Linear(4, 4).bfloat16()
    teacher = Teacher(net, start=0.999)
    with torch.no_grad():
        net.weight.add_(1)
    before = teacher.net.weight.clone()
    teacher.update(net, 0.0)
    moved = (teacher.net.weight - before) / (net.weight.float() - before)
    assert teacher.net.weight.dtype == torch.float32
    assert (moved - 0.001).abs().max() < 1e-4  # in bf16 the step would vanish beside weights of order 1
    assert Teacher(nn.Linear(2, 2).double()).net.weight.dtype == torch.float64


def test_it_runs_without_gradient_or_dropout_whatever_the_mode():
    net = student()
    teacher, x = Teacher(net), torch.randn(8, 4)
    teacher.train()
    assert not any(m.training for m in teacher.modules())
    y = teacher(x)
    assert not y.requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())
    assert torch.equal(y, teacher(x))
    assert torch.equal(y, copy.deepcopy(net).eval()(x))


def test_batch_statistics_are_those_of_the_batch():
    teacher, x = Teacher(student(), statistics="batch").train(), torch.randn(8, 4)
    hidden = teacher.net[1](teacher.net[0](x))
    assert hidden.mean(0).abs().max() < 1e-6
    assert not teacher.net[2].training
    assert not any(m.training for m in teacher.eval().modules())


def test_it_is_a_copy_and_checks_its_momentum():
    net = student()
    teacher = Teacher(net)
    with torch.no_grad():
        net[0].weight.zero_()
    assert teacher.net[0].weight.abs().sum() > 0
    with pytest.raises(ValueError, match="momentum"):
        Teacher(net, start=0.9, end=0.5)
