"""Splits keep groups and duplicates together, balance classes and are the same every time; draws are balanced and nested."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from selftaught.core import DataError, RequestError
from selftaught.data import Dataset, Labels, draws, make_labels, split, units
from selftaught.data.splits import DEFAULT, hold_out
from selftaught.modalities import find


def labels_of(codes, classes: int) -> Labels:
    return Labels(np.asarray(codes, np.int64), tuple(f"c{i}" for i in range(classes)))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(60, 400),
    groups=st.integers(12, 60),
    copies=st.integers(0, 30),
    classes=st.integers(1, 6),
)
def test_splits_partition_rows_and_separate_no_group_or_duplicate(seed, rows, groups, copies, classes):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, rows)
    cluster = np.arange(rows)
    pairs = rng.integers(0, rows, (copies, 2))
    for a, b in pairs:
        cluster[cluster == cluster[b]] = cluster[a]
    labels = labels_of(rng.integers(0, classes, rows), classes)
    assume(len(np.unique(units(rows, group, cluster))) >= 10)
    parts = split(
        rows,
        {"train": 0.5, "validation": 0.25, "test": 0.25},
        labels=labels,
        groups=group,
        duplicates=cluster,
        seed=seed,
    )
    again = split(
        rows,
        {"train": 0.5, "validation": 0.25, "test": 0.25},
        labels=labels,
        groups=group,
        duplicates=cluster,
        seed=seed,
    )
    assert np.sort(np.concatenate(list(parts.values()))).tolist() == list(range(rows))
    assert all((parts[name] == again[name]).all() for name in parts)
    where = np.empty(rows, int)
    for number, name in enumerate(parts):
        where[parts[name]] = number
    for tie in (group, cluster):
        for value in np.unique(tie):
            assert len(set(where[tie == value].tolist())) == 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), counts=st.lists(st.integers(1, 80), min_size=2, max_size=8))
def test_single_rows_are_stratified_to_within_one(seed, counts):
    assume(sum(counts) >= 30)
    codes = np.repeat(np.arange(len(counts)), counts)
    parts = split(
        len(codes), {"train": 0.5, "validation": 0.25, "test": 0.25}, labels=labels_of(codes, len(counts)), seed=seed
    )
    for name, share in (("train", 0.5), ("validation", 0.25), ("test", 0.25)):
        found = np.bincount(codes[parts[name]], minlength=len(counts))
        assert (np.abs(found - share * np.array(counts)) < 1 + 1e-9).all()


def test_fractions_are_met_and_may_leave_rows_out():
    parts = split(10_000, seed=1)
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 8000, "validation": 1000, "test": 1000}
    some = split(1000, {"a": 0.2, "b": 0.3}, seed=1)
    assert {name: len(rows) for name, rows in some.items()} == {"a": 200, "b": 300}
    assert not set(some["a"].tolist()) & set(some["b"].tolist())
    assert (split(1000, {"all": 1.0})["all"] == np.arange(1000)).all()
    assert (split(100, seed=1)["train"] != split(100, seed=2)["train"]).any()


def test_groups_come_close_to_the_fractions_and_classes():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 200, 5000)
    kind = (group % 4 + rng.integers(0, 2, 5000)) % 4
    parts = split(5000, labels=labels_of(kind, 4), groups=group)
    for name, share in DEFAULT.items():
        assert abs(len(parts[name]) / 5000 - share) < 0.01
        assert np.abs(np.bincount(kind[parts[name]], minlength=4) / len(parts[name]) - 0.25).max() < 0.05


def test_small_classes_do_not_all_fall_to_one_split():
    codes = np.repeat(np.arange(50), 2)
    parts = split(100, {"train": 0.5, "test": 0.5}, labels=labels_of(codes, 50))
    assert len(parts["train"]) == len(parts["test"]) == 50
    ones = split(100, {"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}, labels=labels_of(np.arange(100), 100))
    assert {len(rows) for rows in ones.values()} == {25}


def test_numbers_are_stratified_by_tenths():
    targets = np.random.default_rng(0).exponential(size=1000)
    parts = split(1000, labels=make_labels(targets, "y"))
    edges = np.quantile(targets, np.linspace(0, 1, 11)[1:-1])
    found = np.bincount(np.searchsorted(edges, targets[parts["test"]], side="right"), minlength=10)
    assert found.tolist() == [10] * 10


def test_indirectly_tied_rows_are_one_unit():
    found = units(6, np.array([0, 0, 1, 2, 3, 4]), np.array([9, 8, 8, 7, 7, 6]))
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4]
    assert len(set(found.tolist())) == 3


@pytest.mark.parametrize("fractions", [{}, {"a": 0.0}, {"a": -1.0, "b": 1.0}, {"a": 0.7, "b": 0.7}])
def test_impossible_fractions(fractions):
    with pytest.raises(RequestError, match="no split"):
        split(100, fractions)


def test_too_few_rows_or_groups_say_so():
    with pytest.raises(DataError, match="2 rows are too few"):
        split(2)
    with pytest.raises(DataError, match="2 groups"):
        split(100, groups=np.arange(100) % 2)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    counts=st.lists(st.integers(8, 40), min_size=2, max_size=5),
    few=st.integers(1, 4),
    many=st.integers(4, 8),
)
def test_draws_are_balanced_nested_and_repeatable(seed, counts, few, many):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(-1, len(counts)), [5, *counts]))
    labels = labels_of(codes, len(counts))
    small, large = draws(labels, few, 3, seed), draws(labels, many, 3, seed)
    for a, b in zip(small, large, strict=True):
        assert np.bincount(codes[a], minlength=len(counts)).tolist() == [few] * len(counts)
        assert len(set(b.tolist())) == many * len(counts)
        assert set(a.tolist()) <= set(b.tolist())
    assert all((a == b).all() for a, b in zip(small, draws(labels, few, 3, seed), strict=True))


def test_draws_differ_and_keep_to_the_allowed_rows():
    labels = labels_of(np.arange(200) % 4, 4)
    found = draws(labels, 5, 10, 0, within=np.arange(100))
    assert all(rows.max() < 100 for rows in found)
    assert len({tuple(rows.tolist()) for rows in found}) == 10
    with pytest.raises(DataError, match="has 50 labelled rows, 51"):
        draws(labels, 51, 1)
    with pytest.raises(RequestError, match="cannot be made"):
        draws(labels, 0, 1)
    with pytest.raises(RequestError, match="holds numbers"):
        draws(make_labels(np.arange(100) / 7, "y"), 5, 1)


def test_what_is_held_out_keeps_copies_and_groups_together_and_is_always_the_same():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 255, (100, 8, 8, 3), dtype=np.uint8)
    rows[50:60] = rows[:10]
    group = np.arange(100) // 2
    data = Dataset.from_arrays(rows, find("image")(side=8), columns={"patient": group})
    kept, held = hold_out(data, 0.3, group="patient")
    assert sorted([*kept, *held]) == list(range(100))
    assert 20 <= len(held) <= 40
    inside = np.isin(np.arange(100), held)
    assert np.array_equal(inside[50:60], inside[:10])
    assert all(inside[2 * g] == inside[2 * g + 1] for g in range(50))
    again = hold_out(Dataset.from_arrays(rows, find("image")(side=8), columns={"patient": group}), 0.3, group="patient")
    assert np.array_equal(again[1], held)
