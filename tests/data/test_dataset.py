"""Datasets: packed, streamed or in memory, they give the same rows, names, labels and groups."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from selftaught.core import DataError, RequestError
from selftaught.data import Dataset, cache, make_labels, open_source

from .small import Letters, Picture, Waves, encoded, picture_folder, pixels
from .test_formats import write_tar

WORDS = [f"words of row {i} " * (i % 3 + 1) for i in range(24)]


def opened(tmp_path, kind: str, stream: bool | None = None) -> Dataset:
    held = pixels(24)
    if kind == "folder":
        picture_folder(tmp_path / "d", 24)
        return Dataset.open(open_source(tmp_path / "d"), "image", Picture(), stream=stream)
    if kind == "tar":
        write_tar(tmp_path / "a.tar", [{"png": encoded(a), "cls": str(i % 2).encode()} for i, a in enumerate(held)])
        return Dataset.open(open_source(tmp_path / "a.tar"), "image", Picture(), stream=stream)
    columns = {"image": [encoded(a) for a in held], "text": WORDS, "label": [i // 12 for i in range(24)]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=5)
    source = open_source(tmp_path / "t.parquet")
    if kind == "texts":
        return Dataset.open(source, "text", Letters(), stream=stream)
    return Dataset.open(source, "image", Picture(), stream=stream)


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet"])
@pytest.mark.parametrize("stream", [False, True])
def test_pictures_packed_or_streamed(tmp_path, kind, stream):
    dataset = opened(tmp_path, kind, stream)
    held = torch.from_numpy(pixels(24).transpose(0, 3, 1, 2))
    assert dataset.streamed is stream
    assert len(dataset) == 24
    assert torch.equal(dataset.fetch(np.arange(24))["pixels"], held)
    wanted = torch.tensor([23, 0, 7, 7])
    assert torch.equal(dataset.fetch(wanted)["pixels"], held[wanted])
    assert len(dataset.fetch([])["pixels"]) == 0
    assert dataset.labels().counts() in ({"cat": 12, "dog": 12}, {"0": 12, "1": 12})


@pytest.mark.parametrize("stream", [False, True])
def test_texts_packed_or_streamed(tmp_path, stream):
    dataset = opened(tmp_path, "texts", stream)
    rows = dataset.rows([5, 20, 5])
    assert ["".join(map(chr, r.tolist())) for r in rows.values.split(rows.lengths.tolist())] == [
        WORDS[i] for i in (5, 20, 5)
    ]
    view = dataset.fetch([0, 2])
    assert view["valid"].sum(1).tolist() == [len(WORDS[0]), len(WORDS[2])]


def test_a_set_that_has_no_room_packed_stays_encoded_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "free_bytes", lambda folder: 1000)
    dataset = opened(tmp_path, "folder")
    assert dataset.streamed
    assert any("left encoded" in note for note in dataset.notes)
    with pytest.raises(DataError, match="disk"):
        opened(tmp_path, "folder", stream=False)


def test_streamed_rows_that_vanish_are_an_error(tmp_path):
    dataset = opened(tmp_path, "folder", stream=True)
    (tmp_path / "d" / "cat" / "0003.png").write_bytes(b"overwritten")
    with pytest.raises(DataError, match=r"cat/0003\.png could be read before"):
        dataset.fetch([3])


def test_bad_rows_are_known_before_training_when_streamed_too(tmp_path):
    picture_folder(tmp_path / "d", 24)
    (tmp_path / "d" / "cat" / "0000b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="1 of 25 rows set apart"):
        Dataset.open(open_source(tmp_path / "d"), "image", Picture(), stream=True)
    dataset = Dataset.open(open_source(tmp_path / "d"), "image", Picture(), stream=True, max_bad=0.04)
    assert torch.equal(dataset.fetch(np.arange(24))["pixels"], torch.from_numpy(pixels(24).transpose(0, 3, 1, 2)))


def test_ids_stay_with_rows_in_subsets_of_subsets(tmp_path):
    dataset = opened(tmp_path, "folder")
    odd = dataset.subset(np.arange(1, 24, 2))
    few = odd.subset(torch.tensor([11, 0]))
    assert few.ids.tolist() == [23, 1]
    assert few.names() == ["dog/0023.png", "cat/0001.png"]
    assert torch.equal(few.fetch([0, 1])["pixels"], dataset.fetch([23, 1])["pixels"])
    labels = few.labels()
    assert labels.values.tolist() == [1, 0]
    assert labels.classes == ("cat", "dog")
    assert odd.locate(few.ids).tolist() == [11, 0]
    with pytest.raises(KeyError):
        odd.locate(np.array([2]))
    assert len(dataset.subset(dataset.labels().values == 1)) == 12
    assert len({dataset.fingerprint, odd.fingerprint, few.fingerprint}) == 3
    assert dataset.subset(np.arange(24)).fingerprint == dataset.fingerprint
    with pytest.raises(IndexError):
        few.fetch([2])


def test_ids_skip_bad_rows_and_labels_follow(tmp_path):
    picture_folder(tmp_path / "d", 24)
    (tmp_path / "d" / "cat" / "0000b.png").write_bytes(b"no picture")
    dataset = Dataset.open(open_source(tmp_path / "d"), "image", Picture(), max_bad=1.0)
    assert dataset.ids.tolist() == list(range(24))
    assert dataset.labels().values.tolist() == [0] * 12 + [1] * 12
    assert dataset.names([1]) == ["cat/0001.png"]
    assert dataset.payload(0) == (tmp_path / "d" / "cat" / "0000.png").read_bytes()


def test_from_arrays_of_every_kind():
    held = pixels(6)
    dataset = Dataset.from_arrays(held, Picture(), labels=["a", "b"] * 3)
    assert torch.equal(dataset.fetch([5, 0])["pixels"], torch.from_numpy(held[[5, 0]].transpose(0, 3, 1, 2)))
    assert dataset.labels().classes == ("a", "b")
    texts = Dataset.from_arrays(WORDS, Letters(), columns={"doc": np.arange(24) // 6})
    assert texts.groups("doc").tolist() == [i // 6 for i in range(24)]
    assert texts.labels("doc").counts() == {"0": 6, "1": 6, "2": 6, "3": 6}
    waves = Dataset.from_arrays(
        [np.arange(n, dtype=float) for n in (3, 5, 2)], Waves(), labels=np.array([0.5, 1.5, 2.5])
    )
    assert waves.fetch([1, 2])["valid"].sum(1).tolist() == [5, 2]
    assert waves.labels().classes is None
    assert Dataset.from_arrays(held, Picture()).fingerprint != Dataset.from_arrays(held[::-1], Picture()).fingerprint
    with pytest.raises(DataError, match="differ in their number of rows"):
        Dataset.from_arrays(held, Picture(), labels=[1, 2])


def test_labels_are_guessed_by_name_or_asked_for(tmp_path):
    rows = {"text": WORDS, "kind": ["x", "y"] * 12, "n": list(range(24))}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    dataset = Dataset.open(open_source(tmp_path / "t.parquet"), "text", Letters())
    assert dataset.labels().column == "kind"
    with pytest.raises(RequestError, match="Did you mean 'kind'"):
        dataset.labels("kin")
    plain = Dataset.from_arrays(pixels(4), Picture())
    with pytest.raises(RequestError, match="looks like a label") as caught:
        plain.labels()
    assert "--labels" in caught.value.remedy
    with pytest.raises(RequestError, match="not labels or groups"):
        plain.labels("data")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (["a"] * 10, "one class"),
        ([None] * 10, "no labels"),
        ([f"name {i}" for i in range(10)], "names rows, not classes"),
        (np.full(10, np.nan), "no labels"),
        (np.full(10, 2.5), "nothing to predict"),
        (np.array([1.5, np.inf] * 5), "not finite"),
        (np.zeros(10, np.int64), "one class"),
    ],
)
def test_columns_that_cannot_be_labels(values, match):
    held = np.array(values, dtype=object) if isinstance(values, list) else values
    with pytest.raises(DataError, match=match) as caught:
        make_labels(held, "y")
    assert caught.value.remedy


def test_labels_of_words_numbers_and_with_gaps():
    some = make_labels(np.array(["b", None, "a", "b"] * 5, dtype=object), "y")
    assert some.values.tolist() == [1, -1, 0, 1] * 5
    assert some.known.sum() == 15
    assert some.counts() == {"a": 5, "b": 10}
    whole = make_labels(np.array([10, 2, 33, 2] * 10), "y")
    assert whole.classes == ("2", "10", "33")
    assert whole.values[:4].tolist() == [1, 0, 2, 0]
    gaps = make_labels(np.array([0, 1, np.nan, 1] * 5), "y")
    assert gaps.classes == ("0", "1")
    assert gaps.values[:4].tolist() == [0, 1, -1, 1]
    prices = make_labels(np.arange(1000) * 7, "y")
    assert prices.classes is None
    assert prices.values.dtype == np.float64
    assert make_labels(np.arange(1000) % 50, "y", "number").classes is None
    assert make_labels(np.array(["2", "10", "1"] * 9, dtype=object), "y").classes == ("1", "2", "10")


def test_groups_are_guessed_and_rows_without_one_are_their_own():
    dataset = Dataset.from_arrays(WORDS[:6], Letters(), columns={"patient": ["p", "q", "p", None, None, "q"]})
    groups = dataset.groups()
    assert groups.dtype == np.int64
    assert groups[0] == groups[2] != groups[1] == groups[5]
    assert len(set(groups.tolist())) == 4
    assert dataset.subset([2, 0]).groups("patient").tolist() == [groups[2], groups[0]]
    assert Dataset.from_arrays(WORDS, Letters()).groups() is None
