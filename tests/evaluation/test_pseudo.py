import numpy as np
import pytest
import torch

from selftaught import modalities
from selftaught.core import RequestError
from selftaught.data import Dataset
from selftaught.data.joined import Joined
from selftaught.evaluation import finetune
from selftaught.evaluation.pseudo import take
from selftaught.train.finetune import Plan
from tests.evaluation.test_adapt import pictures  # noqa: F401

NAMES = ("across", "down", "mixed")
GREY = modalities.find("image")(side=8, channels=1, mean=(0.5,), std=(0.25,))


def stripes(rows: int, seed: int, noise: int = 60):
    y = np.arange(rows) % 3
    x = torch.randint(0, noise, (rows, 8, 8, 1), generator=torch.Generator().manual_seed(seed)).to(torch.uint8).numpy()
    even = np.arange(8) % 4 < 2
    patterns = [even[:, None] & np.ones(8, bool), even & np.ones((8, 1), bool), even[:, None] ^ even]
    return x + (90 * np.stack(patterns)[y, :, :, None]).astype(np.uint8), y


def test_a_class_gives_no_more_than_its_share_and_its_surest_rows():
    sure = np.array([0.99] * 40 + [0.95] * 4 + [0.96] * 6)
    guess = np.array([0] * 40 + [1] * 4 + [2] * 6)
    sure[:5] = 0.995
    out = np.log(np.where(np.eye(3)[guess] == 1, sure[:, None], (1 - sure[:, None]) / 2))
    labelled = np.repeat([0, 1, 2], 2)
    got = take(out, 1.0, labelled, 0.9)
    # found a label: 20, 2, 3 -> median 3 -> 6 a label -> 12 of class 0; all of the others
    assert np.bincount(got[got >= 0]).tolist() == [12, 4, 6]
    assert (got[:5] == 0).all()
    assert (take(out, 1.0, labelled, 0.97)[40:] == -1).all()
    # a class that is alone in being sure gives as many as it has labels
    assert np.bincount(take(out, 1.0, labelled, 0.97) + 1).tolist() == [48, 2]
    # a temperature above 1 makes the same outputs less sure
    assert (take(out, 3.0, labelled, 0.9) == -1).all()


def test_rows_joined_come_in_the_order_asked_for():
    a, b = (Dataset.from_arrays(stripes(n, s)[0], GREY) for n, s in ((5, 0), (4, 1)))
    both = Joined(a, b)
    index = np.array([7, 0, 4, 8, 5, 0])
    expected = np.concatenate([a.rows(np.arange(5)), b.rows(np.arange(4))])[index]
    np.testing.assert_array_equal(both.rows(index), expected)
    assert torch.equal(both.fetch(index)["pixels"], GREY.collate(expected)["pixels"])
    assert len(set(both.ids.tolist())) == len(both) == 9


def test_ragged_rows_are_joined_too():
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    whole = modalities.open_data({"text": [" ".join(words[k : 2 * k + 5]) for k in range(5)] * 3}, modality="text")
    parts = Joined(whole.subset(np.arange(3)), whole.subset(np.arange(3, 5)))
    got, expected = parts.fetch(np.array([4, 1, 3])), whole.fetch(np.array([4, 1, 3]))
    assert torch.equal(got["ids"], expected["ids"])
    assert torch.equal(got["valid"], expected["valid"])


@pytest.mark.parametrize("mode", ["head", "full"])
def test_withheld_labels_are_reported_but_change_nothing(pictures, mode):  # noqa: F811
    run, _ = pictures
    x, y = stripes(150, 3)
    settings = {
        "labels_per_class": 6,
        "rounds": 2,
        "confidence": 0.4,
        "mode": mode,
        "plan": Plan(epochs=10, batch=16, lr=0.02, layer_decay=1.0),
    }
    data = Dataset.from_arrays(x, GREY, labels=[NAMES[c] for c in y])
    found = finetune(run, data, unlabelled=data, **settings)
    report = found.result["pseudo"]
    first, *later = report["rounds"]
    assert first["taken"] == 0
    assert first["agreement"] is first["right"] is None
    assert len(later) >= 1
    assert all(r["taken"] > 0 and 0 <= r["agreement"] <= 1 and 0 <= r["right"] <= 1 for r in later)
    figures = [r["validation"]["accuracy"] for r in report["rounds"]]
    assert report["kept_round"] == int(np.argmax(figures))
    rows = found.result["rows"]
    assert report["unlabelled"] + report["copies_left_out"] + sum(rows.values()) == 150
    assert rows["train"] + rows["validation"] == 18


def test_labels_that_were_withheld_never_reach_the_model():
    from selftaught.evaluation import pseudo
    from selftaught.evaluation.fitting import with_few
    from selftaught.evaluation.protocol import prepare
    from tests.evaluation.toys import Linear

    class Pixels(Linear):
        def forward(self, view):
            return self.map(view["pixels"].flatten(1).float() / 255)

    encoder = Pixels(width=64, hidden=8)
    x, y = stripes(150, 3)
    models = []
    for poison in (False, True):
        data = Dataset.from_arrays(x, GREY, labels=[NAMES[c] for c in y])
        given = prepare(data)
        problem = with_few(given, 6, 0)
        rows = pseudo.gather(given, problem, data, data)
        if poison:
            rows = pseudo.Unlabelled(rows.data, (rows.truth + 1) % 3)
        fitted, report = pseudo.self_train(problem, rows, encoder, "head", None, pseudo.Settings(2, 0.5))
        models.append((fitted.model.head.weight, [r["right"] for r in report["rounds"]]))
        assert not set(rows.data.ids) & set(problem.test.ids)
        assert not set(rows.data.ids) & set(problem.pool.ids[problem.everything])
    assert torch.equal(models[0][0], models[1][0])
    assert models[0][1] != models[1][1]


def test_rows_without_a_label_serve_and_copies_of_test_rows_do_not(pictures):  # noqa: F811
    run, data = pictures
    x, _ = stripes(30, 9)
    held = data.rows(np.arange(20))
    other = Dataset.from_arrays(np.concatenate([x, held]), data.modality)
    result = finetune(run, data, mode="head", unlabelled=other, rounds=1, confidence=0.5, labels_per_class=8).result
    copies = result["pseudo"]["copies_left_out"]
    assert 0 < copies <= 20
    assert result["pseudo"]["unlabelled"] == 50 - copies
    gaps = Dataset.from_arrays(
        data.rows(np.arange(120)), data.modality, labels=[None if i % 2 else NAMES[i % 3] for i in range(120)]
    )
    result = finetune(run, gaps, mode="head", unlabelled=gaps, rounds=1, confidence=0.5).result
    assert 0 < result["pseudo"]["unlabelled"] <= 60
    assert all(r["right"] is None for r in result["pseudo"]["rounds"])


def test_what_cannot_be_pseudo_labelled_is_said(pictures):  # noqa: F811
    run, data = pictures
    with pytest.raises(RequestError, match="validation rows"):
        finetune(run, data, mode="head", unlabelled=data, labels_per_class=2)
    with pytest.raises(RequestError, match="no rows without labels"):
        finetune(run, data, mode="head", unlabelled=data)
    for wrong in ({"rounds": 0}, {"confidence": 1.0}):
        with pytest.raises(RequestError, match=next(iter(wrong))):
            finetune(run, data, mode="head", unlabelled=data, labels_per_class=8, **wrong)
    numbers = Dataset.from_arrays(data.rows(np.arange(120)), data.modality, labels=np.linspace(0, 1, 120))
    with pytest.raises(RequestError, match="regress"):
        finetune(run, numbers, mode="head", unlabelled=numbers)
