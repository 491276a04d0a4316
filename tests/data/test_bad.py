"""Rows that cannot be used are set apart, counted exactly, and stop the run before training where they are too many."""

import errno
import json
import os
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selftaught.core import DataError, RequestError
from selftaught.data import Bad, Dataset, Rejected, open_source, read_picture

from .small import Letters, Picture, Waves, encoded, picture_folder, pixels


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header declares a size, with next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def float_tiff() -> bytes:
    return encoded(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8), "TIFF")


def broken_pictures() -> dict[str, tuple[bytes, str]]:
    """{file name: (content, kind of the reason)}: every way of being no usable picture."""
    jpeg = encoded(pixels(1, 32)[0], "JPEG", quality=95)
    png = encoded(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    return {
        "truncated.jpg": (jpeg[: len(jpeg) * 3 // 4], "truncated"),
        "truncated.png": (png[: len(png) // 2], "truncated"),
        "header.jpg": (jpeg[:12], "truncated"),
        "text.jpg": (b"this is no picture at all", "not an image"),
        "page.png": (b"<!doctype html><title>404</title>", "not an image"),
        "noise.gif": (bytes(np.random.default_rng(1).integers(0, 256, 500, dtype=np.uint8)), "not an image"),
        "nothing.jpg": (b"", "empty file"),
        "bomb.png": (png_of_size(60_000, 60_000), "decompression bomb"),
        "smaller_bomb.png": (png_of_size(10_000, 9_000), "decompression bomb"),
        "strip.png": (encoded(np.zeros((1, 1000), np.uint8)), "absurd size"),
        "zero.gif": (b"GIF89a" + bytes(30), "zero size"),
        "zero.png": (png_of_size(0, 16), "zero size"),
        "flipped.png": (bytes(flipped), "broken picture"),
        "script.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
        "document.png": (b"%PDF-1.4\n", "not an image"),
        "floats.tif": (float_tiff(), "not an image"),
        "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    }


def break_folder(root) -> dict[str, str]:
    """Adds everything broken to a folder; {name: kind of the reason}."""
    expected = {}
    for name, (content, kind) in broken_pictures().items():
        (root / name).write_bytes(content)
        expected[name] = kind
    outside = root.parent / "secret.png"
    outside.write_bytes(encoded(pixels(1)[0]))
    (root / "leaves.png").symlink_to(outside)
    (root / "dangling.png").symlink_to(root / "nowhere.png")
    (root / "folder_out").symlink_to(root.parent)
    os.mkfifo(root / "pipe.jpg")
    with (root / "huge.jpg").open("wb") as file:
        file.truncate((1 << 26) + 1)
    return expected | {
        "leaves.png": "outside the data folder",
        "dangling.png": "unreadable",
        "folder_out": "outside the data folder",
        "pipe.jpg": "not a regular file",
        "huge.jpg": "too large",
    }


@pytest.fixture
def broken_folder(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    held = pixels(1078)
    for i, array in enumerate(held):
        (root / f"{i:04d}.png").write_bytes(encoded(array))
    (root / "inside.png").symlink_to(root / "0000.png")
    return root, break_folder(root)


def test_two_per_cent_broken_in_every_way(broken_folder, tmp_path):
    root, expected = broken_folder
    source = open_source(root)
    assert source.rows == 1079 + len(expected)
    with pytest.raises(DataError, match=r"22 of 1101 rows set apart.*2\.00 %") as caught:
        Dataset.open(source, "image", Picture())
    assert "--max-bad 0.02" in caught.value.remedy
    dataset = Dataset.open(source, "image", Picture(), max_bad=0.05)
    assert len(dataset) == 1079
    assert {row["name"]: row["reason"].partition(":")[0] for row in dataset.rejected} == expected
    assert dataset.rejected.kinds()["not an image"] == 7
    assert dataset.rejected.summary().startswith("22 of 1101 rows set apart: 7 not an image")
    dataset.rejected.write(tmp_path / "rejected.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert lines == list(dataset.rejected)
    assert {source.row_name(line["row"]) for line in lines} == set(expected)


def test_kept_rows_are_the_good_ones_in_order(broken_folder):
    root, expected = broken_folder
    dataset = Dataset.open(open_source(root), "image", Picture(), max_bad=0.05)
    assert dataset.names([0, 5, 1077, 1078]) == ["0000.png", "0005.png", "1077.png", "inside.png"]
    held = pixels(1078).transpose(0, 3, 1, 2)
    assert (dataset.rows(np.arange(1078)) == held).all()
    assert (dataset.rows([1078]) == held[:1]).all()
    assert not set(dataset.names()) & set(expected)


@pytest.mark.parametrize("name", broken_pictures())
def test_every_kind_of_broken_picture_has_its_reason(name):
    content, kind = broken_pictures()[name]
    with pytest.raises(Bad) as caught:
        read_picture(content)
    assert caught.value.kind == kind


def test_pictures_of_every_mode_are_read_upright():
    held = pixels(1, 16)[0]
    grey = held[..., 0]
    rgba = np.dstack([held, np.full((16, 16), 255, np.uint8)])
    assert (np.asarray(read_picture(encoded(rgba))) == held).all()
    assert (np.asarray(read_picture(encoded(grey))) == grey).all()
    assert (np.asarray(read_picture(encoded(grey.astype(np.uint16) * 257))) == grey).all()
    assert read_picture(encoded(np.asarray(Image.fromarray(held).convert("CMYK")), "TIFF")).mode == "RGB"
    assert (np.asarray(read_picture(held)) == held).all()
    turned = Image.Exif()
    turned[0x0112] = 6
    assert (np.asarray(read_picture(encoded(held, "PNG", exif=turned))) == np.rot90(held, -1)).all()
    assert min(read_picture(encoded(pixels(1, 512)[0], "JPEG"), smallest=64).size) == 64


def test_cells_of_a_table_that_are_no_picture(tmp_path):
    good = [encoded(a) for a in pixels(90)]
    bad = [
        {"bytes": None, "path": "../secret.png"}, {"bytes": None, "path": "/etc/passwd"}, {"bytes": b"", "path": None}, None,
        {"bytes": None, "path": "https://example.org/a.png"}, {"bytes": b"text", "path": "a.png"}, {"bytes": None, "path": "gone.png"},
        {"bytes": None, "path": "a\x00.png"},
    ]  # fmt: skip
    (tmp_path / "secret.png").write_bytes(good[0])
    root = tmp_path / "data"
    root.mkdir()
    (root / "here.png").write_bytes(good[1])
    rows = [{"bytes": b, "path": None} for b in good] + [{"bytes": None, "path": "here.png"}] + bad
    pq.write_table(pa.table({"image": rows}), root / "t.parquet")
    dataset = Dataset.open(open_source(root / "t.parquet"), "image", Picture(), max_bad=0.1)
    assert len(dataset) == 91
    assert [row["row"] for row in dataset.rejected] == list(range(91, 99))
    assert [row["reason"].partition(":")[0] for row in dataset.rejected] == [
        "outside the data folder", "outside the data folder", "no value", "no value",
        "refused path", "not an image", "unreadable", "refused path",
    ]  # fmt: skip
    assert (dataset.rows([90])[0] == pixels(90)[1].transpose(2, 0, 1)).all()


def test_bad_texts_and_lines(tmp_path):
    lines = [f"good line {i}".encode() for i in range(60)]
    lines[7] = b"latin \xe9\xe8"
    lines[9] = b"with \x00 byte"
    lines[11] = b"x" * ((1 << 24) + 5)
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    dataset = Dataset.open(open_source(tmp_path / "a.txt"), "text", Letters(), max_bad=0.1)
    assert [(r["row"], r["reason"].partition(":")[0]) for r in dataset.rejected] == [
        (7, "not UTF-8 text"), (9, "not text"), (11, "too large"),
    ]  # fmt: skip
    assert len(dataset) == 57


def test_bad_rows_of_csv_and_jsonl(tmp_path):
    text = "text,n\n" + "".join(f"words of row {i},{i}\n" for i in range(40)) + "too,many,cells\n\xff\xfe bad,1\nonly\n"
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    dataset = Dataset.open(open_source(tmp_path / "a.csv"), "text", Letters(), max_bad=0.1)
    assert (len(dataset), dataset.rejected.kinds()) == (40, {"wrong number of cells": 2, "not UTF-8 text": 1})
    rows = [json.dumps({"text": f"words of row {i}"}) for i in range(40)]
    rows += [
        "{broken",
        "[1, 2]",
        "[" * 100_000,
        json.dumps({"other": 1}),
        json.dumps({"text": 5}),
        '{"text": "' + "9" * 5000 + '"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    dataset = Dataset.open(open_source(tmp_path / "a.jsonl"), "text", Letters(), max_bad=0.2)
    assert dataset.rejected.kinds() == {
        "not JSON": 1,
        "not a JSON object": 1,
        "too deep": 1,
        "no value": 1,
        "not text": 1,
    }


def test_bad_series(tmp_path):
    rows = [[float(i), 2.0] for i in range(50)] + [None, []]
    pq.write_table(pa.table({"x": rows}), tmp_path / "t.parquet")
    dataset = Dataset.open(open_source(tmp_path / "t.parquet"), "x", Waves(), max_bad=0.1)
    assert (len(dataset), dataset.rejected.kinds()) == (50, {"no value": 2})


def test_rows_unlike_the_others_are_set_apart(tmp_path):
    rows = [[[1.0, 2.0], [3.0, 4.0]]] * 30 + [[[1.0, 2.0]]]
    pq.write_table(pa.table({"x": rows}), tmp_path / "t.parquet")
    dataset = Dataset.open(open_source(tmp_path / "t.parquet"), "x", Waves(), max_bad=0.1)
    assert dataset.rejected.kinds() == {"unlike the others": 1}


def test_nothing_left_is_an_error_at_any_share(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"x")
    with pytest.raises(DataError, match="None of the 3 rows") as caught:
        Dataset.open(open_source(tmp_path), "image", Picture(), max_bad=1.0)
    assert caught.value.remedy


def test_max_bad_is_a_share_and_the_limit_itself_passes():
    rejected = Rejected(100, [{"row": 0, "name": "a", "reason": "truncated"}] * 5)
    rejected.check(0.05)
    with pytest.raises(DataError, match=r"5\.00 %"):
        rejected.check(0.049)
    with pytest.raises(RequestError, match="no share"):
        rejected.check(5)


def test_names_that_are_no_unicode_can_be_written(tmp_path):
    for name in (b"\xff\xfe.png", b"new\nline.png", b"ok.png", b"ok2.png"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(encoded(pixels(1)[0]) if name.startswith(b"ok") else b"no picture")
    dataset = Dataset.open(open_source(tmp_path), "image", Picture(), max_bad=1.0)
    dataset.rejected.write(tmp_path / "rejected.jsonl")
    assert sorted(r["name"] for r in Rejected.read(tmp_path / "rejected.jsonl", 4)) == [
        "new\nline.png",
        "\udcff\udcfe.png",
    ]


def test_folders_and_files_that_a_failing_disk_keeps_are_counted(tmp_path, monkeypatch):
    held = picture_folder(tmp_path, 40, ("a", "b", "c", "d"))
    listed, opened = os.scandir, os.open

    def failing(what, wrong):
        def call(path, *rest):
            if str(path).endswith(wrong):
                raise OSError(errno.EIO, "Input/output error")
            return what(path, *rest)

        return call

    monkeypatch.setattr(os, "scandir", failing(listed, "/c"))
    monkeypatch.setattr(os, "open", failing(opened, "0003.png"))
    source = open_source(tmp_path)
    assert source.rows == 31
    dataset = Dataset.open(source, "image", Picture(), max_bad=0.1)
    assert [(r["name"], r["reason"]) for r in dataset.rejected] == [
        ("a/0003.png", "unreadable: Input/output error"), ("c", "unreadable: Input/output error"),
    ]  # fmt: skip
    assert len(held) - len(dataset) == 11
    monkeypatch.setattr(os, "scandir", failing(listed, str(tmp_path)))
    with pytest.raises(DataError, match="cannot be read: Input/output error") as caught:
        open_source(tmp_path)
    assert "disk" in caught.value.remedy
