"""Hostile data files: `build(folder)` writes them, `python -m tests.data.hostile FOLDER` opens each as a user would and reports."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import pickle
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from PIL import Image, PngImagePlugin

from tests.memory import peak_bytes

from .small import encoded, pixels
from .test_bad import png_of_size

ZEROS = bytes(1 << 20)
SECRET = "the secret outside the data folder"


class Runs:
    """Unpickling it writes the canary."""

    def __init__(self, canary: str):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"echo ran > {self.canary}",)


def _repeat(write, data: bytes, times: int) -> None:
    for _ in range(times):
        write(data)


def _texts(root: Path) -> None:
    with gzip.open(root / "bomb.txt.gz", "wb", 9) as file:
        _repeat(file.write, ZEROS, 120)
    with lzma.open(root / "bomb.txt.xz", "wb", preset=0) as file:
        _repeat(file.write, ZEROS, 80)
    with (root / "bomb.jsonl.zst").open("wb") as raw, zstandard.ZstdCompressor(3).stream_writer(raw) as file:
        _repeat(file.write, b'{"text": "' + b"a" * 1000 + b'"}\n', 10_000)
        _repeat(file.write, ZEROS, 100)
    with (root / "lines.txt.zst").open("wb") as raw, zstandard.ZstdCompressor(3).stream_writer(raw) as file:
        _repeat(file.write, b"a\n" * (1 << 19), 100)
    with gzip.open(root / "bomb.csv.gz", "wb", 9) as file:
        file.write(b"text,label\n")
        _repeat(file.write, b"words and words,1\n" * 50_000, 90)
    wide = bytearray(lzma.compress(b"hello world, hello " * 100, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}]))
    (root / "dictionary.txt.xz").write_bytes(_xz_with_dictionary(wide))
    parameters = zstandard.ZstdCompressionParameters(window_log=30, compression_level=1)
    (root / "window.txt.zst").write_bytes(_zst_with_window(parameters))
    (root / "nul.txt").write_bytes(bytes(100_000))
    (root / "one_line.txt").write_bytes(b"a" * (40 << 20))
    (root / "half.txt.gz").write_bytes(gzip.compress(os.urandom(100_000))[:50_000])


def _xz_with_dictionary(good: bytearray) -> bytes:
    """A sound .xz whose header asks for a dictionary of 4 GiB."""
    place = good.index(b"\x21\x01", 12) + 2
    good[place] = 40
    header = bytes(good[12 : 12 + 4 * (good[12] + 1) - 4])
    good[12 + len(header) : 16 + len(header)] = struct.pack("<I", zlib.crc32(header))
    return bytes(good)


def _zst_with_window(parameters) -> bytes:
    out = io.BytesIO()
    with zstandard.ZstdCompressor(compression_params=parameters).stream_writer(out, closefd=False) as file:
        file.write(b"words of a text\n" * 1000)
    return out.getvalue()


def _tables(root: Path) -> None:
    (root / "columns.csv").write_text("c" + ",c".join(map(str, range(1_000_000))) + "\n" + ",".join(["1"] * 1_000_000))
    (root / "columns.jsonl").write_text('{"c' + '": 1, "c'.join(map(str, range(1_000_000))) + '": 1}\n')
    (root / "deep.jsonl").write_text(('{"text": ' + "[" * 500_000 + "]" * 500_000 + "}\n") * 3)
    (root / "number.jsonl").write_text(
        '{"text": "words of it", "n": '
        + "9" * 1_000_000
        + "}\n"
        + "".join(f'{{"text": "more words of row {i}", "n": 1e999}}\n' for i in range(9))
    )
    (root / "line.jsonl").write_bytes(b'{"text": "' + b"a" * (20 << 20) + b'"}\n')
    (root / "quote.csv").write_bytes(b'text,label\n"never closed ' + b"words, and words\n" * (3 << 19))
    (root / "nul.csv").write_bytes(b"text,label\n\x00\x00,1\n" * 100)
    (root / "paths.csv").write_text(
        "file,label\n" + "ok.png,0\n" * 20 + "../secret.png,2\n/etc/passwd,3\nfile:///etc/passwd,4\nok.png,5\n"
    )
    (root / "ok.png").write_bytes(encoded(pixels(1)[0]))
    pq.write_table(pa.table({"n": pa.nulls(30_000_000, pa.int8())}), root / "rows.parquet")
    column = pa.DictionaryArray.from_arrays(np.zeros(4000, np.int32), pa.array(["a" * 1_000_000]))
    pq.write_table(pa.table({"text": column}), root / "dictionary.parquet")
    many = pa.array([[0.0] * 1_000_000] * 20, pa.list_(pa.float32()))
    pq.write_table(pa.table({"x": many}), root / "lists.parquet")
    good = io.BytesIO()
    pq.write_table(pa.table({"text": [f"words of row {i}" for i in range(100)]}), good)
    data = bytearray(good.getvalue())
    (root / "footer.parquet").write_bytes(bytes(data[:-8]) + struct.pack("<I", 0x7FFFFFFF) + b"PAR1")
    (root / "cut.parquet").write_bytes(data[:-20])
    data[len(data) // 2 : len(data) // 2 + 20] = os.urandom(20)
    (root / "flipped.parquet").write_bytes(data)


def _arrays(root: Path, canary: str) -> None:
    evil = np.array([Runs(canary)], dtype=object)
    np.save(root / "object.npy", evil, allow_pickle=True)
    np.savez(root / "object.npz", x=evil)
    (root / "pickle.npy").write_bytes(pickle.dumps(Runs(canary)))
    for name in ("pickle.pkl", "pickle.pt", "pickle.joblib", "pickle.bin"):
        (root / name).write_bytes(pickle.dumps(Runs(canary)))
    (root / "pickle.parquet").write_bytes(pickle.dumps(Runs(canary)))

    def npy(header: str, data: bytes = b"", length: int | None = None) -> bytes:
        text = header.encode()
        return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text) if length is None else length) + text + data

    (root / "shape.npy").write_bytes(
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 100000, 1000)}\n", b"abc")
    )
    (root / "negative.npy").write_bytes(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-3, -1)}\n", b"abc"))
    (root / "header.npy").write_bytes(npy("{'descr'", length=0xFFFFFFF0))
    (root / "code.npy").write_bytes(
        npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': (__import__('os').system('touch {canary}'),)}}\n")
    )
    (root / "nested.npy").write_bytes(npy("(" * 5000 + ")" * 5000 + "\n"))
    with zipfile.ZipFile(root / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as pack, pack.open("x.npy", "w") as file:
        file.write(npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({120 << 14}, 8, 8)}}\n"))
        _repeat(file.write, ZEROS, 120)
    with zipfile.ZipFile(root / "members.npz", "w") as pack:
        for i in range(5000):
            pack.writestr(f"a{i}.npy", b"")
    with zipfile.ZipFile(root / "path.npz", "w") as pack:
        pack.writestr("../../escape.txt", b"out")


def _tars(root: Path, secret: Path) -> None:
    def member(name: str, data: bytes = b"", **changes) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for key, value in changes.items():
            setattr(info, key, value)
        return info, data

    picture = encoded(pixels(1)[0])
    good = [member(f"{i}.png", picture) for i in range(3)]
    hostile = {
        "traversal": member("../../escape.png", picture),
        "absolute": member("/tmp/escape.png", picture),
        "symlink": member("9.png", type=tarfile.SYMTYPE, linkname=str(secret)),
        "hardlink": member("9.png", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        "device": member("9.png", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        "fifo": member("9.png", type=tarfile.FIFOTYPE),
    }
    for name, extra in hostile.items():
        with tarfile.open(root / f"{name}.tar", "w") as tar:
            for info, data in [*good, extra]:
                tar.addfile(info, io.BytesIO(data))
    with (root / "pax.tar").open("wb") as file:  # a header that declares itself to be 4 GiB long; the file is sparse
        info = tarfile.TarInfo("pax")
        info.type, info.size = tarfile.XHDTYPE, 4 << 30
        file.write(info.tobuf(tarfile.USTAR_FORMAT))
        file.truncate(4 << 30)
    with (root / "size.tar").open("wb") as file:
        info = tarfile.TarInfo("0.png")
        info.size = 1 << 60
        file.write(info.tobuf(tarfile.GNU_FORMAT) + picture)


def _pictures(root: Path, secret: Path) -> None:
    folder = root / "pictures"
    folder.mkdir()
    for i, array in enumerate(pixels(4)):
        (folder / f"{i}.png").write_bytes(encoded(array))
    out = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(out, "PNG")
    (folder / "real_bomb.png").write_bytes(out.getvalue())
    (folder / "declared_bomb.png").write_bytes(png_of_size(65_000, 65_000))
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * (3 << 20), zip=True)
    (folder / "text_bomb.png").write_bytes(encoded_with(text))
    jpeg = bytearray(encoded(pixels(1, 32)[0], "JPEG"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = b"\xff\xff\xff\xff"
    (folder / "declared.jpg").write_bytes(jpeg)
    (folder / "gif_bomb.gif").write_bytes(b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(30))
    (folder / "bmp_bomb.bmp").write_bytes(
        b"BM"
        + struct.pack("<IHHI", 60, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 1 << 30, 1 << 30, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    (folder / "script.png").write_bytes(b"%!PS\n(%pipe%touch canary) (w) file\n")
    (folder / "svg.jpg").write_bytes(b'<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><svg>&y;</svg>')
    (folder / "link.png").symlink_to(secret)
    (folder / "etc.png").symlink_to("/etc/passwd")
    (folder / "loop").symlink_to(folder)
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")


def encoded_with(text) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(1)[0]).save(out, "PNG", pnginfo=text)
    return out.getvalue()


def build(root: Path) -> list[str]:
    """Writes the corpus; returns the names of the files and folders to open.  The secret and the canary lie beside it."""
    root.mkdir()
    secret = root.parent / "secret.png"
    secret.write_bytes(SECRET.encode())
    _texts(root)
    _tables(root)
    _arrays(root, str(root.parent / "canary"))
    _tars(root, secret)
    _pictures(root, secret)
    return sorted(p.name for p in root.iterdir() if p.name != "ok.png")


def attempt(path: Path) -> dict:
    """Opens and packs everything in a file as a user would; says how it ended."""
    from selftaught.core import SelftaughtError
    from selftaught.data import Dataset, open_source

    from .small import Letters, Picture, Waves

    began, out = time.perf_counter(), {"rejected": [], "error": None, "rows": 0, "leaked": False}
    try:
        source = open_source(path)
        for column, kind in source.columns.items():
            modality = {"image": Picture(), "text": Letters(), "series": Waves()}.get(kind)
            if modality is None:
                source.values(column)
                continue
            dataset = Dataset.open(source, column, modality, max_bad=1.0)
            out["rejected"] += [r["reason"] for r in dataset.rejected]
            out["rows"] = len(dataset)
            out["leaked"] |= any(SECRET in str(p) for p in source.payloads(column, range(min(50, source.rows))))
    except SelftaughtError as error:
        out["error"] = f"{type(error).__name__}: {error}"[:500]
    return out | {"seconds": time.perf_counter() - began}


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    report = {name: attempt(root / name) for name in sys.argv[2:]}
    sys.stdout.write(json.dumps({"files": report, "most": peak_bytes()}))
