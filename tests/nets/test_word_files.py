"""word2vec's files: back unchanged, and nothing taken at its word."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from selftaught.core import ModelError, RequestError
from selftaught.nets import word_files
from selftaught.nets.subwords import Subwords
from selftaught.nets.words import Words

NAMES = ["the", "naïve", "日本", "don't", "3", "a" * 200]


def vectors(rows=6, width=7):
    return np.random.default_rng(0).normal(0, 3, (rows, width)).astype(np.float32)


@pytest.mark.parametrize("ending", ["bin", "txt", "vec"])
def test_back_unchanged(tmp_path, ending):
    path = tmp_path / f"w.{ending}"
    Words(NAMES, vectors()).write(path)
    back = Words.read(path)
    assert back.names == NAMES
    np.testing.assert_array_equal(back.vectors, vectors())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


word = some.text(some.characters(codec="utf-8"), min_size=1, max_size=9).filter(lambda w: w.split() == [w])


@given(some.lists(word, min_size=1, max_size=5, unique=True), some.lists(some.floats(width=32, allow_nan=False, allow_infinity=False), min_size=5, max_size=5), some.sampled_from(["bin", "txt"]))  # fmt: skip
def test_any_words_and_numbers_come_back(tmp_path_factory, names, numbers, ending):
    path = tmp_path_factory.mktemp("w") / f"w.{ending}"
    table = np.array(numbers[: len(names)], np.float32)[:, None]
    word_files.write(path, names, table)
    back, found = word_files.read(path)
    assert back == names
    np.testing.assert_array_equal(found, table)


def test_binary_without_line_feeds_and_words_that_stand_twice(tmp_path):
    """gensim writes no line feed behind a vector; the first of two vectors of a word counts."""
    path = tmp_path / "w.bin"
    path.write_bytes(
        b"3 2\n" + b"".join(w + b" " + v.tobytes() for w, v in zip([b"a", b"b\xff", b"a"], vectors(3, 2), strict=True))
    )
    names, found = word_files.read(path)
    assert names == ["a", "b\ufffd"]
    np.testing.assert_array_equal(found, vectors(3, 2)[:2])


HOSTILE = {
    "empty.txt": b"",
    "no-header.txt": b"king 0.1 0.2\n",
    "huge.bin": b"999999999999 300\n" + b"x" * 100,
    "huge.txt": b"1000000000 4096\nking 1\n",
    "wide.txt": b"1 99999\nking 1\n",
    "none.txt": b"0 3\n",
    "negative.txt": b"-1 3\n",
    "cut.bin": b"2 2\na " + np.ones(2, np.float32).tobytes() + b"\nb " + b"\0" * 7,
    "cut.txt": b"3 1\na 1\nbb 2\n    ",
    "within-word.bin": b"1 2\naaaaaaaaaaaaaaa",
    "long-word.bin": b"1 2\n" + b"a" * 5000 + b" 12345678",
    "nan.bin": b"1 1\na " + np.array([np.nan], np.float32).tobytes(),
    "inf.txt": b"1 2\na 1 inf\n",
    "overflow.txt": b"1 1\na 1e39\n",
    "word.txt": b"1 2\na one two\n",
    "few.txt": b"2 2\na 1 2\nb 1\n",
    "nameless.txt": b"1 2\n 1 2\n",
    "more.txt": b"1 1\na 1\nb 2\n",
    "pickle.bin": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_broken_files_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(HOSTILE[name])
    with pytest.raises(ModelError, match="no word2vec file or a broken one"):
        word_files.read(tmp_path / name)


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ModelError, match="white space"):
        word_files.write(tmp_path / "w.txt", ["New York"], vectors(1))
    with pytest.raises(ModelError, match="finite"):
        word_files.write(tmp_path / "w.txt", ["a"], vectors(1) * np.nan)
    with pytest.raises(RequestError, match="does not say which format"):
        word_files.write(tmp_path / "w.pkl", ["a"], vectors(1))
    (tmp_path / "folder.bin").mkdir()
    with pytest.raises(ModelError, match="no regular file"):
        word_files.read(tmp_path / "folder.bin")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.bin"]


@pytest.mark.skipif("GENSIM_PYTHON" not in os.environ, reason="GENSIM_PYTHON names no python with gensim")
@pytest.mark.parametrize("binary", [True, False])
def test_gensim_reads_them_and_is_read(tmp_path, binary):
    ours, theirs = (tmp_path / f"{n}.{'bin' if binary else 'txt'}" for n in ("ours", "theirs"))
    Words(NAMES, vectors()).write(ours)
    line = (
        "import sys; from gensim.models import KeyedVectors as K; b = sys.argv[3] == 'True'; "
        "v = K.load_word2vec_format(sys.argv[1], binary=b); v.save_word2vec_format(sys.argv[2], binary=b)"
    )
    subprocess.run([os.environ["GENSIM_PYTHON"], "-c", line, ours, theirs, str(binary)], check=True)
    names, found = word_files.read(theirs)
    assert names == NAMES
    np.testing.assert_array_equal(found, vectors())
    assert Path(theirs).read_bytes() != b""


def test_nearest_words_and_analogies_by_loops():
    table = vectors(40, 5)
    words = Words([f"w{i}" for i in range(40)], table)
    unit = table.astype(np.float64) / np.linalg.norm(table.astype(np.float64), axis=1)[:, None]
    order = sorted((i for i in range(40) if i != 3), key=lambda i: -(unit[i] @ unit[3]))[:4]
    found = words.near("w3", 4)
    assert [name for name, _ in found] == [f"w{i}" for i in order]
    np.testing.assert_allclose([cosine for _, cosine in found], [unit[i] @ unit[3] for i in order], atol=1e-6)
    wanted = unit[1] - unit[0] + unit[2]
    best = max((i for i in range(3, 40)), key=lambda i: unit[i] @ wanted)
    assert words.analogy("w0", "w1", "w2", 1)[0][0] == f"w{best}"
    assert words.near("W3", 4) == found
    assert len(words.near("w0", 1000)) == 39
    with pytest.raises(RequestError, match="none of the 40 words"):
        words.near("w99")


def fnv(letters: bytes) -> int:
    value = 2166136261
    for byte in letters:
        value = ((value ^ (byte - 256 if byte > 127 else byte) & 0xFFFFFFFF) * 16777619) & 0xFFFFFFFF
    return value


def test_subwords_are_fasttexts():
    assert fnv(b"foobar") == 0xBF9CF968  # Fowler, Noll & Vo's own test
    for shortest, longest in ((3, 6), (1, 2), (4, 4)):
        grams = Subwords(1000, shortest, longest)
        for name in ("where", "a", "", "éclair", "日本語"):
            spelled = f"<{name}>"
            wanted = [
                fnv(spelled[i : i + n].encode()) % 1000 for i in range(len(spelled)) for n in range(shortest, longest + 1)
                if i + n <= len(spelled) and not (n == 1 and (i == 0 or i + n == len(spelled)))
            ]  # fmt: skip
            assert grams.of(name).tolist() == wanted
    offsets, flat = Subwords(50).table(["where", "", "ab"])
    assert flat[offsets[2] : offsets[3]].tolist() == Subwords(50).of("ab").tolist()
    with pytest.raises(ValueError, match="buckets"):
        Subwords(0)


def test_unseen_words_have_vectors_of_their_subwords():
    grams, pieces = Subwords(64), vectors(64, 7)
    words = Words(NAMES, vectors(), subwords=grams, pieces=pieces)
    np.testing.assert_allclose(words.vector("kingly"), pieces[grams.of("kingly")].mean(0), rtol=1e-6)
    assert "kingly" not in words
    assert len(words.near("kingly", 3)) == 3
    with pytest.raises(RequestError, match="none of its pieces occurs"):
        Words(NAMES, vectors(), subwords=grams, pieces=0 * pieces).vector("kingly")
