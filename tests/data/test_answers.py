"""Questions with answers: SQuAD's JSON, the hub's tables, starts that are wrong or missing."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selftaught.core import DataError, RequestError
from selftaught.data.answers import open_answers

TEXT = "Anna met Bob. Bob left."


def squad(path, qas, title="t"):
    path.write_text(
        json.dumps({"version": "2", "data": [{"title": title, "paragraphs": [{"context": TEXT, "qas": qas}]}]})
    )
    return path


def test_a_squad_file_with_questions_that_have_no_answer(tmp_path):
    qas = [
        {"id": "1", "question": "Who left?", "answers": [{"text": "Bob", "answer_start": 14}], "is_impossible": False},
        {"id": "2", "question": "Who came?", "answers": [], "is_impossible": True},
        {"id": "3", "question": "Who met?", "answers": [{"text": " Anna", "answer_start": 3}]},
    ]
    found = open_answers(squad(tmp_path / "a.json", qas))
    assert found.answers == [[("Bob", 14)], [], [("Anna", 0)]]
    assert found.ids == ["1", "2", "3"]
    assert found.groups.tolist() == [0, 0, 0]
    assert any("1 of them without" in note for note in found.notes)
    assert any("1 answers did not begin" in note for note in found.notes)
    assert [len(a) for a in open_answers(tmp_path / "a.json", answered=False).answers] == [0, 0, 0]


def test_an_answer_that_is_not_in_its_text_is_set_apart(tmp_path):
    qas = [{"question": "?", "answers": [{"text": t, "answer_start": 0}]} for t in ("Anna", "Carl")]
    found = open_answers(squad(tmp_path / "a.json", qas), max_bad=0.5)
    assert len(found) == 1
    assert "not in its text" in found.rejected[0]["reason"]
    with pytest.raises(DataError):
        open_answers(tmp_path / "a.json")


def test_tables_as_the_hub_and_people_write_them(tmp_path):
    hub = {"context": [TEXT, TEXT], "question": ["a?", "b?"], "answers": [{"text": ["Bob"], "answer_start": [9]}, {"text": [], "answer_start": []}]}  # fmt: skip
    pq.write_table(pa.table(hub), tmp_path / "hub.parquet")
    assert open_answers(tmp_path / "hub.parquet").answers == [[("Bob", 9)], []]
    pq.write_table(pa.table({"context": [TEXT], "question": ["a?"], "answer": ["Bob"], "answer_start": [14]}), tmp_path / "flat.parquet")  # fmt: skip
    assert open_answers(tmp_path / "flat.parquet").answers == [[("Bob", 14)]]
    (tmp_path / "plain.csv").write_text(f'context,question,answer\n"{TEXT}",who?,Bob\nOther text.,who?,\n')
    found = open_answers(tmp_path / "plain.csv")
    assert found.answers == [[("Bob", 9)], []]
    assert len(set(found.groups.tolist())) == 2
    line = {"passage": TEXT, "question": "?", "answers": [{"text": "left", "start": 18}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(line) + "\n")
    assert open_answers(tmp_path / "a.jsonl", contexts="passage").answers == [[("left", 18)]]


def test_requests_that_have_no_answer_say_why(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\nsome text,other text\nmore words,and so on\n")
    with pytest.raises(RequestError, match="looks like texts"):
        open_answers(tmp_path / "x.csv")
    broken = tmp_path / "b.json"
    broken.write_text('{"data": [{"title": "t", "paragraphs": [{"context": "c"}]}]}')
    with pytest.raises(DataError, match="no SQuAD file"):
        open_answers(broken)
    with pytest.raises(RequestError, match="no columns"):
        open_answers(squad(tmp_path / "c.json", [{"question": "?", "answers": []}]), contexts="context")
