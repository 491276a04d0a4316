import itertools
from typing import ClassVar

import numpy as np
import pytest
import torch

from selftaught import nets, tasks
from selftaught.core import RequestError, View
from selftaught.train.finetune import Plan, Tuned, tune
from selftaught.train.layers import open_layers, stack, statistics, unfreeze
from tests.evaluation.toys import Net, Rows, noise

PIXELS = View("image", parts={"pixels": torch.arange(4 * 3 * 16 * 16).view(4, 3, 16, 16).to(torch.uint8)})
WORDS = View("text", parts={"ids": torch.arange(48).view(4, 12) % 28 + 4, "valid": torch.ones(4, 12, dtype=torch.bool)})
CURVES = View("series", parts={"values": torch.sin(torch.arange(192.0)).view(4, 1, 48), "valid": torch.ones(4, 48, dtype=torch.bool)})  # fmt: skip
ENCODERS = {
    "resnet": (PIXELS, {"width": 8, "image_size": 16}),
    "resnet-small": (PIXELS, {"widths": (8, 8), "blocks": (1, 1), "strides": (1, 2), "stem": 8}),
    "vit": (PIXELS, {"image_size": 16, "patch": 8, "width": 16, "depth": 2, "heads": 2}),
    "text-transformer": (WORDS, {"vocabulary": 32, "context": 16, "width": 16, "depth": 2, "heads": 2}),
    "series-transformer": (CURVES, {"width": 16, "depth": 2, "heads": 2}),
    "series-conv": (CURVES, {"width": 8, "depth": 2}),
}


def test_layers_open_one_an_epoch_and_all_by_half_time():
    assert [open_layers(e, 20, 4) for e in range(7)] == [0, 1, 2, 3, 4, 4, 4]
    assert [open_layers(e, 4, 6) for e in range(4)] == [0, 3, 6, 6]
    assert [open_layers(e, 2, 12) for e in range(2)] == [0, 12]


class Watched(Net):
    """Keeps its state at the beginning of every training step."""

    seen: ClassVar[list] = []

    def forward(self, view):
        if torch.is_grad_enabled():
            self.seen.append({k: v.clone() for k, v in self.state_dict().items()})
        return super().forward(view)


def moved(plan: Plan) -> list[set[str]]:
    """The child modules of the encoder whose parameters, and ("statistics") whose running mean, moved in each epoch."""
    labels = np.arange(60) % 3
    data = Rows(noise(60, 8) + 1.5 * noise(3, 8, 9)[labels], labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = Watched(width=8)
    Watched.seen.clear()
    model, _ = tune(encoder, tasks.fit(data.labels()), data, data.y, np.arange(60), plan=plan)
    assert all(p.requires_grad for p in model.parameters())
    states = [*Watched.seen, model.encoder.state_dict()]
    changed = [{k for k in a if not torch.equal(a[k], b[k])} for a, b in itertools.pairwise(states)]
    part = lambda k: "statistics" if "running_mean" in k else k.split(".")[0]  # noqa: E731
    return [{part(k) for k in names if "num_batches" not in k and "running_var" not in k} for names in changed]


def test_which_parameters_move_in_which_epoch():
    # The head is at zero before its first step, so it alone has moved before the encoder is open.
    plan = Plan(mode="gradual", epochs=8, batch=64, lr=0.01)
    got = moved(plan)
    assert got[:4] == [set(), {"second"}, {"second", "norm", "statistics"}, {"second", "norm", "statistics", "first"}]
    assert all(epoch == got[3] for epoch in got[3:])


def test_few_epochs_open_several_layers_at_once():
    everything = {"second", "norm", "statistics", "first"}
    assert moved(Plan(mode="gradual", epochs=2, batch=64, lr=0.01)) == [set(), everything]


def test_rates_fall_with_depth_where_layers_are_opened_one_by_one(monkeypatch):
    labels = np.arange(12) % 2
    data = Rows(noise(12, 8), labels)
    seen = {}
    original = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        seen[len(seen)] = [g["lr"] for g in self.param_groups]
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    plan = Plan(mode="gradual", epochs=4, layer_decay=0.5)
    tune(Watched(width=8), tasks.fit(data.labels()), data, data.y, np.arange(12), plan=plan)
    scales = np.array(seen[1]) / max(seen[1])
    np.testing.assert_allclose(sorted(set(scales.round(6))), [0.125, 0.25, 0.5, 1.0])


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_kind_of_encoder_opens_from_the_top(kind):
    view, options = ENCODERS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nets.build(kind, **options)
        model = Tuned(encoder, torch.nn.Linear(encoder.dim, 2))
    stacked = stack(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    listed = [p for layer in stacked for p in layer]
    assert len(listed) == len({id(p) for p in listed}) == len(trained)
    assert len(stacked) >= 3
    for count in range(len(stacked)):
        model.train()
        unfreeze(stacked, encoder, count)
        model.zero_grad(set_to_none=True)
        before = [m.running_mean.clone() for m in statistics(encoder)]
        model(view).square().sum().backward()
        open_now = {id(p) for layer in stacked[len(stacked) - 1 - count :] for p in layer}
        assert all((p.grad is not None) <= (id(p) in open_now) for p in listed)
        assert all(p.grad is not None for p in stacked[-1])
        if count:
            assert any(p.grad is not None for p in stacked[-1 - count])
        if not count:
            after = [m.running_mean for m in statistics(encoder)]
            assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_parameter_that_never_trained_stays_fixed():
    encoder = Net(width=8)
    encoder.first.bias.requires_grad_(False)
    stacked = stack(Tuned(encoder, torch.nn.Linear(16, 2)))
    unfreeze(stacked, encoder, len(stacked) - 1)
    assert not encoder.first.bias.requires_grad
    assert encoder.first.weight.requires_grad


def test_one_epoch_unfreezes_nothing_and_is_refused():
    with pytest.raises(RequestError, match="head alone"):
        Plan(mode="gradual", epochs=1)
