import numpy as np
import pytest

from selftaught.evaluation.curve import labels_saved
from selftaught.evaluation.statistics import Scores, generator
from selftaught.evaluation.verdict import choose_control, judge


def arm(p: float, items: int = 300, draws: int = 10, key: str = "a") -> Scores:
    rng = generator("arm", key)
    return Scores((rng.random((1, draws, items)) < p).astype(float), np.ones(items))


@pytest.mark.parametrize(("p", "answer"), [(0.9, "helped"), (0.5, "hurt"), (0.7, "cannot tell")])
def test_answers(p, answer):
    got = judge(arm(p), arm(0.7, key="b"), name="raw", budget=5, metric="accuracy")
    assert got.answer == answer
    assert got.sentence.startswith("Cannot tell" if answer == "cannot tell" else f"Pretraining {answer}")
    assert "5 labels a class" in got.sentence
    assert "300 test rows" in got.sentence
    assert f"{got.difference.mean:+.3f}" in got.sentence
    assert (got.difference.low > 0) == (answer == "helped")
    assert (got.difference.high < 0) == (answer == "hurt")


def test_what_could_have_been_seen_is_said_where_nothing_was():
    got = judge(arm(0.7), arm(0.7, key="b"), name="untrained", budget="all", metric="accuracy")
    assert f"{got.difference.visible:.3f} would have been seen" in got.sentence
    assert "all the labels" in got.sentence
    assert "the same network untrained" in got.sentence


def test_rows_that_pretraining_saw_are_said():
    some = judge(arm(0.9), arm(0.7, key="b"), name="raw", budget=1, metric="accuracy", seen=7)
    assert "7 of 300 test rows were among the data that pretraining saw" in some.sentence
    assert "1 label a class" in some.sentence


def test_the_better_control_on_validation_is_chosen():
    assert choose_control({"raw": 0.5, "untrained": 0.6, "blind": 0.9}) == "untrained"
    assert choose_control({"raw": 0.5}) == "raw"
    with pytest.raises(ValueError, match="needs"):
        choose_control({"blind": 0.5})


def test_labels_saved_is_where_the_curves_meet():
    control = {n: arm(p, 4000, key=str(n)) for n, p in ((1, 0.3), (2, 0.4), (8, 0.6), (32, 0.8))}
    got = labels_saved(arm(0.7, 4000, key="p"), control, control="raw", budget=2)
    assert got.needs == pytest.approx(16, rel=0.1)  # half way from 8 to 32, in the logarithm
    assert got.low < got.needs < got.high < 32
    assert got.plain()["labels_per_class"] == 2


def test_beyond_the_curve_nothing_is_claimed():
    control = {n: arm(p, 500, key=str(n)) for n, p in ((1, 0.3), (2, 0.4))}
    never = labels_saved(arm(0.9, 500, key="p"), control, control="raw", budget=2)
    assert (never.needs, never.low, never.high) == (None, None, None)
    at_once = labels_saved(arm(0.1, 500, key="p"), control, control="raw", budget=2)
    assert (at_once.needs, at_once.high) == (1.0, 1.0)


def test_groups_widen_what_was_saved():
    rng = generator("grouped")
    groups = np.repeat(np.arange(30), 20)
    ease = np.repeat(rng.normal(size=30), 20)
    curve = {
        n: Scores((rng.normal(size=(1, 10, 600)) + ease < t).astype(float), np.ones(600))
        for n, t in ((1, -1.0), (4, 0.0), (16, 1.0))
    }
    ours = Scores((rng.normal(size=(1, 10, 600)) + np.roll(ease, 60) < 0.3).astype(float), np.ones(600))
    narrow = labels_saved(ours, curve, control="raw", budget=1)
    wide = labels_saved(ours, curve, control="raw", budget=1, groups=groups)
    assert wide.needs == pytest.approx(narrow.needs)
    assert wide.high - wide.low > narrow.high - narrow.low
