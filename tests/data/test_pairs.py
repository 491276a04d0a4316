"""Pairs of texts, from tables and parallel files: what is guessed, what is set apart, what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selftaught.core import DataError, RequestError
from selftaught.data.opening import open_source
from selftaught.data.pairs import open_pairs, open_sources
from selftaught.modalities.text import Text

ENGLISH = ["a dog runs over the green grass", "two cats sit on a wall", "a man reads a book", "the red bird sings"]
GERMAN = ["ein Hund rennt", "zwei Katzen sitzen", "ein Mann liest", "der rote Vogel singt"]


@pytest.fixture(scope="module")
def text():
    source = open_source({"text": ENGLISH + GERMAN})
    return Text.fit(source, "text", size=16)


def both(pairs):
    places = np.arange(len(pairs))
    return list(zip(pairs.texts(places), pairs.truth(places)))


def test_a_table_two_files_and_a_folder_give_the_same_pairs(text, tmp_path):
    wanted = list(zip(ENGLISH, GERMAN))
    pq.write_table(pa.table({"en": ENGLISH, "de": GERMAN, "n": [1, 2, 3, 4]}), tmp_path / "t.parquet")
    (tmp_path / "p").mkdir()
    for name, lines in (("train.en", ENGLISH), ("train.de", GERMAN)):
        (tmp_path / "p" / name).write_text("\n".join(lines) + "\n")
    named = {"source": "en", "target": "de"}
    assert both(open_pairs(tmp_path / "t.parquet", text, **named)) == wanted
    assert both(open_pairs(f"{tmp_path}/p/train.en,{tmp_path}/p/train.de", text, **named)) == wanted
    assert both(open_pairs(tmp_path / "p", text, **named)) == wanted
    assert both(open_pairs({"en": ENGLISH, "de": GERMAN}, text, **named)) == wanted
    pairs = open_pairs(tmp_path / "p", text, **named)
    source, target = pairs.subset(np.array([2, 0])).fetch(np.array([1]))
    assert text.text_of(source["ids"][0]) == ENGLISH[0]
    assert text.text_of(target["ids"][0]) == GERMAN[0]
    assert pairs.lengths().tolist() == [[len(text.decode(e)), len(text.decode(g))] for e, g in wanted]


def test_the_longer_column_is_the_source_and_that_is_said(text):
    said = []
    pairs = open_pairs({"title": GERMAN, "body": ENGLISH}, text, say=said.append)
    assert (pairs.sources.column, pairs.targets.column) == ("body", "title")
    assert said == ["data in memory: 4 pairs, from 'body' to 'title'."]
    assert open_pairs({"title": GERMAN, "body": ENGLISH}, text, target="body").sources.column == "title"


def test_a_blank_line_keeps_the_files_in_step(text, tmp_path):
    """In a corpus blank lines are no rows; here they would shift every pair behind them."""
    (tmp_path / "a.txt").write_text("\n".join([ENGLISH[0], "", ENGLISH[2], ENGLISH[3]]))
    (tmp_path / "b.txt").write_bytes("\n".join(GERMAN[:3]).encode() + b"\n\xff\xfe broken\n")
    spec = f"{tmp_path}/a.txt,{tmp_path}/b.txt"
    with pytest.raises(DataError, match="Of 4 pairs of 'a' and 'b', 2 cannot be used"):
        open_pairs(spec, text, source="a", target="b")
    said = []
    pairs = open_pairs(spec, text, source="a", target="b", max_bad=0.5, say=said.append)
    assert both(pairs) == [(ENGLISH[0], GERMAN[0]), (ENGLISH[2], GERMAN[2])]
    assert said[1] == "2 of 4 pairs set apart: a side is empty or cannot be read"
    assert open_sources(spec, text, source="a").texts(np.arange(3)) == [ENGLISH[0], ENGLISH[2], ENGLISH[3]]


def test_what_does_not_belong_together_is_refused(text, tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("eins\n")
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(DataError, match=r"'a.txt' has 2 lines, 'b.txt' 1"):
        open_pairs(f"{tmp_path}/a.txt,{tmp_path}/b.txt", text)
    with pytest.raises(DataError, match="is empty"):
        open_pairs(f"{tmp_path}/a.txt,{tmp_path}/c.txt", text)
    with pytest.raises(RequestError, match="does not say which column holds the targets"):
        open_pairs({"a": ENGLISH, "b": GERMAN, "c": ENGLISH[::-1]}, text, source="a")
    with pytest.raises(RequestError, match="named as source and as target"):
        open_pairs({"a": ENGLISH, "b": GERMAN}, text, source="a", target="a")
    with pytest.raises(RequestError, match="'n' of data in memory holds integer, not text"):
        open_pairs({"a": ENGLISH, "n": [1, 2, 3, 4]}, text, source="a", target="n")
    with pytest.raises(RequestError, match="Did you mean 'de'"):
        open_pairs({"en": ENGLISH, "de": GERMAN}, text, source="en", target="dee")
