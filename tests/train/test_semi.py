import numpy as np
import pytest
import torch

from selftaught import modalities, nets, tasks
from selftaught.core import RequestError
from selftaught.data import Dataset
from selftaught.evaluation import finetune, predict
from selftaught.train.finetune import Plan, tune
from selftaught.train.semi import Companion

GREY = modalities.find("image")(side=8, channels=1, mean=(0.5,), std=(0.25,))


@pytest.fixture(scope="module")
def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nets.build(
            "resnet-small", widths=(8,), blocks=(1,), strides=(2,), stem=8, channels=1, mean=(0.5,), std=(0.25,)
        )


@pytest.fixture(scope="module")
def data():
    y = np.arange(48) % 2
    x = torch.randint(0, 90, (48, 8, 8, 1), generator=torch.Generator().manual_seed(1)).to(torch.uint8).numpy()
    x[y == 1, :4] += 120
    return Dataset.from_arrays(x, GREY, labels=[("low", "high")[c] for c in y])


PLAN = Plan(epochs=2, batch=16, lr=0.01)


def trained(encoder, data, companion):
    labels = data.labels()
    model, history = tune(encoder, tasks.fit(labels), data, labels.values, np.arange(32), np.arange(32, 48), plan=PLAN, companion=companion)  # fmt: skip
    return model, history


def test_the_gradient_is_the_sum_of_the_tasks_and_the_methods(encoder, data):
    """One step's gradients of the joint loss equal the two gradients, taken apart and added."""
    import copy

    rows = torch.arange(16)
    task, view = tasks.fit(data.labels()), data.fetch(rows)
    found = []
    for way in ("task", "method", "both"):
        net = copy.deepcopy(encoder).double().eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            beside = Companion(data, "simclr", weight=0.3, batch=16, seed=5).attach(net, 10, torch.device("cpu"))
        beside.method.double()
        head = torch.nn.Linear(net.dim, 2, bias=False).double()
        with torch.no_grad():
            head.weight.fill_(0.1)[0].neg_()
        loss = 0.0
        with beside:
            if way != "method":
                loss = loss + task.loss(head(net(view)).double(), torch.from_numpy(data.labels().values[:16]))
            if way != "task":
                net.eval()
                loss = loss + 0.3 * beside.method.eval()(beside.next())["loss"]
        loss.backward()
        found.append(
            torch.cat(
                [p.grad.flatten() if p.grad is not None else torch.zeros(p.numel()).double() for p in net.parameters()]
            )
        )
    assert found[0].norm() > 0
    assert found[1].norm() > 0
    torch.testing.assert_close(found[2], found[0] + found[1], rtol=1e-5, atol=1e-8)


def test_a_companion_changes_what_is_learned_and_is_a_function_of_its_seed(encoder, data):
    alone, _ = trained(encoder, data, None)
    runs = [trained(encoder, data, Companion(data, "simclr", weight=1.0, batch=16, seed=s))[0] for s in (1, 1, 2)]
    flat = [torch.cat([p.flatten() for p in m.parameters()]) for m in (alone, *runs)]
    assert torch.equal(flat[1], flat[2])
    assert not torch.equal(flat[1], flat[3])
    assert not torch.equal(flat[0], flat[1])
    assert sorted(alone.state_dict()) == sorted(runs[0].state_dict())  # nothing of the method is left in the model


def test_a_teacher_moves_after_each_step(encoder, data):
    import copy

    net = copy.deepcopy(encoder)
    beside = Companion(data, "byol", batch=16).attach(net, 10, torch.device("cpu"))
    with beside:
        beside.loss().backward()
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.1)
        inside = {id(p) for p in net.parameters()}
        still = [p for p in beside.method.parameters() if id(p) not in inside and not p.requires_grad]
        before = [p.clone() for p in still]
        beside.after_step(0.1)
    assert still
    assert any(not torch.equal(a, b) for a, b in zip(before, still, strict=True))
    assert not any(id(p) in inside for g in beside.groups(0.1) for p in g["params"])


def test_the_whole_way_to_a_model_that_predicts(encoder, data, tmp_path):
    found = finetune(
        encoder, data, unlabelled=data, method="simclr", weight=0.5, labels_per_class=8, plan=PLAN, out=tmp_path / "m"
    )
    semi = found.result["semi"]
    assert (semi["method"], semi["weight"]) == ("simclr", 0.5)
    assert semi["unlabelled"] + semi["copies_left_out"] + sum(found.result["rows"].values()) == 48
    assert predict(tmp_path / "m", data).equals(predict(found, data))


def test_what_cannot_be_added_is_said(encoder, data):
    for method, why in (
        ("sparse-manifold", "no gradient"),
        ("deepcluster-v2", "between steps"),
        ("bert-like", "bert-like"),
    ):
        with pytest.raises(RequestError, match=why):
            Companion(data, method)
    with pytest.raises(RequestError, match="adds nothing"):
        Companion(data, "simclr", weight=0.0)
    with pytest.raises(RequestError, match="--mode head"):
        finetune(encoder, data, mode="head", unlabelled=data, method="simclr", labels_per_class=8)
    with pytest.raises(RequestError, match="--mode lora"):
        finetune(encoder, data, mode="lora", unlabelled=data, method="simclr", labels_per_class=8)
    with pytest.raises(RequestError, match="--unlabelled"):
        finetune(encoder, data, method="simclr")
