"""Leave one group out: who is tested is new to the read-outs and to their tuning, and intervals are over groups."""

import numpy as np
import pytest
import torch
from scipy import stats

from selftaught import modalities, train
from selftaught.core import RequestError
from selftaught.core.listener import Listener
from selftaught.data import splits
from selftaught.evaluation import evaluate
from selftaught.evaluation.left_out import MOST, Options, _problems, folds_of
from selftaught.evaluation.opening import held_out
from selftaught.evaluation.probe import few_label_draws
from selftaught.evaluation.statistics import Folds, Scores, interval
from tests.evaluation.toys import Linear, Rows, net, noise

QUICK = {"budgets": [5], "draws": 3, "seeds": 2, "controls": ("blind", "raw", "untrained")}


def people(each: int = 60, groups: int = 6, classes: int = 4, own: float = 2.0) -> Rows:
    """Every group says each class in a way of its own: what is common to all is told, and beside it what only this group does."""
    y, who = np.arange(each * groups) % classes, np.repeat(np.arange(groups), each)
    common, theirs = noise(classes, 6, 1)[y], noise(groups * classes, 10, 2)[who * classes + y]
    x = np.concatenate([common, own * theirs], 1) + 0.8 * noise(len(y), 16, 3)
    return Rows(x.astype(np.float32), y, group=who)


def common_part(width: int = 16) -> Linear:
    """What keeps what is common to all groups."""
    encoder = Linear(width=width, hidden=6)
    with torch.no_grad():
        encoder.map.weight.copy_(torch.eye(6, width))
    return encoder


@pytest.fixture(scope="module")
def result():
    return evaluate(common_part(), people(), split="leave-one-out", group="who", **QUICK)


def test_intervals_over_folds_are_students():
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(6), 20)
    top = rng.uniform(size=(2, 3, 120))
    means = np.array([top[:, :, of == k].mean() for k in range(6)])
    got = interval(Scores(top, np.ones(120), None), Folds(of))
    error = np.sqrt(
        means.var(ddof=1) * (1 / 6 + 1 / 5)
    )  # Nadeau & Bengio 2003: each fold tests a fifth of what it learns from
    low, high = stats.t.interval(0.95, 5, means.mean(), error)
    np.testing.assert_allclose([got.mean, got.low, got.high], [means.mean(), low, high])
    one = interval(Scores(top, np.ones(120)), Folds(np.zeros(120, int)))
    assert (one.low, one.high) == (0, 1)
    clipped = interval(Scores((top > 0.02).astype(float), np.ones(120)), Folds(of))
    assert 0 <= clipped.low <= clipped.high <= 1


def learned(rng, groups: int, each: int, width: int, people: float) -> np.ndarray:
    """(2, groups * each) bool: what two read-outs, one on clearer features than the other, get right of each group when they are fitted on the others."""
    label = rng.integers(0, 2, (groups, each)) * 2 - 1.0
    right = []
    for clear in (0.4, 0.25):
        mean = np.zeros(width)
        mean[:3] = clear
        own = rng.normal(0, 0.5 * people, (groups, 1, width))
        rows = label[..., None] * (mean + own) + rng.normal(0, 1, (groups, each, width))
        for held in range(groups):
            some = np.arange(groups) != held
            known, told = rows[some].reshape(-1, width), label[some].reshape(-1)
            weights = np.linalg.solve(known.T @ known + 5 * np.eye(width), known.T @ told)
            right.append((rows[held] @ weights) * label[held] > 0)
    return np.reshape(right, (2, groups * each))


@pytest.mark.parametrize(("each", "width", "people"), [(12, 20, 0.4), (6, 24, 0.0)])
def test_the_interval_covers_although_folds_share_training_rows(each, width, people):
    """New people and new training sets: the truth is the mean over all of them; without a correction a tenth of the intervals miss it."""
    rng, units = np.random.default_rng(1), Folds(np.repeat(np.arange(6), each))
    both = [learned(rng, 6, each, width, people).astype(float) for _ in range(500)]
    truth = np.mean([a.mean() - b.mean() for a, b in both])
    held = plain = 0
    for a, b in both:
        got = interval(Scores((a - b)[None, None], np.ones(6 * each), (-1.0, 1.0)), units)
        held += got.low <= truth <= got.high
        half = (got.high - got.low) / 2 / np.sqrt(1 + 6 / 5)
        plain += abs(got.mean - truth) <= half
    assert 0.94 <= held / 500 <= 0.99
    assert plain / 500 < 0.925


def test_nothing_of_a_group_is_seen_before_it_is_tested():
    data = people()
    options = Options(None, None, "last", [5], 2, 1, 0, (), {}, 64, "cpu", Listener())
    folds = folds_of(data, "who")
    assert [f.name for f in folds] == [f"g{k}" for k in range(6)]
    for k, problem in enumerate(_problems(data, "who", folds, options)):
        learned, tuned = (set(problem.pool.group[rows]) for rows in (problem.probe_train, problem.probe_validation))
        assert set(problem.test.group) == {k}
        assert len(problem.targets) == 60
        assert learned
        assert tuned
        assert not learned & tuned
        assert k not in learned | tuned
        for rows in few_label_draws(problem, [5], 2, 0)[5]:
            assert set(rows) <= set(problem.probe_train)


def test_features_that_are_common_help_and_the_table_is_by_group(result):
    assert result["verdict"]["answer"] == "helped"
    assert "Each who was left out once" in result["verdict"]["sentence"]
    assert (result["split"], result["test_rows"], result["metric"]) == ("leave-one-out", 360, "accuracy")
    cells = [c for c in result["folds"] if (c["features"], c["probe"], c["labels_per_class"]) == ("pretrained", "linear", "all")]  # fmt: skip
    assert [c["fold"] for c in cells] == [f"g{k}" for k in range(6)]
    (row,) = [r for r in result["rows"] if (r["features"], r["probe"], r["labels_per_class"]) == ("pretrained", "linear", "all")]  # fmt: skip
    assert row["mean"] == pytest.approx(np.mean([c["mean"] for c in cells]), abs=1e-5)
    gaps = [c["mean"] - o["mean"] for c, o in zip(cells, [c for c in result["folds"] if (c["features"], c["probe"], c["labels_per_class"]) == ("raw", "linear", "all")])]  # fmt: skip
    (told,) = [d for d in result["differences"] if (d["b"], d["probe"], d["labels_per_class"]) == ("raw", "linear", "all")]  # fmt: skip
    low, high = stats.t.interval(0.95, 5, np.mean(gaps), np.sqrt(1 + 6 / 5) * stats.sem(gaps))
    assert (told["low"], told["high"]) == pytest.approx((low, high), abs=1e-5)


def test_a_split_by_rows_claims_more_and_the_sentence_says_why(result):
    claimed = result["by_rows"]
    raw = next(r for r in claimed["rows"] if r["features"] == "raw")
    left = next(r for r in result["rows"] if (r["features"], r["probe"], r["labels_per_class"]) == ("raw", "linear", "all"))  # fmt: skip
    assert raw["mean"] > left["mean"] + 0.2  # what only a person does serves where the person is known
    assert claimed["shared"] == claimed["test_rows"]
    assert claimed["split"] == "a random fifth of the rows"


def test_groups_of_unequal_size_count_the_same():
    data = people(groups=4)
    keep = np.flatnonzero((data.group > 0) | (np.arange(len(data)) % 3 == 0))
    found = evaluate(common_part(), data.subset(keep), split="leave-one-out", group="who", **QUICK)
    cells = [c for c in found["folds"] if (c["features"], c["probe"], c["labels_per_class"]) == ("raw", "linear", "all")]  # fmt: skip
    assert [c["rows"] for c in cells] == [20, 60, 60, 60]
    (row,) = [r for r in found["rows"] if (r["features"], r["probe"], r["labels_per_class"]) == ("raw", "linear", "all")]  # fmt: skip
    assert row["mean"] == pytest.approx(np.mean([c["mean"] for c in cells]), abs=1e-5)


def test_numbers_can_be_left_out_too():
    data = people(groups=4)
    data.y = (data.x[:, :6].sum(1) + 0.1 * noise(len(data), 1, 5)[:, 0]).astype(np.float64)
    found = evaluate(common_part(), data, split="leave-one-out", group="who", **{**QUICK, "budgets": [40]})
    assert found["metric"] == "r2"
    best = next(r for r in found["rows"] if (r["features"], r["probe"], r["labels_per_class"]) == ("pretrained", "linear", "all"))  # fmt: skip
    assert best["mean"] > 0.9


def test_many_groups_share_folds_and_few_are_refused():
    many = people(each=4, groups=50)
    folds = folds_of(many, "who")
    assert len(folds) == MOST
    assert sorted(np.concatenate([f.rows for f in folds]).tolist()) == list(range(200))
    assert max(len(f.rows) for f in folds) - min(len(f.rows) for f in folds) <= 4
    with pytest.raises(RequestError, match="at least 3"):
        folds_of(people(groups=2), "who")
    unknown = people(groups=4)
    unknown.group[:5] = -1
    assert sum(len(f.rows) for f in folds_of(unknown, "who")) == 235
    assert evaluate(common_part(), unknown, split="leave-one-out", group="who", **QUICK)["test_rows"] == 235


def test_requests_that_cannot_be_followed():
    with pytest.raises(RequestError, match="leave-one-out"):
        evaluate(net(16), people(), split="leave-one-in", group="who", **QUICK)
    with pytest.raises(RequestError, match="all of DATA is tested"):
        evaluate(net(16), people(), split="leave-one-out", group="who", test=people(), **QUICK)
    with pytest.raises(RequestError, match="cannot be followed"):
        train.pretrain("digits", leave_out="speaker", steps=1)
    with pytest.raises(RequestError, match="cannot be followed"):
        train.pretrain("digits", leave_out="speaker=a", holdout=0.1, steps=1)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Texts of three writers, and a run for each that left that one out."""
    folder = tmp_path_factory.mktemp("writers")
    words = ["red", "blue", "green", "tall", "small", "round"]
    rows = [{"text": " ".join(words[(n * 7 + k * k) % 6] for k in range(8)) + f" n{n}", "label": "ab"[n % 2], "writer": f"w{n // 2 % 3}"} for n in range(72)]  # fmt: skip
    data = folder / "texts.csv"
    data.write_text("text,label,writer\n" + "".join(f"{r['text']},{r['label']},{r['writer']}\n" for r in rows))
    settings = {"method": "masked-token", "steps": 1, "encoder_options": {"width": 8, "depth": 1, "heads": 1}, "tokenizer": "words", "size": 12}  # fmt: skip
    runs = [train.pretrain(str(data), out=folder / f"w{k}", leave_out=f"writer=w{k}", **settings).run.folder for k in range(3)]  # fmt: skip
    return data, runs


def test_runs_that_left_a_group_out_meet_their_folds(texts):
    data, runs = texts
    about = train.Run.open(runs[1]).read_json("data.json")
    assert (about["holdout"]["group"], about["holdout"]["left_out"], about["rows"]) == ("writer", ["w1"], 48)
    opened = modalities.open_data(str(data), modality=modalities.load(runs[1] / "encoder"))
    held = held_out(runs[1], opened, Listener())
    assert splits.group_names(opened, "writer")[held].tolist() == ["w1"] * 24
    asked = {"split": "leave-one-out", "group": "writer", "controls": ("raw",), "budgets": [3], "draws": 2, "layer": "last"}  # fmt: skip
    found = evaluate([str(r) for r in reversed(runs)], str(data), **asked)
    assert found["leakage"]["seen_in_pretraining"] == 0
    assert "without labels" not in found["verdict"]["sentence"]
    with pytest.raises(RequestError, match="none of the runs left out writer w2"):
        evaluate([str(r) for r in runs[:2]], str(data), **asked)
    alone = evaluate(str(runs[0]), str(data), layer="last", controls=("raw",), budgets=[3], draws=2)
    assert alone["test_rows"] == 24


def test_a_test_set_of_known_groups_is_named(texts):
    data, runs = texts
    lines = data.read_text().splitlines()
    head, rows = lines[0].replace("writer", "speaker"), lines[1:]
    parts = {"train": rows[:48], "known": rows[48:], "new": [r.replace(",w", ",v") for r in rows[48:]]}
    for name, some in parts.items():
        (data.parent / f"{name}.csv").write_text("\n".join([head, *some]) + "\n")
    quick = {"layer": "last", "controls": ("raw",), "budgets": [3], "draws": 2, "labels": "label"}
    train_set, known, new = (str(data.parent / f"{name}.csv") for name in parts)
    said = evaluate(str(runs[0]), train_set, test=known, **quick)["verdict"]["sentence"]
    assert "of 24 of 24 test rows the speaker is learned from too" in said
    assert "learned from too" not in evaluate(str(runs[0]), train_set, test=new, **quick)["verdict"]["sentence"]


def test_a_name_that_no_row_has_is_named(texts):
    with pytest.raises(RequestError, match="No row has writer w9"):
        train.pretrain(str(texts[0]), leave_out="writer=w9", steps=1, method="masked-token")
