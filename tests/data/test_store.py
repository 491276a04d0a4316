"""The packed store: keyed by content and settings, whole or absent, safe from half-written files and from company."""

import json
import multiprocessing
import os
import resource
import signal
from dataclasses import replace

import numpy as np
import pytest

from selftaught.core import DataError
from selftaught.data import cache, cache_folder, cache_size, clear_cache, open_source, pack
from selftaught.data.decode import decoded
from selftaught.data.store import open_store

from .small import Letters, Picture, encoded, picture_folder, pixels


class Counting(Picture):
    """Counts what is decoded."""

    decodes = 0

    def decode(self, payload):
        Counting.decodes += 1
        return super().decode(payload)


@pytest.fixture(autouse=True)
def fresh_count():
    Counting.decodes = 0


def places() -> list:
    return sorted(p for p in (cache_folder() / "packed").iterdir() if p.is_dir())


def test_packed_once_and_opened_ever_after(tmp_path):
    held = picture_folder(tmp_path / "d")
    first = pack(open_source(tmp_path / "d"), "image", Counting())
    again = pack(open_source(tmp_path / "d"), "image", Counting())
    assert Counting.decodes == len(held)
    assert (first.values == held.transpose(0, 3, 1, 2)).all()
    assert (again.values == first.values).all()
    assert again.kept.tolist() == list(range(12))
    assert not again.values.flags.writeable


def test_another_content_or_setting_is_another_store(tmp_path):
    picture_folder(tmp_path / "d")
    source = open_source(tmp_path / "d")
    pack(source, "image", Counting())
    assert pack(source, "image", Counting(side=4)).values.shape == (12, 3, 4, 4)
    (tmp_path / "d" / "cat" / "0000.png").write_bytes(encoded(pixels(1, seed=5)[0]))
    changed = pack(open_source(tmp_path / "d"), "image", Counting())
    assert (changed.values[0] == pixels(1, seed=5)[0].transpose(2, 0, 1)).all()
    assert len(places()) == 3


def test_rows_of_unequal_length(tmp_path):
    texts = [f"text {i}" * (i % 4 + 1) for i in range(50)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    store = pack(open_source(tmp_path / "a.txt"), "text", Letters())
    assert [store.row(i).tobytes().decode("utf-16-le") for i in range(50)] == texts
    taken = store.take(np.array([49, 3, 3]))
    assert [bytes(r.numpy().astype(np.uint16)).decode("utf-16-le") for r in taken.values.split(taken.lengths.tolist())] == [
        texts[49], texts[3], texts[3],
    ]  # fmt: skip
    assert taken.values.dtype.is_signed
    assert len(store.take(np.array([], np.int64))) == 0


def damage(path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(data[:-1])
    elif how == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["cut", "flipped", "gone", "empty"])
@pytest.mark.parametrize("name", ["values.bin", "offsets.bin", "kept.bin", "manifest.json", "rejected.jsonl"])
def test_a_damaged_store_is_noticed_and_packed_anew(tmp_path, name, how):
    texts = [f"text number {i}" for i in range(20)]
    (tmp_path / "a.txt").write_bytes("\n".join([*texts, "a bad \x00 row"]).encode())
    source = open_source(tmp_path / "a.txt")
    pack(source, "text", Letters())
    (place,) = places()
    damage(place / name, how)
    if (name, how) != ("manifest.json", "flipped"):
        assert open_store(place) is None
    store = pack(source, "text", Letters())
    assert [store.row(i).tobytes().decode("utf-16-le") for i in range(20)] == texts
    assert places() == [place]
    assert not list(place.parent.glob("*.tmp"))


def test_a_store_cut_at_any_byte_never_opens(tmp_path):
    picture_folder(tmp_path / "d", 4)
    pack(open_source(tmp_path / "d"), "image", Picture())
    (place,) = places()
    whole = (place / "values.bin").read_bytes()
    for length in range(0, len(whole), 37):
        (place / "values.bin").write_bytes(whole[:length])
        assert open_store(place) is None
    (place / "values.bin").write_bytes(whole)
    assert open_store(place) is not None


def test_large_stores_are_hashed_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("selftaught.data.store._BLOCK", 100)
    picture_folder(tmp_path / "d", 8)
    pack(open_source(tmp_path / "d"), "image", Picture())
    (place,) = places()
    manifest = json.loads((place / "manifest.json").read_text())
    assert len(manifest["files"]["values.bin"]["blocks"]) == -(-8 * 192 // 100)
    assert open_store(place) is not None
    damage(place / "values.bin", "flipped")
    assert open_store(place) is None


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    picture_folder(tmp_path / "d", 4)
    source = open_source(tmp_path / "d")
    store = pack(source, "image", Picture())
    (place,) = places()
    left = place.with_name(f"{place.name}.99999.tmp")
    place.rename(left)
    (left / "manifest.json").unlink()
    assert (pack(source, "image", Picture()).values == store.values).all()
    assert places() == [place]


def _pack_and_report(folder: str, cache_at: str, queue) -> None:
    os.environ["SELFTAUGHT_CACHE"] = cache_at
    store = pack(open_source(folder), "image", Picture())
    queue.put((len(store), int(store.values.astype(np.int64).sum())))


def test_processes_that_pack_at_once_end_with_one_store(tmp_path, own_cache):
    held = picture_folder(tmp_path / "d", 40)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    jobs = [
        context.Process(target=_pack_and_report, args=(str(tmp_path / "d"), str(own_cache), queue)) for _ in range(2)
    ]
    for job in jobs:
        job.start()
    found = [queue.get(timeout=120) for _ in jobs]
    for job in jobs:
        job.join(60)
    assert found == [(40, int(held.astype(np.int64).sum()))] * 2
    assert len(places()) == 1


@pytest.mark.parametrize("kind", ["folder", "text"])
def test_thread_counts_change_nothing(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("selftaught.data.decode._ROWS", 5)
    if kind == "folder":
        picture_folder(tmp_path / "d", 33)
        (tmp_path / "d" / "cat" / "bad.png").write_bytes(b"x")
        source, column, modality = open_source(tmp_path / "d"), "image", Picture()
    else:
        (tmp_path / "a.txt").write_text("\n".join(f"text {i}" for i in range(33)))
        source, column, modality = open_source(tmp_path / "a.txt"), "text", Letters()
    stores = []
    for threads in (1, 2, 7):
        clear_cache()
        seen = []
        store = pack(source, column, modality, threads=threads, progress=lambda *done, seen=seen: seen.append(done))
        assert [d[0] for d in seen] == sorted(d[0] for d in seen)
        assert seen[-1][:2] == (source.rows, source.rows)
        stores.append((store.values.tobytes(), store.kept.tobytes(), list(store.rejected)))
    assert stores[0] == stores[1] == stores[2]
    assert [first for first, _ in decoded(source, column, modality, threads=3)] == list(range(0, source.rows, 5))


def test_a_modality_may_decode_many_at_once(tmp_path):
    class Many(Letters):
        def decode_many(self, payloads):
            return [Letters.decode(self, p) for p in payloads]

        def decode(self, payload):
            raise AssertionError

    (tmp_path / "a.txt").write_bytes(b"one\nt\x00o\nthree")
    store = pack(open_source(tmp_path / "a.txt"), "text", Many())
    assert (len(store), len(store.rejected)) == (2, 1)


def test_a_decoder_that_breaks_its_word_is_an_error(tmp_path):
    picture_folder(tmp_path / "d", 4)

    class Wrong(Picture):
        @property
        def shape(self):
            return (3, 9, 9)

    with pytest.raises(ValueError, match="and says"):
        pack(open_source(tmp_path / "d"), "image", Wrong())
    assert cache_size() < 1000


def test_a_full_disk_is_said_before_anything_is_packed(tmp_path, monkeypatch):
    picture_folder(tmp_path / "d", 4)
    monkeypatch.setattr(cache, "free_bytes", lambda folder: 100)
    with pytest.raises(
        DataError, match=r"full: The packed data needs about 800 bytes and 100 bytes can be used"
    ) as caught:
        pack(open_source(tmp_path / "d"), "image", replace(Picture(), side=8))
    assert "SELFTAUGHT_CACHE" in caught.value.remedy
    assert "--stream" in caught.value.remedy


@pytest.fixture
def files_of_50_kilobytes_at_most():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_while_packing_is_said_and_leaves_nothing(tmp_path, files_of_50_kilobytes_at_most):
    picture_folder(tmp_path / "d", 40, side=32)
    with pytest.raises(DataError, match=r"The disk of .* is full: File too large") as caught:
        pack(open_source(tmp_path / "d"), "image", Picture(32))
    assert "SELFTAUGHT_CACHE" in caught.value.remedy
    assert places() == []
    assert not list((cache_folder() / "packed").glob("*.tmp"))


def test_the_cache_can_be_measured_cleared_and_moved(tmp_path, own_cache, monkeypatch):
    picture_folder(tmp_path / "d", 10, side=32)
    store = pack(open_source(tmp_path / "d"), "image", Picture(32))
    assert cache_folder() == own_cache
    assert cache_size() > 10 * 3 * 32 * 32
    assert clear_cache() > 10 * 3 * 32 * 32
    assert cache_size() == 0
    assert store.values.sum() > 0
    (own_cache / "file").write_text("x")
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(own_cache / "file" / "below"))
    with pytest.raises(DataError, match="cannot be made or used"):
        cache_folder()
    monkeypatch.delenv("SELFTAUGHT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "selftaught"
