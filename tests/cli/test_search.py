"""Searching, tagging and pseudo-labels as a shell sees them."""

import csv

import numpy as np
from PIL import Image

from .shell import asked, run


def test_search_in_data_and_in_what_embed_wrote(finished, tmp_path, capsys):
    assert run(capsys, "embed", str(finished), "digits", "-o", str(tmp_path / "e.parquet"), "-q")[0] == 0
    answers = [asked(capsys, "search", str(finished), data, "row:3", "row:8", "-k", "4", "-q") for data in ("digits", str(tmp_path / "e.parquet"))]  # fmt: skip
    assert [code for code, _ in answers] == [0, 0]
    assert answers[0][1] == answers[1][1]
    first, second = answers[0][1]["queries"]
    assert len(first["hits"]) == len(second["hits"]) == 4
    assert 3 not in [hit["row"] for hit in first["hits"]]
    scores = [hit["score"] for hit in first["hits"]]
    assert scores == sorted(scores, reverse=True)
    code, out, _ = run(capsys, "search", str(finished), "digits", "row:3", "-k", "2", "-q")
    assert code == 0
    assert f"  {scores[0]:+.3f}  {first['hits'][0]['name']}" in out
    code, error = asked(capsys, "search", str(finished), "digits", "nothing.png", "-q")
    assert code == 2
    assert "nothing.png" in error["error"]["message"]


def test_tags_in_a_table_beside_pictures(finished, tmp_path, capsys):
    """Pictures with a table that names several labels for each, divided by bars."""
    generator = np.random.default_rng(0)
    rows = []
    for k in range(60):
        bright, wide = k % 2 == 0, k % 3 == 0
        x = generator.integers(0, 40, (8, 8)) + 120 * bright
        x[:, 3:5] = 255 if wide else x[:, 3:5]
        Image.fromarray(x.astype(np.uint8)).save(tmp_path / f"{k:02d}.png")
        rows.append((f"{k:02d}.png", "|".join(["bright"] * bright + ["wide"] * wide) or "[]"))
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file_name", "tags"), *rows])
    words = ["finetune", str(finished), str(tmp_path), "--labels", "tags", "--task", "multilabel", "--mode", "head"]
    code, out, err = run(capsys, *words, "--balance", "--out", str(tmp_path / "m"))
    assert code == 0
    assert "text divided at '|': 2 classes" in err
    assert "a label is given from a probability of" in out
    assert "map: " in out
    code, done = asked(capsys, "predict", str(tmp_path / "m"), str(tmp_path), "-o", str(tmp_path / "p.csv"), "-q")
    assert (code, done["rows"]) == (0, 60)
    with open(tmp_path / "p.csv", newline="") as file:
        got = [set(filter(None, row["label"].split("; "))) for row in csv.DictReader(file)]
    truth = [set(filter(None, tags.strip("[]").split("|"))) for _, tags in rows]
    assert np.mean([a == b for a, b in zip(got, truth, strict=True)]) > 0.8


def test_rounds_of_pseudo_labels_are_told(finished, tmp_path, capsys):
    words = ["finetune", str(finished), "digits", "--mode", "head", "--labels-per-class", "5", "--unlabelled", "digits", "--rounds", "1"]  # fmt: skip
    code, out, _ = run(capsys, *words, "--confidence", "0.2", "--out", str(tmp_path / "m"), "-q")
    assert code == 0
    assert "rows without labels; round" in out
    assert "round 1:" in out
    assert "of those whose label is known are right" in out
    code, error = asked(capsys, *words, "--confidence", "2", "--out", str(tmp_path / "n"), "-q")
    assert code == 2
    assert "no probability" in error["error"]["message"]
