import copy

import numpy as np
import pytest
import torch

from selftaught import tasks
from selftaught.core import RequestError
from selftaught.data.labels import Labels
from selftaught.train import finetune, lora
from selftaught.train.finetune import Plan, Tuned, layer_groups, tune
from tests.evaluation.toys import Net, Rows, net, noise

CLASSES = ("a", "b", "c")


@pytest.fixture
def data():
    labels = np.arange(90) % 3
    return Rows(noise(90, 8) + 1.5 * noise(3, 8, 9)[labels], labels)


@pytest.fixture
def task(data):
    return tasks.fit(data.labels())


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def test_layer_wise_rates_as_worked_out_by_hand():
    model = Tuned(net(), torch.nn.Linear(16, 3))
    groups = layer_groups(model, 0.5, 0.05)
    scale = {id(p): (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert scale[id(model.head.weight)] == (1.0, 0.05)
    assert scale[id(model.head.bias)] == (1.0, 0.0)
    assert scale[id(model.encoder.second.weight)] == (0.5, 0.05)  # the last layer
    assert scale[id(model.encoder.norm.weight)] == (0.25, 0.0)
    assert scale[id(model.encoder.first.weight)] == (0.125, 0.05)  # the first of three
    assert len(scale) == len(list(model.parameters()))


def test_parameters_that_no_layer_lists_learn_like_the_first():
    class Loose(Net):
        def layers(self):
            return [list(self.norm.parameters()), list(self.second.parameters())]

    model = Tuned(Loose(), torch.nn.Linear(16, 2))
    scale = {id(p): g["lr_scale"] for g in layer_groups(model, 0.1, 0.0) for p in g["params"]}
    assert scale[id(model.encoder.first.weight)] == scale[id(model.encoder.norm.weight)] == pytest.approx(0.01)


@pytest.mark.parametrize("mode", ["full", "gradual", "lora"])
def test_it_learns_and_leaves_the_given_encoder_alone(data, task, mode):
    encoder = net()
    before = state(encoder)
    plan = Plan(mode=mode, epochs=12, batch=16, lr=0.01, layer_decay=1.0)
    model, history = tune(encoder, task, data, data.y, np.arange(60), np.arange(60, 90), plan=plan)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert max(v["accuracy"] for v in history.validation) > 0.8
    assert type(model.encoder) is Net
    assert sorted(model.encoder.state_dict()) == sorted(before)  # adapters are gone


def test_the_epoch_that_is_best_on_validation_is_kept(data, task):
    model, history = tune(net(), task, data, data.y, np.arange(30), np.arange(60, 90), plan=Plan(epochs=8, lr=0.02))
    ranks = [(v["accuracy"], -v["loss"]) for v in history.validation]
    assert history.kept == ranks.index(max(ranks)) + 1
    guess = task.predict(finetune.outputs(model, data, np.arange(60, 90)))
    assert task.metrics(guess, data.y[60:])["accuracy"] == pytest.approx(max(ranks)[0])


def test_rows_that_are_not_named_change_nothing(data, task):
    poisoned = Rows(data.x, np.where(np.arange(90) < 60, data.y, (data.y + 1) % 3))
    plan = Plan(epochs=2, batch=16)
    one, _ = tune(net(), task, data, data.y, np.arange(40), np.arange(40, 60), plan=plan)
    two, _ = tune(net(), task, poisoned, poisoned.y, np.arange(40), np.arange(40, 60), plan=plan)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_it_is_a_function_of_its_seed_whatever_the_global_state(data, task):
    runs = []
    for seed, noise_before in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(noise_before)
        model, _ = tune(net(), task, data, data.y, np.arange(40), plan=Plan(epochs=2, batch=8, seed=seed))
        runs.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_few_rows_get_further_passes(data, task):
    _, history = tune(net(), task, data, data.y, np.arange(6), plan=Plan(epochs=1, steps=30))
    assert len(history.loss) == 30
    assert history.kept == 30


def test_fresh_adapters_change_nothing_and_merge_back_to_the_same_bits():
    encoder = net().eval()
    before, view = state(encoder), Rows(noise(5, 8)).fetch(np.arange(5))
    expected = encoder(view)
    with torch.random.fork_rng(devices=[]):
        trained = lora.inject(encoder, rank=2)
    assert torch.equal(encoder(view), expected)
    assert {tuple(p.shape) for p in trained} == {(2, 8), (16, 2), (2, 16)}
    lora.merge(encoder)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert all(p.requires_grad for p in encoder.parameters())


def test_trained_adapters_merge_to_the_same_function():
    encoder = net().double().eval()
    original = copy.deepcopy(encoder)
    view = Rows(noise(5, 8).astype(np.float64)).fetch(np.arange(5))
    with torch.random.fork_rng(devices=[]):
        for p in lora.inject(encoder, rank=3):
            torch.nn.init.normal_(p, std=0.3)
    a, b = (encoder.first.lora_A["default"].weight.clone(), encoder.first.lora_B["default"].weight.clone())
    expected = encoder(view)
    lora.merge(encoder)
    torch.testing.assert_close(encoder(view), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(encoder.first.weight, original.first.weight + 2 * (b @ a).double(), rtol=1e-6, atol=1e-6)


def test_lora_keeps_normalisation_statistics(data, task):
    encoder = net()
    model, _ = tune(encoder, task, data, data.y, np.arange(60), plan=Plan(mode="lora", epochs=2))
    assert torch.equal(model.encoder.norm.running_mean, encoder.norm.running_mean)
    whole, _ = tune(encoder, task, data, data.y, np.arange(60), plan=Plan(mode="full", epochs=2))
    assert not torch.equal(whole.encoder.norm.running_mean, encoder.norm.running_mean)


def test_regression_by_finetuning(data):
    y = data.x[:, 0] * 10.0 + 100
    rows = Rows(data.x, y.astype(np.float64))
    task = tasks.fit(Labels(rows.y, None))
    model, history = tune(
        net(), task, rows, rows.y, np.arange(70), np.arange(70, 90), plan=Plan(epochs=30, batch=16, lr=0.02)
    )
    assert history.validation[history.kept - 1]["r2"] > 0.5
    assert model.head.out_features == 1


def test_a_plan_that_trains_nothing_is_refused():
    for wrong in ({"epochs": 0}, {"batch": 0}, {"lr": 0.0}, {"rank": 0}):
        with pytest.raises(RequestError, match=next(iter(wrong))):
            Plan(**wrong)
