import numpy as np
import pytest

from selftaught.evaluation.statistics import Scores, generator, interval, units, visible_difference


def covers(simulate, truth: float, trials: int, **options) -> float:
    """Share of 95 % intervals that hold the truth."""
    rng = generator("coverage of", simulate.__name__)
    hits = 0
    for trial in range(trials):
        got = interval(*simulate(rng), seed=trial, repeats=600, **options)
        hits += got.low <= truth <= got.high
    return hits / trials


def table(rng, *, draws=10, items=120, of_draw=0.0, of_item=0.0, of_both=1.0, seeds=1):
    numbers = of_draw * rng.normal(size=(seeds, draws, 1)) + of_item * rng.normal(size=items)
    return Scores(numbers + of_both * rng.normal(size=(seeds, draws, items)), np.ones(items), None)


def items_matter(rng):
    return (table(rng, of_item=1.0, of_both=0.5),)


def draws_matter(rng):
    return (table(rng, of_draw=0.3, of_item=0.3, of_both=0.3),)


def all_is_noise(rng):
    return (table(rng),)


def three_seeds(rng):
    s = rng.normal(size=(3, 1, 1)) * 0.2
    return (Scores(s + rng.normal(size=80) * 0.5 + 0.2 * rng.normal(size=(3, 1, 80)), np.ones(80), None),)


def one_draw_right_or_wrong(rng):
    agree = rng.random(100)
    return (Scores(np.where(agree < 0.06, 1.0, np.where(agree < 0.12, -1.0, 0.0))[None, None], np.ones(100), (-1, 1)),)


def whole_groups(rng):
    groups = np.repeat(np.arange(25), 8)
    common = np.repeat(rng.normal(size=25), 8)
    return Scores((common + 0.5 * rng.normal(size=200))[None, None], np.ones(200), None), groups


@pytest.mark.parametrize(
    "simulate", [items_matter, draws_matter, all_is_noise, three_seeds, one_draw_right_or_wrong, whole_groups]
)
def test_intervals_hold_the_truth_as_often_as_they_say(simulate):
    """Nominal 95 %; with 300 trials the count itself has a standard error of 1.3 points (2,000 trials: 94 to 96 %)."""
    assert 0.915 <= covers(simulate, 0.0, 300) <= 0.995


def test_without_groups_grouped_items_look_far_too_certain():
    def ungrouped(rng):
        return whole_groups(rng)[:1]

    assert covers(ungrouped, 0.0, 150) < 0.75


def test_the_bootstrap_has_the_width_of_the_normal_interval():
    rng = np.random.default_rng(0)
    right = (rng.random(1000) < 0.8).astype(float)
    got = interval(Scores(right[None, None], np.ones(1000)))
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 1000)
    assert got.mean == pytest.approx(right.mean())
    assert got.mean - got.low == pytest.approx(half, rel=0.06)
    assert got.high - got.mean == pytest.approx(half, rel=0.06)
    assert got.visible == pytest.approx(2.8 * half / 1.96, rel=0.06)


def test_distinct_values_and_gathered_values_agree():
    """The counted and the gathered way of resampling: the same distribution."""
    rng = np.random.default_rng(1)
    few = rng.integers(-3, 4, size=(1, 1, 400)) / 3
    many = few + 1e-6 * rng.normal(size=few.shape)
    a, b = (interval(Scores(x, np.ones(400), (-1, 1))) for x in (few, many))
    assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.005)


def test_four_better_answers_of_a_hundred_are_not_certain():
    change = np.zeros((1, 1, 100))
    change[..., :4] = 1
    assert interval(Scores(change, np.ones(100), (-1, 1))).low <= 0
    change[..., :12] = 1
    assert interval(Scores(change, np.ones(100), (-1, 1))).low > 0
    same = interval(Scores(np.zeros((1, 1, 50)), np.ones(50), (-1, 1)))
    assert same.low < 0 < same.high


def test_an_interval_is_a_function_of_its_seed():
    scores = table(np.random.default_rng(3))
    assert interval(scores, seed=1) == interval(scores, seed=1)
    assert interval(scores, seed=1) != interval(scores, seed=2)


def test_a_ratio_of_sums_is_r2():
    rng = np.random.default_rng(5)
    y = rng.normal(size=300)
    guess = y + 0.5 * rng.normal(size=300)
    spread = (y - y.mean()) ** 2
    got = interval(Scores((spread - (y - guess) ** 2)[None, None], spread, None))
    assert got.mean == pytest.approx(1 - ((y - guess) ** 2).sum() / spread.sum())
    assert 0.6 < got.low < got.mean < got.high < 0.85


def test_seeds_are_paired_or_averaged():
    ones, items = np.ones(4), np.arange(4.0)
    a = Scores(np.stack([items, items + 1])[:, None], ones, None)
    b = Scores(np.stack([items, items + 1, items + 2])[:, None], ones, None)
    assert np.array_equal(a.minus(b).numerator[:, 0], np.stack([np.full(4, -1.0), np.zeros(4)]))
    assert np.array_equal(a.minus(a).numerator, np.zeros((2, 1, 4)))
    one = Scores(items[None, None], ones, None)
    assert np.array_equal(one.minus(b).numerator[:, 0, 0], [0, -1, -2])
    with pytest.raises(ValueError, match="no pairs"):
        a.minus(Scores(np.zeros((2, 3, 4)), ones, None))


def test_what_can_be_seen_shrinks_with_the_root_of_the_items():
    assert visible_difference(100) == pytest.approx(2.8016 * np.sqrt(0.1 / 100), rel=1e-3)
    assert visible_difference(400) == pytest.approx(visible_difference(100) / 2)


def test_one_item_or_group_tells_nothing_of_others():
    alone = interval(Scores(np.ones((2, 3, 1)), np.ones(1)))
    assert (alone.mean, alone.low, alone.high) == (1.0, 0.0, 1.0)
    better = Scores(np.ones((1, 3, 9)), np.ones(9)).minus(Scores(np.zeros((1, 3, 9)), np.ones(9)))
    together = interval(better, np.zeros(9))
    assert (together.low, together.high) == (-1.0, 1.0)


def test_rows_of_one_group_are_resampled_as_rows_and_that_is_said():
    said: list[str] = []
    assert units(np.zeros(5), said.append, "speaker") is None
    assert said == ["all test rows are of one speaker: the interval is over rows, and says nothing of another speaker."]
    two = np.array([0, 0, 1])
    assert units(two, said.append) is two
    assert units(None, said.append) is None
    assert len(said) == 1
