import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import DataError, RequestError
from selftaught.data import Dataset, guess_label, make_label_columns, make_label_sets, open_source, splits
from selftaught.data.labels import Labels

TEXTS = [f"row number {i} says something of its own" for i in range(12)]
SETS = [("cat", "dog"), ("dog",), (), None] * 3


def spelled(labels: Labels) -> list:
    return [
        None if not known else tuple(words.split("; ")) if words else ()
        for words, known in zip(labels.words(), labels.known, strict=True)
    ]


def dataset(path, **columns) -> Dataset:
    class Words:
        name, ragged, dtype, shape = "words", False, "uint8", (1,)

        def config(self):
            return {"name": "words"}

        def decode(self, payload):
            return np.array([len(payload) % 256], np.uint8)

    return Dataset.open(open_source(path), "text", Words())


def test_lists_in_parquet_and_jsonl(tmp_path):
    pq.write_table(pa.table({"text": TEXTS, "tags": SETS}), tmp_path / "a.parquet")
    rows = [{"text": t, "tags": s} for t, s in zip(TEXTS, SETS, strict=True)]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for name in ("a.parquet", "b.jsonl"):
        source = open_source(tmp_path / name)
        assert source.columns == {"text": "text", "tags": "labels"}
        assert guess_label(source)[0] == "tags"
        labels = dataset(tmp_path / name).labels()
        assert labels.classes == ("cat", "dog")
        assert spelled(labels) == SETS
        assert labels.values.dtype == np.int8
        assert labels.counts() == {"cat": 3, "dog": 6}
        assert "3 rows of no class" in labels.note


def test_lists_of_numbers_are_classes_where_they_are_asked_for(tmp_path):
    sets = [[3, 10], [10], [], [3]] * 3
    pq.write_table(pa.table({"text": TEXTS, "ids": sets}), tmp_path / "a.parquet")
    labels = dataset(tmp_path / "a.parquet").labels("ids", "set")
    assert labels.classes == ("3", "10")
    assert labels.values[:4].tolist() == [[1, 1], [0, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize("mark", [";", "|", ",", " "])
def test_text_divided_by_a_mark_in_csv(tmp_path, mark):
    cells = [f"cat{mark}dog", "dog", "[]", "", f"cow{mark}dog", f"cat{mark}cow"] * 2
    lines = [f'"{t}","{c}"' for t, c in zip(TEXTS, cells, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(["text,tags", *lines]) + "\n")
    labels = dataset(tmp_path / "a.csv").labels("tags", "set")
    assert labels.classes == ("cat", "cow", "dog")
    assert spelled(labels)[:6] == [("cat", "dog"), ("dog",), (), None, ("cow", "dog"), ("cat", "cow")]
    assert f"divided at {mark!r}" in labels.note


def test_a_comma_in_names_divides_nothing_where_another_mark_does():
    cells = ["Smith, A; Jones, B", "Jones, B", "Smith, A"] * 4
    assert make_label_sets(cells, "who").classes == ("Jones, B", "Smith, A")


def test_names_with_spaces_are_not_taken_apart():
    assert make_label_sets(["polar bear", "brown bear"] * 4, "animal").classes == ("brown bear", "polar bear")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b b", "c-1", "é"]), max_size=4, unique=True), min_size=8, max_size=30))
def test_every_way_of_writing_them_down_reads_the_same(sets):
    used = {name for some in sets for name in some}
    if (
        not used
        or all({*some} == used for some in sets)
        or all(sum(n in s for s in sets) in (0, len(sets)) for n in used)
    ):
        return
    expected = make_label_sets([tuple(s) for s in sets], "x")
    written = [json.dumps(s) for s in sets], [repr(s) for s in sets], [";".join(s) if s else "[]" for s in sets]
    for cells in written:
        got = make_label_sets(cells, "x")
        assert got.classes == expected.classes
        np.testing.assert_array_equal(got.values, expected.values)


def test_columns_of_zero_and_one(tmp_path):
    rows = [(1, -1, "yes"), (0, 1, "no"), (1, 1, "no"), (0, -1, "")] * 3
    lines = [f"{t},{a},{b},{c}" for t, (a, b, c) in zip(TEXTS, rows, strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(["text,tag_red,tag_big,old", *lines]) + "\n")
    held = dataset(tmp_path / "a.csv")
    named = held.labels("tag_red, tag_big", "set")
    assert named.classes == ("tag_red", "tag_big")
    assert named.values[:4].tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    assert held.labels("tag_*", "set").classes == named.classes
    gaps = held.labels("tag_*,old", "set")
    assert gaps.known.tolist() == [True, True, True, False] * 3
    with pytest.raises(RequestError, match="column"):
        held.labels("tag_red,tag_bog", "set")
    with pytest.raises(DataError, match="neither 0 nor 1"):
        make_label_columns({"a": np.array([0, 1, 2])})


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([None] * 8, "no labels"),
        ([()] * 8, "names no class"),
        ([("a",)] * 8, "same of every row"),
        ([(str(k),) for k in range(40)], "name rows"),
    ],
)
def test_what_teaches_nothing_is_said(cells, why):
    with pytest.raises(DataError, match=why):
        make_label_sets(cells, "tags")


def test_splits_keep_the_rarest_class_in_proportion():
    values = np.zeros((200, 3), np.int8)
    values[:, 0], values[:20, 1], values[10:50, 2] = 1, 1, 1
    labels = Labels(values, ("all", "rare", "some"))
    assert np.bincount(labels.strata).tolist() == [20, 30, 150]
    parts = splits.split(200, {"train": 0.8, "test": 0.2}, labels=labels)
    assert values[parts["test"], 1].sum() == 4
    gaps = labels.take(np.arange(200))
    gaps.values[0] = -1
    assert gaps.strata[0] == -1
    assert not gaps.known[0]
