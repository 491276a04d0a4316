"""Dataclass modules under deepcopy, pickle and torch.compile (DDP: tests/conformance/test_two_processes.py), and their options."""

import copy
import pickle
from typing import ClassVar, Literal

import pytest
import torch
import torch.nn as nn

from selftaught.core import Batch, Encoder, Method, RequestError, View, module


class Net(Encoder):
    """A tiny encoder."""

    width: int = 4
    """How wide
    it is."""
    depth: int | None = None
    rates: tuple[float, ...] = (0.1, 0.2)
    """Rates."""
    kind = "test-net"
    memory: ClassVar[int] = 3

    def __post_init__(self):
        self.layer = nn.Linear(3, self.width)

    @property
    def dim(self):
        return self.width

    def forward(self, view):
        return self.layer(view["x"]).tanh()


class Objective(Method):
    """A tiny method."""

    margin: float = 0.5
    mode: Literal["square", "cube"] = "square"
    """Which power."""

    def setup(self, encoder, facts):
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, 1)
        self.register_buffer("seen", torch.zeros(()))
        return self

    def loss(self, batch):
        out = self.head(self.encoder(batch.views[0])) - self.margin
        return {"loss": (out**2 if self.mode == "square" else out**3).mean(), "size": self.seen}


def batch():
    return Batch(
        [View("test", parts={"x": torch.randn(5, 3, generator=torch.Generator().manual_seed(0))})], torch.arange(5)
    )


def made() -> Objective:
    torch.manual_seed(0)
    return Objective(margin=0.25).setup(Net(width=6), None)


def gradients(method) -> list[torch.Tensor]:
    method.zero_grad()
    method(batch())["loss"].backward()
    return [p.grad.clone() for p in method.parameters()]


def test_options_are_fields_and_docs_their_docstrings():
    assert module.options(Net(width=2)) == {"width": 2, "depth": None, "rates": (0.1, 0.2)}
    assert module.option_docs(Net) == {"width": "How wide it is.", "rates": "Rates."}
    assert module.option_docs(Objective) == {"mode": "Which power."}
    with pytest.raises(TypeError):
        Net(2)  # keyword-only


def test_modules_are_told_apart_by_identity():
    assert Net() != Net()
    assert len({Net(), Net()}) == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_equal_and_separate(copied):
    method = made()
    wanted = gradients(method)
    other = copied(method)
    assert module.options(other) == module.options(method)
    assert all(map(torch.equal, gradients(other), wanted))
    with torch.no_grad():
        other.head.weight.add_(1)
    assert not torch.equal(other.head.weight, method.head.weight)
    assert all(map(torch.equal, gradients(method), wanted))


def test_compile_gives_the_same_gradients():
    method = made()
    wanted = gradients(method)
    compiled = torch.compile(method, backend="aot_eager", fullgraph=True)
    method.zero_grad()
    compiled(batch())["loss"].backward()
    for p, grad in zip(method.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, grad)


def test_state_dict_round_trip():
    method, other = made(), Objective(margin=0.25).setup(Net(width=6), None)
    other.load_state_dict(method.state_dict())
    assert all(map(torch.equal, gradients(other), gradients(method)))


def test_options_that_are_not_plain_data_are_refused():
    with pytest.raises(TypeError, match=r"Bad\.layer.*not plain data"):

        class Bad(Encoder):
            layer: nn.Module | None = None


@pytest.mark.parametrize("name", ["training", "forward", "parameters"])
def test_names_that_nn_module_owns_are_refused(name):
    with pytest.raises(TypeError, match=r"nn\.Module owns"):
        type("Bad", (Method,), {"__annotations__": {name: bool}, name: True, "__module__": __name__})


def test_build_restores_tuples_and_names_the_nearest_option():
    net = module.build(Net, {"width": 3, "rates": [0.5]}, "encoder 'net'")
    assert (net.width, net.rates) == (3, (0.5,))
    with pytest.raises(RequestError, match="Did you mean 'width'"):
        module.build(Net, {"widht": 3}, "encoder 'net'")


@pytest.mark.parametrize(
    ("cls", "settings", "said"),
    [
        (Net, {"width": 2.5}, "width = 2.5 is not int"),
        (Net, {"width": True}, "width = True is not int"),
        (Net, {"rates": [0.1, "x"]}, "rates = "),
        (Objective, {"mode": "quartic"}, "one of 'square', 'cube'"),
    ],
)
def test_build_refuses_values_of_another_type(cls, settings, said):
    with pytest.raises(RequestError, match=said):
        module.build(cls, settings, "thing")


def test_build_takes_whole_numbers_for_floats_and_none_where_allowed():
    assert module.build(Objective, {"margin": 1}, "method").margin == 1
    assert module.build(Net, {"depth": None}, "encoder").depth is None


def test_param_groups_decay_matrices_only():
    matrices, vectors = made().param_groups()
    assert {p.ndim for p in matrices["params"]} == {2}
    assert {p.ndim for p in vectors["params"]} == {1}
    assert vectors["weight_decay"] == 0.0
