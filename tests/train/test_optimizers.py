"""The optimisers against float64 loops, and what survives a checkpoint."""

import numpy as np
import pytest
import torch

from selftaught.core import Batch, Method, Recipe
from selftaught.core.errors import RequestError
from selftaught.train import optimizers


class Two(Method):
    def setup(self, encoder=None, facts=None):
        self.matrix = torch.nn.Parameter(
            torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        )
        self.bias = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
        return self

    def loss(self, batch: Batch):
        return {"loss": self.matrix.sum() + self.bias.sum()}


def test_lars_equals_a_loop_of_its_formula():
    method = Two().setup()
    optimizer = optimizers.make(method, Recipe(optimizer="lars", lr=0.5, momentum=0.9, weight_decay=1e-2))
    w, b = method.matrix.detach().numpy().copy(), np.zeros(4)
    vw, vb = np.zeros_like(w), np.zeros(4)
    dice = np.random.default_rng(0)
    for _ in range(5):
        gw, gb = dice.normal(size=w.shape), dice.normal(size=4)
        method.matrix.grad, method.bias.grad = torch.from_numpy(gw.copy()), torch.from_numpy(gb.copy())
        optimizer.step()
        update = gw + 1e-2 * w
        vw = 0.9 * vw + update * 1e-3 * np.linalg.norm(w) / np.linalg.norm(update)
        vb = 0.9 * vb + gb  # vectors: neither decay nor adaptation
        w, b = w - 0.5 * vw, b - 0.5 * vb
        np.testing.assert_allclose(method.matrix.detach().numpy(), w, rtol=1e-12)
        np.testing.assert_allclose(method.bias.detach().numpy(), b, rtol=1e-12)


def test_lars_with_zero_weights_takes_a_plain_step():
    p = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = optimizers.LARS([p], lr=1.0, momentum=0.0, weight_decay=0.1)
    p.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(p.detach(), -torch.ones(2, 2))


def test_vectors_do_not_decay():
    groups = optimizers.make(Two().setup(), Recipe(optimizer="adamw", weight_decay=0.3)).param_groups
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0]


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_a_restored_optimiser_goes_on_bit_for_bit_in_channels_last(name):
    torch.manual_seed(0)

    def fresh():
        torch.manual_seed(1)
        conv = torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        method = Two()
        method.conv = conv
        return method, optimizers.make(method, Recipe(optimizer=name, lr=0.01))

    def go(method, optimizer, steps, first):
        for step in range(first, first + steps):
            x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
            method.conv(x.to(memory_format=torch.channels_last)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    whole, optimizer = fresh()
    go(whole, optimizer, 6, 0)
    half, optimizer = fresh()
    go(half, optimizer, 3, 0)
    weights = {k: v.clone().contiguous() for k, v in half.state_dict().items()}
    state = optimizer.state_dict()
    for entry in state["state"].values():
        entry.update({k: v.clone().contiguous() for k, v in entry.items() if isinstance(v, torch.Tensor)})
    resumed, again = fresh()
    resumed.load_state_dict(weights)
    optimizers.load_state(again, state)
    go(resumed, again, 3, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_an_unknown_optimiser_is_named():
    with pytest.raises(RequestError, match="lion"):
        optimizers.make(Two().setup(), Recipe(optimizer="lion"))
