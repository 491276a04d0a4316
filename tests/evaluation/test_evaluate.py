"""The whole evaluation on planted and null data of plain vectors; and on pictures, from a folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from selftaught import modalities, nets, train
from selftaught.core import DataError, Kept, RequestError
from selftaught.core.listener import Listener
from selftaught.data import Dataset
from selftaught.evaluation import evaluate
from selftaught.evaluation import probe as probing
from selftaught.evaluation.protocol import budgets_of, prepare, verdict_budget
from tests.evaluation.toys import Linear, Rows, net, noise

QUICK = {"budgets": [5], "seeds": 2, "controls": ("blind", "raw", "untrained")}


def planted(rows: int = 400, classes: int = 4, key: int = 0, noise_scale: float = 3.0) -> tuple[Rows, Linear]:
    """Classes in eight directions under 24 louder ones; and the encoder that keeps the eight."""
    y = np.arange(rows) % classes
    signal = 1.2 * noise(classes, 8, 9)[y] + 0.8 * noise(rows, 8, key)
    mixing = noise(32, 32, 5)
    x = np.concatenate([signal, noise_scale * noise(rows, 24, key + 1)], 1) @ mixing
    encoder = Linear(width=32, hidden=8)
    with torch.no_grad():
        encoder.map.weight.copy_(torch.from_numpy(np.linalg.inv(mixing)[:, :8].T.copy()))
    return Rows(x.astype(np.float32), y), encoder


def row_of(result, features, probe="linear", labels=5, layer="last"):
    (found,) = [
        r for r in result["rows"]
        if (r["features"], r["probe"], r["labels_per_class"], r["layer"]) == (features, probe, labels, layer)
    ]  # fmt: skip
    return found


@pytest.fixture(scope="module")
def helped():
    rows, encoder = planted()
    return evaluate(encoder, rows, **QUICK)


def test_planted_features_help(helped):
    assert helped["verdict"]["answer"] == "helped"
    assert "Pretraining helped: with 5 labels a class" in helped["verdict"]["sentence"]
    best = max(row_of(helped, n)["mean"] for n in ("raw", "untrained"))
    assert row_of(helped, "pretrained")["mean"] > best + 0.2
    assert row_of(helped, "blind")["mean"] == pytest.approx(0.25, abs=0.01)
    first = helped["differences"][0]
    assert (first["a"], first["probe"], first["labels_per_class"]) == ("pretrained", "linear", 5)
    assert first["low"] > 0


def test_the_result_is_the_stable_format(helped):
    assert json.loads(json.dumps(helped, allow_nan=False)) == helped
    assert {"task", "metric", "rows", "differences", "smallest_visible_difference", "leakage", "verdict"} <= set(helped)
    keys = {"features", "probe", "layer", "labels_per_class", "mean", "low", "high", "draws", "seeds"}
    assert all(set(r) == keys for r in helped["rows"])
    assert all(r["low"] <= r["mean"] <= r["high"] for r in helped["rows"])
    assert all(set(d) == {"a", "b", "probe", "labels_per_class", "mean", "low", "high"} for d in helped["differences"])
    assert set(helped["leakage"]) == {"exact", "near", "seen_in_pretraining", "without"}
    assert set(helped["verdict"]) == {"answer", "sentence"}
    assert (helped["task"], helped["metric"]) == ("classify", "accuracy")
    assert {r["probe"] for r in helped["rows"]} == {"linear", "knn", "kmeans"}
    assert row_of(helped, "untrained")["seeds"] == 2
    assert row_of(helped, "pretrained")["draws"] == 10
    assert row_of(helped, "pretrained", "kmeans", 0)["mean"] > 0.5
    (figures,) = [m for m in helped["measures"] if m["features"] == "pretrained"]
    assert figures["effective_rank"] <= 8.01
    assert figures["nmi"] > 0.3


def test_features_without_the_signal_hurt():
    rows, encoder = planted(noise_scale=0.3)
    with torch.no_grad():
        encoder.map.weight.copy_(torch.from_numpy(np.linalg.inv(noise(32, 32, 5))[:, 8:16].T.copy()))
    result = evaluate(encoder, rows, **QUICK)
    assert result["verdict"]["answer"] == "hurt"


def test_equal_features_give_equal_scores_so_every_arm_has_the_same_draws():
    rows, _ = planted(200)
    encoder = Linear(width=32, hidden=32)
    with torch.no_grad():
        encoder.map.weight.copy_(torch.eye(32))
    result = evaluate(encoder, rows, budgets=[2, 5], seeds=1, controls=("raw",))
    for difference in result["differences"]:
        assert difference["mean"] == 0
        assert difference["low"] < 0 < difference["high"]
    assert result["verdict"]["answer"] == "cannot tell"
    assert "would have been seen four times in five" in result["verdict"]["sentence"]


def test_random_labels_are_not_helped():
    rows, encoder = planted(200)
    shuffled = torch.randperm(200, generator=torch.Generator().manual_seed(0)).numpy()
    result = evaluate(encoder, Rows(rows.x, rows.y[shuffled]), **QUICK)
    assert result["verdict"]["answer"] == "cannot tell"


def test_probing_changes_nothing_in_the_encoder():
    encoder = net(width=32).train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    evaluate(encoder, planted(120)[0], budgets=[2], seeds=1, controls=("raw", "untrained", "scratch"))
    assert encoder.training
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert all(p.grad is None for p in encoder.parameters())


def test_test_labels_decide_nothing_before_the_final_score():
    rows, encoder = planted()
    problem = prepare(rows)
    poisoned = replace(problem, targets=(problem.targets + 1) % 4)
    features = probing.Features(problem.pool.x @ encoder.map.weight.detach().numpy().T, problem.test.x[:, :8])
    draws = probing.few_label_draws(problem, [2, 5], 4, 0)
    again = probing.few_label_draws(poisoned, [2, 5], 4, 0)
    assert all(np.array_equal(a, b) for n in draws for a, b in zip(draws[n], again[n], strict=True))
    honest, other = (probing.probe(p, features, draws) for p in (problem, poisoned))
    assert honest.validation == other.validation
    for key, found in honest.scores.items():
        right, wrong = found.numerator, other.scores[key].numerator
        if key[0] == "linear":  # the same guesses: nowhere right under both labellings
            assert (right * wrong).max() == 0


def test_the_strength_chosen_does_not_see_the_test_rows():
    rows, _ = planted()
    problem = prepare(rows)
    scale = probing.measures.Scale.of(problem.pool.x[problem.probe_train])
    a, _ = probing.fit_all(problem, problem.pool.x, scale)
    b, _ = probing.fit_all(replace(problem, targets=problem.targets * 0), problem.pool.x, scale)
    assert a.strength == b.strength
    assert np.array_equal(a.weight, b.weight)


def test_every_layer_is_probed_and_the_verdict_stays_with_the_last():
    rows, _ = planted(200)
    result = evaluate(net(width=32), rows, layer="all", **QUICK)
    assert {r["layer"] for r in result["rows"] if r["features"] == "pretrained"} == {"last", 0, 1}
    last, stage = row_of(result, "pretrained"), row_of(result, "pretrained", layer=1)
    assert last["mean"] == pytest.approx(stage["mean"], abs=1e-6)
    with pytest.raises(RequestError, match="0 to 1"):
        evaluate(net(width=32), rows, layer=7, **QUICK)


def test_labels_may_miss_and_skip_codes():
    rows, encoder = planted(300)
    labels = np.array(
        [None if i % 5 == 4 else ("x", "zebra", "ant", "9")[v] for i, v in enumerate(rows.y)], dtype=object
    )
    result = evaluate(encoder, Rows(rows.x, rows.y), labels=labels, **QUICK)
    assert result["verdict"]["answer"] == "helped"
    assert result["test_rows"] == pytest.approx(300 * 0.8 * 0.2, abs=6)
    gapped = evaluate(encoder, rows, labels=np.array([3, 40, 7, 1000])[rows.y], **QUICK)
    assert row_of(gapped, "pretrained")["mean"] > 0.6
    with pytest.raises(RequestError, match="299 labels for 300 rows"):
        evaluate(encoder, rows, labels=labels[1:], **QUICK)


def test_a_test_set_of_ones_own_is_used_whole_with_its_own_order_of_classes():
    rows, encoder = planted(300)
    fresh, _ = planted(100, key=50)
    train = Rows(rows.x, rows.y, classes=("a", "b", "c", "d"))
    turned = Rows(fresh.x, 3 - fresh.y, classes=("d", "c", "b", "a"))
    result = evaluate(encoder, train, test=turned, **QUICK)
    assert result["test_rows"] == 100
    assert row_of(result, "pretrained")["mean"] > 0.7


def test_groups_stay_together_and_widen_the_interval():
    rows, _encoder = planted(400)
    group = np.arange(400) // 16
    problem = prepare(Rows(rows.x, rows.y, group=group))
    parts = [set(group[problem.pool.ids[p]]) for p in (problem.probe_train, problem.probe_validation)]
    parts.append(set(group[problem.test.ids]))
    assert not (parts[0] & parts[1])
    assert not (parts[0] & parts[2])
    assert not (parts[1] & parts[2])
    assert np.array_equal(np.unique(problem.test_groups), np.unique(group[problem.test.ids]))


def test_a_test_set_of_one_group_is_judged_by_rows_and_says_so():
    rows, encoder = planted(600)
    group = np.repeat([0, 1, 2], 200)
    learned, held = (Rows(rows.x[some], rows.y[some], group=group[some]) for some in (group < 2, group == 2))
    said: list[str] = []
    listener = Listener()
    listener.say = said.append  # type: ignore[method-assign]
    found = evaluate(encoder, learned, test=held, listener=listener, **QUICK)
    assert any("all test rows are of one group" in line for line in said)
    first = found["differences"][0]
    assert 0.01 < first["high"] - first["low"] < 0.5


def test_planted_copies_are_counted_and_left_out_beside():
    rows, encoder = planted(300)
    test, _ = planted(60, key=70)
    test.x[:4] = rows.x[:4]
    test.x[4:7] = rows.x[4:7] * 1.001 + 0.002
    result = evaluate(encoder, rows, test=test, **QUICK)
    assert (result["leakage"]["exact"], result["leakage"]["near"]) == (4, 3)
    without = [r for r in result["leakage"]["without"] if r["features"] == "pretrained" and r["labels_per_class"] == 5]
    assert without[0]["mean"] != row_of(result, "pretrained")["mean"]
    clean = evaluate(encoder, rows, test=planted(60, key=70)[0], **QUICK)
    assert clean["leakage"] == {"exact": 0, "near": 0, "seen_in_pretraining": 0, "without": []}


def test_test_rows_in_the_pretraining_data_are_declared():
    rows, encoder = planted(200)
    seen = evaluate(encoder, rows, pretraining=rows, **QUICK)
    assert seen["leakage"]["exact"] == seen["test_rows"]
    assert seen["leakage"]["without"] == []
    assert "all test rows were among the data that pretraining saw" in seen["verdict"]["sentence"]


def test_a_test_set_beside_the_pretraining_data_was_not_seen(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (150, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(150) % 3
    small = {"encoder": "resnet-small", "encoder_options": {"widths": (4,), "blocks": (1,), "strides": (1,), "stem": 4}}
    table, other = (
        {"pixels": list(pictures[some]), "label": labels[some].tolist()} for some in (slice(90), slice(90, 150))
    )
    run = train.pretrain(table, method="simclr", steps=0, out=tmp_path / "run", **small).run.folder
    kept = {"labels": "label", "controls": ("untrained",), "draws": 1, "seeds": 1}
    assert evaluate(run, table, test=other, **kept)["leakage"]["seen_in_pretraining"] == 0
    assert evaluate(run, other, test=table, **kept)["leakage"]["seen_in_pretraining"] == 90


def test_equal_rows_never_lie_on_both_sides_of_a_split():
    rows, encoder = planted(150)
    twice = Rows(np.concatenate([rows.x, rows.x]), np.concatenate([rows.y, rows.y]))
    result = evaluate(encoder, twice, **QUICK)
    assert result["leakage"]["exact"] == 0


def test_numbers_are_regressed():
    rows, encoder = planted(400)
    z = rows.x @ encoder.map.weight.detach().numpy().T
    numbers = Rows(rows.x, (z @ np.arange(8) * 2 + 100).astype(np.float64))
    result = evaluate(encoder, numbers, budgets=[30], seeds=1, controls=("raw", "untrained", "blind"))
    assert (result["task"], result["metric"]) == ("regress", "r2")
    assert row_of(result, "pretrained", labels=30)["mean"] > 0.95
    assert row_of(result, "blind", labels=30)["mean"] < 0.02
    assert result["verdict"]["answer"] == "helped"
    assert "30 labels, the linear probe's r2" in result["verdict"]["sentence"]


def test_scratch_learns_from_the_labels_alone():
    rows, _encoder = planted(300, noise_scale=0.3)
    result = evaluate(net(width=32), rows, budgets=[20], seeds=1, controls=("raw", "scratch"))
    found = row_of(result, "scratch", "finetune", 20)
    assert found["draws"] == 3
    assert found["mean"] > 0.6
    assert any(d["b"] == "scratch" and d["probe"] == "finetune" for d in result["differences"])


def test_a_model_off_the_shelf_stands_beside():
    rows, encoder = planted(200)
    result = evaluate(net(width=32), rows, shelf={"good": encoder}, **QUICK)
    assert row_of(result, "shelf:good")["mean"] > row_of(result, "pretrained")["mean"]


def test_several_runs_give_seeds():
    rows, encoder = planted(200)
    result = evaluate([encoder, encoder, encoder], rows, **QUICK)
    assert row_of(result, "pretrained")["seeds"] == 3


def test_where_the_verdict_is_given():
    rows, _ = planted(400)
    few = prepare(rows)  # 64 a class
    assert verdict_budget(few, budgets_of(few, None), None) == "all"
    assert verdict_budget(few, [5, 25], [5, 25]) == 25
    many = prepare(planted(4000, 2)[0])
    assert budgets_of(many, None) == [1, 2, 5, 10, 25, 50, 100]
    assert verdict_budget(many, budgets_of(many, None), None) == 50
    with pytest.raises(RequestError, match="500 labels a class"):
        budgets_of(few, [500])
    with pytest.raises(RequestError, match="no budget"):
        budgets_of(few, [0])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"controls": ("rwa",)}, "'raw'"),
        ({"controls": ("blind",)}, "something to compare with"),
        ({"draws": 0}, "0 draws"),
    ],
)
def test_wrong_requests_are_said(options, text):
    rows, encoder = planted(100)
    with pytest.raises(RequestError, match=text):
        evaluate(encoder, rows, **options)


def test_one_class_and_too_few_rows_are_said():
    x = noise(40, 32)
    with pytest.raises(DataError, match="one class"):
        evaluate(Linear(width=32), Rows(x, np.zeros(40, int)), labels=["a"] * 40)
    with pytest.raises(DataError, match="too few"):
        evaluate(Linear(width=32), Rows(x[:2], np.array([0, 1])), labels=["a", "b"])


def test_a_saved_encoder_of_pictures_is_evaluated_from_its_folder(tmp_path):
    image = modalities.find("image")
    pictures, factors = image.toy(120, 0)
    labels = np.unique(next(v for v in factors.values() if v.dtype.kind in "iu"), return_inverse=True)[1]
    modality = image(side=32)
    data = Dataset.from_arrays(np.stack(pictures), modality, labels=labels.tolist())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nets.build("resnet-small", widths=(8, 8, 16), stem=8, stride=4, patch=8)
    nets.store.save(tmp_path / "run" / "encoder", Kept(encoder), fill=modality.save)
    result = evaluate(tmp_path / "run", data, budgets=[2], draws=3, seeds=1, controls=("raw", "untrained"))
    assert 23 <= result["test_rows"] <= 25
    assert result["verdict"]["answer"] in ("helped", "hurt", "cannot tell")
    (figures,) = [m for m in result["measures"] if m["features"] == "pretrained"]
    assert 0 <= figures["view_recall"] <= 1
    assert figures["alignment"] >= 0
