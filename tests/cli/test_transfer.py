"""From a finished run to predictions, an exported model and a page, as a shell sees it."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selftaught.cli.predict import write

from .shell import asked, run


@pytest.fixture(scope="module")
def model(finished, tmp_path_factory):
    from selftaught.cli import main

    out = tmp_path_factory.mktemp("models") / "model"
    assert main(["finetune", str(finished), "digits", "--mode", "head", "--out", str(out), "-q"]) == 0
    return out


def test_finetune_says_what_it_scored_and_what_is_next(finished, tmp_path, capsys):
    words = ["finetune", str(finished), "digits", "--mode", "head", "--labels-per-class", "5", "-q"]
    code, result = asked(capsys, *words, "--out", str(tmp_path / "a"))
    assert code == 0
    assert result["rows"]["train"] + result["rows"]["validation"] == 50
    assert result["test"]["low"] <= result["test"]["accuracy"] <= result["test"]["high"]
    code, out, _ = run(capsys, *words, "--out", str(tmp_path / "b"))
    assert f"accuracy {result['test']['accuracy']:.3f}" in out
    assert f"next: selftaught predict {tmp_path / 'b'}" in out


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_predictions_are_the_same_in_every_kind_of_file(model, tmp_path, capsys, kind):
    out = tmp_path / f"p.{kind}"
    code, result = asked(capsys, "predict", str(model), "digits", "-o", str(out), "-q")
    assert (code, result["rows"]) == (0, 1797)
    if kind == "parquet":
        rows = pq.read_table(out).to_pylist()
    elif kind == "csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    _, screen = asked(capsys, "predict", str(model), "digits", "-q")
    assert [str(r["label"]) for r in rows] == [str(r["label"]) for r in screen]
    np.testing.assert_allclose([float(r["confidence"]) for r in rows], [r["confidence"] for r in screen])


def test_a_name_is_no_formula_in_a_spreadsheet(tmp_path):
    import pyarrow as pa

    write(pa.table({"name": ["=HYPERLINK(1)", "plain"], "label": ["-1+1", "a"]}), tmp_path / "p.csv")
    assert list(csv.reader((tmp_path / "p.csv").read_text().splitlines()))[1:] == [
        ["'=HYPERLINK(1)", "'-1+1"],
        ["plain", "a"],
    ]


def test_predictions_of_an_unknown_kind_or_of_a_run_that_has_no_head_are_refused(finished, model, tmp_path, capsys):
    assert run(capsys, "predict", str(model), "digits", "-o", str(tmp_path / "p.xlsx"))[0] == 2
    code, out, _ = run(capsys, "predict", str(finished), "digits", "--json")
    assert code == 4
    assert "finetune" in json.loads(out)["error"]["remedy"]


def test_an_export_is_measured_and_an_old_one_is_not_overwritten(finished, tmp_path, capsys):
    out, to = tmp_path / "exported", "onnx"
    code, result = asked(capsys, "export", str(finished), "--to", to, "-o", str(out), "--licence", "cc0-1.0")
    assert code == 0
    assert result["measured"]
    assert 'license: "cc0-1.0"' in (out / "README.md").read_text()
    code, refused = asked(capsys, "export", str(finished), "--to", to, "-o", str(out))
    assert code == 2
    assert "--overwrite" in refused["error"]["remedy"]
    assert asked(capsys, "export", str(finished), "--to", to, "-o", str(out), "--overwrite")[0] == 0


def test_a_report_begins_with_the_verdict_and_needs_no_network(finished, tmp_path, capsys):
    words = ["--budgets", "2", "--draws", "2", "--seeds", "1", "--controls", "raw", "-q"]
    _, result = asked(capsys, "evaluate", str(finished), "digits", *words)
    page = tmp_path / "page.html"
    code, printed = asked(capsys, "report", str(finished), "--out", str(page), "-q")
    assert (code, printed["report"]) == (0, str(page))
    text = page.read_text()
    assert result["verdict"]["sentence"][:40] in text
    assert not [scheme for scheme in ('src="http', "src='http", 'href="http', "@import", "url(http") if scheme in text]


def test_new_rows_of_another_size_are_predicted_too(model, tmp_path, capsys):
    folder = tmp_path / "new"
    folder.mkdir()
    for k in range(3):
        Image.fromarray(np.full((20 + k, 31), 80 * k, dtype=np.uint8)).save(folder / f"{k}.png")
    (folder / "broken.png").write_bytes(b"no image")
    code, rows = asked(capsys, "predict", str(model), str(folder), "-q")
    assert code == 0  # what cannot be read gets no prediction, and the others get theirs
    assert [r["name"].rsplit("/", 1)[-1] for r in rows] == ["0.png", "1.png", "2.png"]
    code, result = asked(capsys, "predict", str(model), str(folder), "-q", "-o", str(tmp_path / "p.csv"))
    assert (result["rows"], result["rejected"]) == (3, 1)
    assert asked(capsys, "predict", str(model), str(folder), "-q", "--max-bad", "0.1")[0] == 3


def test_an_encoder_is_handed_only_to_whom_can_run_it(finished, tmp_path, capsys):
    code, refused = asked(capsys, "export", str(finished), "--to", "torchvision", "-o", str(tmp_path / "x"))
    assert code == 2
    assert "resnet-small" in refused["error"]["message"]
    assert not (tmp_path / "x").exists()
