"""Every format reads back what was written, with its kinds, labels and names."""

import gzip
import io
import json
import lzma
import tarfile
from unittest import mock

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from selftaught.core import DataError, RequestError
from selftaught.data import guess_group, guess_label, open_source, read_picture
from selftaught.data.hub import of_datasets
from selftaught.data.lines import Lines

from .small import encoded, picture_folder, pixels

TEXTS = [f"row {i} says: " + "häßlich, «quoted» " * (i % 3 + 1) for i in range(30)]
PACKED = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress, "": bytes}


def array_of(payload) -> np.ndarray:
    return np.asarray(read_picture(payload).convert("RGB"))


def same_pictures(source, column, held):
    found = [array_of(p) for p in source.payloads(column)]
    assert len(found) == len(held)
    assert all((a == b).all() for a, b in zip(found, held, strict=True))


def test_a_folder_of_pictures_has_labels_from_its_sub_folders(tmp_path):
    held = picture_folder(tmp_path)
    (tmp_path / "notes.docx").write_bytes(b"other")
    (tmp_path / ".hidden.png").write_bytes(b"hidden")
    source = open_source(tmp_path)
    assert source.columns == {"image": "image", "label": "category"}
    assert source.values("label").tolist() == ["cat"] * 6 + ["dog"] * 6
    assert source.row_name(0) == "cat/0000.png"
    assert any("2 classes (cat, dog)" in note for note in source.notes)
    assert any("1 other files" in note for note in source.notes)
    assert guess_label(source)[0] == "label"
    same_pictures(source, "image", held)


def test_train_and_test_folders_become_a_split(tmp_path):
    picture_folder(tmp_path / "train", 6)
    picture_folder(tmp_path / "val", 4, seed=1)
    source = open_source(str(tmp_path))
    assert source.values("split").tolist() == ["train"] * 6 + ["validation"] * 4
    assert source.values("label").tolist() == ["cat"] * 3 + ["dog"] * 3 + ["cat"] * 2 + ["dog"] * 2
    assert any("split" in note for note in source.notes)


def test_a_flat_folder_and_one_class_folder_have_no_label(tmp_path):
    picture_folder(tmp_path / "a", 3, ("images",))
    assert "label" not in open_source(tmp_path / "a").columns
    assert "label" not in open_source(tmp_path / "a" / "images").columns


def test_one_picture_is_one_row(tmp_path):
    picture_folder(tmp_path, 2)
    source = open_source(tmp_path / "cat" / "0000.png")
    assert source.columns == {"image": "image"}
    same_pictures(source, "image", pixels(1))


def test_a_picture_is_known_by_its_content_not_its_name(tmp_path):
    held = pixels(3)
    for i, array in enumerate(held):
        (tmp_path / f"{i}.dat").write_bytes(encoded(array))
    same_pictures(open_source(tmp_path), "image", held)


def test_a_folder_of_texts_is_a_row_a_file(tmp_path):
    for i, text in enumerate(TEXTS):
        folder = tmp_path / ("pos" if i % 2 else "neg")
        folder.mkdir(exist_ok=True)
        (folder / f"{i:02d}.txt").write_text(text, "utf-8")
    source = open_source(tmp_path)
    assert source.columns == {"text": "text", "label": "category"}
    assert sorted(source.payloads("text")) == sorted(TEXTS)
    assert source.values("text").tolist() == list(source.payloads("text"))


@pytest.mark.parametrize("suffix", PACKED)
def test_text_lines_plain_or_compressed(tmp_path, suffix):
    text = "\n".join(TEXTS[:10]) + "\n\n  \n" + "\r\n".join(TEXTS[10:])
    path = tmp_path / f"corpus.txt{suffix}"
    path.write_bytes(PACKED[suffix](text.encode()))
    source = open_source(path)
    assert list(source.payloads("text")) == TEXTS
    assert source.values("document").tolist() == [0] * 10 + [1] * 20
    assert list(source.payloads("text", [29, 0, 7, 7])) == [TEXTS[29], TEXTS[0], TEXTS[7], TEXTS[7]]
    assert guess_group(source)[0] == "document"


def test_reading_lines_can_begin_in_the_middle(tmp_path):
    lines = [f"line number {i}" for i in range(9000)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    source = open_source(tmp_path / "a.txt")
    wanted = [8999, 3, 5000, 2047, 2048, 1024]
    assert list(source.payloads("text", wanted)) == [lines[i] for i in wanted]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["", " ", "\t", "a", "bc d", "  e", "f" * 50]), max_size=40),
    st.integers(1, 40),
    st.sampled_from(["\n", "\r\n"]),
)
def test_lines_are_counted_as_they_are_read(tmp_path_factory, lines, block, end):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(end.join(lines).encode())
    rows = [line for line in lines if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.strip() and (i == 0 or not lines[i - 1].strip())]
    with mock.patch.multiple("selftaught.data.lines", _SCAN=block, _EVERY=3):
        found = Lines(path.parent, ["a.txt"], "a")
        assert found.rows == len(rows)
        assert [p.rstrip("\r") for p in found.payloads("text")] == rows
        assert [p.rstrip("\r") for p in found.payloads("text", range(len(rows))[::-1])] == rows[::-1]
        assert found._files[0].documents.tolist() == [sum(bool(x.strip()) for x in lines[:i]) for i in starts]


def write_tar(path, samples: list[dict]) -> None:
    with tarfile.open(path, "w") as tar:
        for i, sample in enumerate(samples):
            for part, data in sample.items():
                info = tarfile.TarInfo(f"{i:05d}.{part}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def test_webdataset(tmp_path):
    held = pixels(10)
    samples = [
        {
            "png": encoded(a),
            "cls": str(i % 2).encode(),
            "json": json.dumps({"width": i, "by": "me"}).encode(),
            "txt": f"a text of row {i}".encode(),
        }
        for i, a in enumerate(held)
    ]
    del samples[4]["cls"]
    write_tar(tmp_path / "train-0.tar", samples[:6])
    write_tar(tmp_path / "test-0.tar", samples[6:])
    source = open_source(tmp_path)
    order = [6, 7, 8, 9, 0, 1, 2, 3, 4, 5]
    assert source.columns == {
        "image": "image", "cls": "integer", "width": "integer", "by": "category", "txt": "text", "split": "category",
    }  # fmt: skip
    same_pictures(source, "image", held[order])
    labels = source.values("cls")
    assert np.isnan(labels[8])
    assert np.delete(labels, 8).tolist() == [i % 2 for i in order if i != 4]
    assert source.values("width").tolist() == order
    assert list(source.payloads("txt", [9, 0])) == ["a text of row 5", "a text of row 6"]
    assert source.row_name(0) == "test-0.tar:00000"
    assert source.random_access


def test_a_tar_of_class_folders_has_labels(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i, array in enumerate(pixels(4)):
            data = encoded(array)
            info = tarfile.TarInfo(f"{'cat' if i < 2 else 'dog'}/{i}.png")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert open_source(tmp_path / "a.tar").values("label").tolist() == ["cat", "cat", "dog", "dog"]


def test_numpy_files(tmp_path):
    held = pixels(9)
    np.save(tmp_path / "images.npy", held)
    same_pictures(open_source(tmp_path / "images.npy"), "image", held)
    np.savez_compressed(tmp_path / "a.npz", x=held.transpose(0, 3, 1, 2), y=np.arange(9) % 3, note=np.array("about"))
    source = open_source(tmp_path / "a.npz")
    assert source.columns == {"x": "image", "y": "integer"}
    same_pictures(source, "x", held)
    assert source.values("y").tolist() == [0, 1, 2] * 3
    waves = np.asfortranarray(np.random.default_rng(0).normal(size=(9, 3, 20)))
    np.save(tmp_path / "waves.npy", waves)
    found = np.stack(list(open_source(tmp_path / "waves.npy").payloads("series")))
    np.testing.assert_allclose(found, waves, rtol=1e-6)


def test_digits_come_with_the_dependencies():
    source = open_source("digits")
    assert (source.rows, source.columns) == (1797, {"image": "image", "label": "integer"})
    first = next(source.payloads("image"))
    assert first.shape == (8, 8)
    assert first.dtype == np.uint8
    assert first.max() <= 255
    assert np.bincount(source.values("label")).min() > 170


def test_arrays_in_memory():
    held = pixels(5)
    source = open_source(held)
    assert source.columns == {"image": "image"}
    assert open_source(TEXTS).columns == {"text": "text"}
    assert open_source({"x": held, "who": ["a", "b", "a", "b", "a"]}).columns == {"x": "image", "who": "category"}
    assert open_source([np.zeros(3), np.zeros(5)]).columns == {"series": "series"}


def test_fingerprints_follow_the_content_and_nothing_else(tmp_path):
    picture_folder(tmp_path / "a")
    picture_folder(tmp_path / "b")
    one, other = (open_source(tmp_path / n).fingerprint() for n in "ab")
    assert one == other == open_source(tmp_path / "a").fingerprint()
    path = next((tmp_path / "b").rglob("*.png"))
    path.write_bytes(encoded(pixels(1, seed=9)[0]))
    assert open_source(tmp_path / "b").fingerprint() != one
    path.rename(path.with_name("9999.png"))
    assert len({open_source(tmp_path / "b").fingerprint(), one, other}) == 2


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("nowhere", "There is no"),
        ("http://example.org/a.csv", "is an address"),
        ("file:///etc/passwd", "is an address"),
        ("a.zip", "packed archive"),
        ("a.tar.gz", "packed archive"),
        ("a.pkl", "pickled"),
        ("a.pt", "pickled"),
        ("empty", "holds no files"),
        ("empty.csv", "is empty"),
        ("blank.txt", "holds no rows"),
        ("others", "not read"),
        ("noise.xyz", "no kind that is known"),
        ("", "is no path"),
        ("hf:../../etc", "no name of a data set"),
    ],
)
def test_what_cannot_be_opened_says_why_and_what_to_do(tmp_path, name, match):
    for file in ("a.zip", "a.tar.gz", "a.pkl", "a.pt"):
        (tmp_path / file).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "a.docx").write_bytes(b"x")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "noise.xyz").write_bytes(bytes(range(256)))
    spec = name if ":" in name or not name else str(tmp_path / name)
    with pytest.raises((DataError, RequestError), match=match) as caught:
        open_source(spec)
    assert caught.value.remedy


def test_the_hub_is_refused_offline_and_without_its_package(monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_OFFLINE", "1")
    with pytest.raises(RequestError, match="network is switched off"):
        open_source("hf:mnist")
    monkeypatch.delenv("SELFTAUGHT_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(RequestError, match="needs the package") as caught:
        open_source("hf:mnist")
    assert "selftaught[hub]" in caught.value.remedy


def test_a_hub_data_set_where_its_package_is_installed():
    datasets = pytest.importorskip("datasets", reason="the extra `hub` is not installed")
    held = pixels(30)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    columns = {"image": [Image.fromarray(a) for a in held], "label": [i % 2 for i in range(30)]}
    whole = datasets.Dataset.from_dict(columns, features=features)
    source = of_datasets({"train": whole.select(range(20)), "test": whole.select(range(20, 30))}, "hf:mine")
    assert source.columns == {"image": "image", "label": "category", "split": "category"}
    same_pictures(source, "image", held)
    assert source.values("label").tolist() == ["cat", "dog"] * 15
    assert source.row_name(25) == "test:5"


def test_a_column_that_is_not_there_names_the_nearest(tmp_path):
    picture_folder(tmp_path)
    with pytest.raises(RequestError, match="Did you mean 'label'"):
        open_source(tmp_path).values("lable")
