"""Commands as a shell sees them: stdout, stderr, exit codes, and the JSON that other programs read."""

import dataclasses
import json
import subprocess
import sys
import time

import pytest

from selftaught import cli, methods
from selftaught.cli import main, pretrain

from .shell import TINY, asked, run


def test_pretrain_prints_the_promised_keys(tmp_path, capsys):
    code, result = asked(capsys, "pretrain", "digits", *TINY, "--steps", "2", "--out", str(tmp_path / "run"), "-q")
    assert code == 0
    promised = (
        "run method encoder steps examples seconds examples_per_second data_wait loss alarms rejected resumed_from_step"
    )
    assert set(promised.split()) <= result.keys()
    assert (result["steps"], result["examples"], result["resumed_from_step"]) == (2, 128, 0)


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path, capsys):
    (tmp_path / "c.toml").write_text("method = 'simclr'\nsteps = 5\nseed = 3\n[options]\ntemperature = 0.7\n")
    out = tmp_path / "run"
    words = [
        "pretrain",
        "digits",
        *TINY[2:],
        "--config",
        str(tmp_path / "c.toml"),
        "--steps",
        "1",
        "--out",
        str(out),
        "-q",
    ]
    assert main(words) == 0
    text = (out / "config.toml").read_text()
    assert "steps = 1" in text
    assert "seed = 3" in text
    assert "temperature = 0.7" in text


@pytest.mark.parametrize(
    ("words", "code", "kind", "says"),
    [
        (["pretrain", "digits", "--method", "simclrr"], 2, "request", "simclr"),
        (["pretrain", "no/such/place"], 3, "data", "no/such/place"),
        (["pretrain", "digits", "--steps", "3", "--minutes", "1", "--method", "simclr"], 2, "request", "--minutes"),
        (["pretrain", "--resume", "no/such/run"], 4, "model", "no/such/run"),
        (["embed", "no/such/run", "digits"], 4, "model", "no/such/run"),
        (
            ["pretrain", "digits", "--method", "next-token", "--encoder", "resnet-small", "--steps", "1"],
            2,
            "request",
            "resnet-small",
        ),
        (["pretrain", "digits", "--set", "nonsense"], 2, "request", "nonsense"),
        (["pretrain", "digits", "--modality", "smell"], 2, "request", "smell"),
        (["nonsense"], 2, "request", "nonsense"),
    ],
)
def test_wrong_requests_end_in_words_and_a_code(tmp_path, monkeypatch, capsys, words, code, kind, says):
    monkeypatch.chdir(tmp_path)
    found, result = asked(capsys, *words)
    assert found == code
    assert result["error"]["kind"] == kind
    assert says in result["error"]["message"] + result["error"]["remedy"]


def test_methods_prints_the_grid(capsys):
    code, grid = asked(capsys, "methods")
    assert code == 0
    names = {row["name"]: row for row in grid}
    assert {
        "simclr",
        "byol",
        "swav",
        "mae",
        "rotation",
        "next-token",
        "masked-token",
        "sparse-manifold",
    } <= names.keys()
    assert {"name", "family", "paper", "modalities", "needs", "closed_form"} <= names["simclr"].keys()
    assert names["rotation"]["modalities"] == ["image"]
    assert names["sparse-manifold"]["closed_form"]


def test_evaluate_embed_and_runs_on_a_finished_run(finished, tmp_path, capsys):
    words = [
        "evaluate",
        str(finished),
        "digits",
        "--labels",
        "label",
        "--budgets",
        "2",
        "--draws",
        "3",
        "--seeds",
        "1",
        "--controls",
        "raw",
    ]
    code, result = asked(capsys, *words, "-q")
    assert code == 0
    assert {
        "task",
        "metric",
        "rows",
        "differences",
        "smallest_visible_difference",
        "leakage",
        "verdict",
    } <= result.keys()
    assert result["verdict"]["answer"] in ("helped", "hurt", "cannot tell")
    keys = {"features", "probe", "layer", "labels_per_class", "mean", "low", "high", "draws", "seeds"}
    assert all(keys <= row.keys() for row in result["rows"])
    code, table = asked(capsys, "embed", str(finished), "digits", "-o", str(tmp_path / "e.parquet"), "-q")
    assert (code, table["rows"], table["dimensions"]) == (0, 1797, 8)
    code, rows = asked(capsys, "runs", str(finished.parent))
    assert (code, rows[0]["state"], rows[0]["verdict"]) == (0, "done", result["verdict"]["answer"])


def test_look_says_what_it_is_and_what_to_run(capsys):
    code, facts = asked(capsys, "look", "digits", "-q")
    assert code == 0
    assert (facts["modality"], facts["rows"], facts["labels"]["column"]) == ("image", 1797, "label")
    assert facts["suggestion"]["seconds"] > 0


def test_help_and_completion_know_every_command(capsys):
    for name in cli.COMMANDS:
        with pytest.raises(SystemExit) as left:
            main([name, "--help"])
        assert left.value.code == 0
        assert f"selftaught {name}" in capsys.readouterr().out
    for shell in ("bash", "zsh", "fish"):
        _, script, _ = run(capsys, "completion", shell)
        assert all(name in script for name in cli.COMMANDS)
        assert "resume" in script
    _, _, _ = run(capsys, "--version")


def test_the_chosen_methods_options_are_flags(capsys):
    with pytest.raises(SystemExit):
        main(["pretrain", "--method", "simclr", "--help"])
    assert "--temperature" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["pretrain", "--method", "rotation", "--help"])
    assert "--temperature" not in capsys.readouterr().out


def test_no_option_of_a_method_is_also_a_flag_of_pretrain():
    """One word for both would set both: --steps 60 of a run is not how far a method looks ahead.  Epochs mean the same to either."""
    flags = {f.name for f in dataclasses.fields(pretrain.Arguments)}
    clashes = {name: {f.name for f in dataclasses.fields(methods.find(name))} & flags for name in methods.names()}
    assert {name: found - {"epochs"} for name, found in clashes.items() if found - {"epochs"}} == {}


def test_sigterm_saves_and_leaves_and_the_run_goes_on(tmp_path):
    out = tmp_path / "run"
    words = [
        sys.executable,
        "-m",
        "selftaught",
        "pretrain",
        "digits",
        *TINY,
        "--steps",
        "100000",
        "--out",
        str(out),
        "--json",
        "-q",
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.terminate()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    result = json.loads(printed)
    assert not result["finished"]
    assert result["steps"] > 0
    assert json.loads((out / "status.json").read_text())["state"] == "interrupted"
    assert list((out / "checkpoints").glob("step-*"))


def test_compare_prints_the_promised_shape_and_writes_a_page(tmp_path, capsys):
    out = tmp_path / "comparison"
    words = [
        "compare",
        "digits",
        "--labels",
        "label",
        "--steps",
        "2",
        "--choose-with",
        "60",
        "--draws",
        "2",
        "--out",
        str(out),
        "-q",
    ]
    code, result = asked(capsys, *words, "--methods", "rotation simclr:temperature=0.5")
    assert code == 0
    assert {row["method"] for row in result["rows"]} == {"rotation", "simclr:temperature=0.5", "raw", "untrained"}
    assert {"method", "sentence"} <= result["recommendation"].keys()
    assert (out / "compare.html").read_text().startswith("<!doctype html>")
    code, text, _ = run(capsys, *words, "--methods", "rotation simclr:temperature=0.5")
    assert code == 0
    assert text.rstrip().splitlines()[-3].startswith("Take ")


def test_compare_says_what_is_wrong_before_it_trains(tmp_path, capsys):
    code, out, err = run(capsys, "compare", "digits", "--methods", "simclear", "--out", str(tmp_path / "c"), "-q")
    assert code == 2
    assert "simclr" in err
    assert not out
    assert not (tmp_path / "c").exists()
