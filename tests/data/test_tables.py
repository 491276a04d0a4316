"""Tables read back what was written: Parquet, CSV and JSONL, one file or shards, with pictures, texts, series and values."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selftaught.core import DataError
from selftaught.data import Bad, guess_group, guess_label, open_source

from .small import encoded, picture_folder, pixels
from .test_formats import PACKED, TEXTS, same_pictures


def table(rows: int = 40) -> dict:
    held = pixels(rows)
    return {
        "image": [encoded(a) for a in held],
        "caption": [f"the caption of row {i} is long enough" for i in range(rows)],
        "label": [i % 3 for i in range(rows)],
        "score": [i / 7 for i in range(rows)],
        "site": ["north" if i < 20 else "south" for i in range(rows)],
        "wave": [[float(i), None, 2.0] for i in range(rows)],
        "waves": [[[float(i), 1.0, 2.0], [3.0, 4.0, 5.0]] for i in range(rows)],
        "tags": [["a", "b"]] * rows,
    }


def check_table(source, held: dict, rows) -> None:
    rows = list(rows)
    assert list(source.payloads("caption", rows)) == [held["caption"][i] for i in rows]
    for i, wave, waves in zip(rows, source.payloads("wave", rows), source.payloads("waves", rows), strict=True):
        assert wave.dtype == waves.dtype == np.float32
        np.testing.assert_array_equal(wave, np.array([i, np.nan, 2], np.float32))
        np.testing.assert_array_equal(waves, np.array([[i, 1, 2], [3, 4, 5]], np.float32))
    np.testing.assert_array_equal(source.values("label"), held["label"])
    np.testing.assert_allclose(source.values("score"), held["score"], rtol=1e-6)
    assert source.values("site").tolist() == held["site"]


KINDS = {
    "caption": "text", "label": "integer", "score": "number", "site": "category", "wave": "series", "waves": "series",
}  # fmt: skip


def test_parquet_with_bytes_and_structs_and_lists(tmp_path):
    held = table()
    struct = [{"bytes": b, "path": None} for b in held["image"]]
    pq.write_table(pa.table({**held, "picture": struct}), tmp_path / "t.parquet", row_group_size=7)
    source = open_source(tmp_path / "t.parquet")
    assert source.columns == {"image": "image", **KINDS, "tags": "labels", "picture": "image"}
    assert source.sets("tags")[:2].tolist() == [tuple(tags) for tags in held["tags"][:2]]
    same_pictures(source, "image", pixels(40))
    same_pictures(source, "picture", pixels(40))
    check_table(source, held, [3, 4, 20, 39])
    check_table(source, held, [39, 0, 13])
    assert guess_label(source)[0] == "label"
    assert guess_group(source)[0] == "site"


def test_shards_are_one_table_and_their_names_a_split(tmp_path):
    held = table()
    for name, part in (
        ("train-00000-of-00002", slice(0, 15)),
        ("train-00001-of-00002", slice(15, 30)),
        ("test", slice(30, 40)),
    ):
        pq.write_table(pa.table({k: v[part] for k, v in held.items()}), tmp_path / f"{name}.parquet")
    (tmp_path / "dataset_info.json").write_text('{"about": "it"}')
    source = open_source(tmp_path)
    assert source.rows == 40
    order = [*range(30, 40), *range(30)]
    assert list(source.payloads("caption")) == [held["caption"][i] for i in order]
    assert source.values("split").tolist() == ["test"] * 10 + ["train"] * 30
    assert source.row_name(12) == "train-00000-of-00002.parquet:2"


def test_parquet_shards_without_a_column_have_nothing_there(tmp_path):
    pq.write_table(pa.table({"text": TEXTS, "label": ["a", "b"] * 15}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "unsup.parquet")
    source = open_source(tmp_path)
    assert source.rows == 60
    assert source.values("label").tolist() == ["a", "b"] * 15 + [None] * 30


def test_tables_that_share_no_column_are_refused(tmp_path):
    pq.write_table(pa.table({"a": TEXTS}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"b": TEXTS}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="share no column"):
        open_source(tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_csv_reads_numbers_quotes_lists_and_missing_cells(tmp_path, suffix):
    text = (
        'text,label,score,wave\n"a, ""quoted""\ntext of two lines",cat,1.5,"[1, 2, null]"\nplain words in here,dog,NA,"[4, 5, 6]"\n'
        + ('more words to read here,cat,2.5,"[7, 8, 9]"\n' * 6)
    )
    (tmp_path / f"t.csv{suffix}").write_bytes(PACKED[suffix](text.encode()))
    source = open_source(tmp_path / f"t.csv{suffix}")
    assert source.columns == {"text": "text", "label": "category", "score": "number", "wave": "series"}
    assert next(source.payloads("text")) == 'a, "quoted"\ntext of two lines'
    assert source.values("label")[:2].tolist() == ["cat", "dog"]
    assert np.isnan(source.values("score")[1])
    np.testing.assert_array_equal(next(source.payloads("wave")), np.array([1, 2, np.nan], np.float32))


def test_csv_delimiters_and_missing_headers(tmp_path):
    (tmp_path / "a.csv").write_text("text;label\n" + "".join(f"some words of row {i};{i % 2}\n" for i in range(8)))
    assert open_source(tmp_path / "a.csv").columns == {"text": "text", "label": "integer"}
    (tmp_path / "b.tsv").write_text("".join(f"film {i} was fine, really\t{i % 2}\n" for i in range(8)))
    source = open_source(tmp_path / "b.tsv")
    assert source.columns == {"c0": "text", "c1": "integer"}
    assert list(source.payloads("c0", [0, 7])) == ["film 0 was fine, really", "film 7 was fine, really"]


def test_wide_csv_is_a_series_or_a_picture(tmp_path):
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(12, 20)).round(4)
    lines = [",".join([str(i % 2), *map(str, row)]) for i, row in enumerate(waves)]
    (tmp_path / "ucr.csv").write_text("\n".join(lines))
    source = open_source(tmp_path / "ucr.csv")
    assert source.columns == {"label": "integer", "values": "series"} or source.columns == {
        "label": "integer",
        "c": "series",
    }
    (column,) = source.of_kind("series")
    np.testing.assert_allclose(np.stack(list(source.payloads(column))), waves, rtol=1e-6)
    assert source.values("label").tolist() == [0, 1] * 6
    grey = rng.integers(0, 256, (5, 16))
    head = ",".join(["label", *[f"pixel{i}" for i in range(16)]])
    (tmp_path / "mnist.csv").write_text(
        head + "\n" + "\n".join(",".join(map(str, [i, *row])) for i, row in enumerate(grey))
    )
    source = open_source(tmp_path / "mnist.csv")
    assert source.columns == {"label": "integer", "image": "image"}
    assert (np.stack(list(source.payloads("image"))) == grey.reshape(5, 4, 4)).all()


@pytest.mark.parametrize("suffix", PACKED)
def test_jsonl(tmp_path, suffix):
    held = table(12)
    rows = [{k: held[k][i] for k in ("caption", "label", "score", "site", "wave", "waves")} for i in range(12)]
    text = "\n".join(json.dumps(row, ensure_ascii=i % 2 == 0) for i, row in enumerate(rows))
    (tmp_path / f"t.jsonl{suffix}").write_bytes(PACKED[suffix](text.encode()))
    source = open_source(tmp_path / f"t.jsonl{suffix}")
    check_table(source, held, range(12))
    assert source.columns["waves"] == "series"


def test_a_table_beside_pictures_names_them(tmp_path):
    held = picture_folder(tmp_path, 4, ("images",))
    lines = [f"images/{i:04d}.png,{'ab'[i % 2]}" for i in range(4)]
    (tmp_path / "metadata.csv").write_text("file_name,kind\n" + "\n".join(lines))
    source = open_source(tmp_path)
    assert source.columns == {"file_name": "image", "kind": "category"}
    same_pictures(source, "file_name", held)


def test_raw_pixels_of_one_size_in_parquet(tmp_path):
    grey = pixels(6, 28, channels=1)[..., 0]
    column = pa.array([row.tobytes() for row in grey], pa.binary(28 * 28))
    digests = pa.array([bytes([i]) * 64 for i in range(6)], pa.binary(64))
    pq.write_table(pa.table({"image": column, "sha512": digests}), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet")
    assert source.columns == {"image": "image", "sha512": "binary"}
    assert (np.stack(list(source.payloads("image"))) == grey).all()


def test_broken_payloads_stand_in_their_rows_place(tmp_path):
    pq.write_table(
        pa.table({"wave": [[[1.0, 2.0], [3.0]], [[1.0, 2.0], [3.0, 4.0]], None] + [[[1.0]]] * 3}),
        tmp_path / "t.parquet",
    )
    found = list(open_source(tmp_path / "t.parquet").payloads("wave"))
    assert isinstance(found[0], Bad)
    assert "differ in length" in found[0].reason
    assert found[1].shape == (2, 2)
    assert isinstance(found[2], Bad)
