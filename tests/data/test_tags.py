"""Words with tags: CoNLL files of any shape, tables, and how spans are written."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.core import DataError, RequestError
from selftaught.data.tags import open_tags, scheme_of, to_iob2
from selftaught.measures.tags import spans


def written(path, text):
    path.write_text(text, "utf-8")
    return path


def test_a_conll_file_with_documents_and_more_columns(tmp_path):
    text = "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\n# O B-NP O\n\n-DOCSTART- -X- O O\n\nAnna NNP B-NP I-PER\n"
    found = open_tags(written(tmp_path / "a.conll", text))
    assert found.words == [("EU", "rejects"), ("#",), ("Anna",)]
    assert found.tags == [("B-ORG", "O"), ("O",), ("B-PER",)]
    assert found.scheme == "IOB2"
    assert found.groups.tolist() == [1, 1, 2]
    chunks = open_tags(tmp_path / "a.conll", tags="3")
    assert chunks.tags[0] == ("B-NP", "B-VP")
    assert open_tags(tmp_path / "a.conll", tags="2").scheme == "plain"
    assert open_tags(tmp_path / "a.conll", tagged=False).tags[0] == (None, None)


def test_conll_u_and_windows_lines(tmp_path):
    rows = ["# text = Vámonos ya", "1-2\tVámonos" + "\t_" * 8, "1\tVamos\tir\tVERB" + "\t_" * 6, "2\tnos\tnos\tPRON" + "\t_" * 6, "3\tya\tya\tADV" + "\t_" * 6, ""]  # fmt: skip
    found = open_tags(written(tmp_path / "a.conllu", "\r\n".join(rows)))
    assert found.words == [("Vamos", "nos", "ya")]
    assert found.tags == [("VERB", "PRON", "ADV")]
    assert found.scheme == "plain"


def test_lines_of_another_width_are_set_apart(tmp_path):
    good = "".join(f"w{n} O\n\n" for n in range(99))
    path = written(tmp_path / "a.conll", good + "a B-x\nb\n\nc B-x\n")
    assert len(open_tags(path, max_bad=0.5)) == 100
    assert open_tags(path, max_bad=0.5).rejected[0]["reason"].startswith("wrong number of columns")
    with pytest.raises(DataError, match="apart"):
        open_tags(path, max_bad=0.001)
    with pytest.raises(RequestError, match="no column"):
        open_tags(path, tags="3")


def test_tables_of_lists_names_of_numbers_and_gaps(tmp_path):
    held = pa.table({"tokens": [["a", "b"], ["c"], ["d", "e"], []], "ner_tags": [[0, 1], [2], [0], [0]]})
    about = {"info": {"features": {"ner_tags": {"feature": {"names": ["O", "B-x", "I-x"], "_type": "ClassLabel"}}}}}
    pq.write_table(held.replace_schema_metadata({"huggingface": json.dumps(about)}), tmp_path / "a.parquet")
    found = open_tags(tmp_path / "a.parquet", max_bad=1)
    assert found.tags == [("O", "B-x"), ("B-x",)]
    assert found.rows.tolist() == [0, 1]
    assert [r["reason"].partition(":")[0] for r in found.rejected] == ["words and tags differ in number", "no words"]
    assert any("1 tags did not fit" in note for note in found.notes)
    lines = [{"words": ["a", "b"], "pos": ["N", None], "doc": "u"}, {"words": "c d", "pos": "['V', 'N']", "doc": "u"}]
    path = written(tmp_path / "b.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    plain = open_tags(path, group="doc")
    assert plain.tags == [("N", None), ("V", "N")]
    assert plain.groups.tolist() == [0, 0]
    with pytest.raises(RequestError, match="looks like tags"):
        open_tags(written(tmp_path / "c.jsonl", '{"words": ["a"], "other": 1}\n'))
    with pytest.raises(DataError, match="No word has a tag"):
        open_tags(written(tmp_path / "d.jsonl", '{"words": ["a"], "tags": [null]}\n'))


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["O B-x I-x", "B-y O"], "IOB2"), (["I-x I-x O", "I-x B-x"], "IOB1"), (["I-x O"], "IOB1"), (["B-x I-x", "I-x O", "B-y O"], "IOB2"), (["S-x O B-x E-x"], "IOBES"),
        (["U-x O B-x L-x"], "BILOU"), (["NOUN VERB"], "plain"), (["O O PER O", "O"], "IO"), (["B I O"], "IOB2"),
    ],
)  # fmt: skip
def test_how_spans_are_written_is_recognised(sentences, scheme):
    assert scheme_of([s.split() for s in sentences]) == scheme


WORDS = st.lists(st.sampled_from("xyO"), min_size=1, max_size=8)


def coded(runs: list[tuple[str, int]], scheme: str) -> list[str]:
    """Spans of these (type, length), "O" being none, as a scheme writes them."""
    out, before = [], "O"
    for kind, length in runs:
        if kind == "O":
            out += ["O"] * length
        elif scheme == "IOB2":
            out += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
        elif scheme == "IOB1":
            out += [f"{'B' if before == kind else 'I'}-{kind}"] + [f"I-{kind}"] * (length - 1)
        else:
            one, last = ("S", "E") if scheme == "IOBES" else ("U", "L")
            out += [f"{one}-{kind}"] if length == 1 else [f"B-{kind}", *[f"I-{kind}"] * (length - 2), f"{last}-{kind}"]
        before = kind
    return out


@given(st.lists(st.tuples(st.sampled_from("xyO"), st.integers(1, 3)), min_size=1, max_size=6))
def test_every_scheme_gives_the_same_spans(runs):
    wanted = coded(runs, "IOB2")
    for scheme in ("IOB1", "IOBES", "BILOU"):
        tags, wrong = to_iob2(coded(runs, scheme), scheme)
        assert (list(tags), wrong) == (wanted, 0)
    starts = np.cumsum([0] + [n for _, n in runs])
    assert spans(wanted) == [(k, s, s + n) for (k, n), s in zip(runs, starts.tolist()) if k != "O"]


def test_what_fits_no_scheme_is_counted_and_begins_a_span():
    assert to_iob2(["O", "I-x", "I-x", "B-y", "I-x"], "IOB2") == (("O", "B-x", "I-x", "B-y", "B-x"), 2)
    assert to_iob2(["S-x", "I-x", "E-x"], "IOBES") == (("B-x", "B-x", "I-x"), 1)
    assert to_iob2(["I-x", "I-y", "I-y"], "IOB1") == (("B-x", "B-y", "I-y"), 0)
    assert to_iob2(["x", "x", "O", None, "x"], "IO") == (("B-x", "I-x", "O", None, "B-x"), 0)
