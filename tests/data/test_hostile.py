"""Hostile data files: each is refused or set apart, nothing runs, nothing outside is read, memory and time stay bounded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .hostile import build

ROOT = Path(__file__).parents[2]

SET_APART = {
    "absolute.tar": ["refused path"],
    "traversal.tar": ["refused path"],
    "symlink.tar": ["refused member"],
    "hardlink.tar": ["refused member"],
    "device.tar": ["refused member"],
    "fifo.tar": ["refused member"],
    "number.jsonl": ["not JSON"],
    "paths.csv": ["outside the data folder", "outside the data folder", "refused path"],
}
"""Files whose sound rows are used, and why the others are not."""
HARMLESS = {"dictionary.parquet": 4000, "nul.csv": 0}
"""Files that only look bad: rows read from them."""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("hostile")
    names = build(folder / "corpus")
    env = {**os.environ, "SELFTAUGHT_CACHE": str(folder / "cache"), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-W", "error", "-m", "tests.data.hostile", str(folder / "corpus"), *names]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout) | {"names": names, "folder": folder}


def test_the_corpus_is_large_and_every_file_was_tried(report):
    assert len(report["names"]) >= 40
    assert set(report["files"]) == set(report["names"])


def test_nothing_ran_and_nothing_was_written_beside(report):
    assert sorted(p.name for p in report["folder"].iterdir()) == ["cache", "corpus", "secret.png"]
    assert not Path("/tmp/escape.png").exists()


def test_nothing_outside_was_read(report):
    assert [name for name, end in report["files"].items() if end["leaked"]] == []


def test_memory_and_time_stay_bounded(report):
    assert report["most"] < 1 << 30
    assert [name for name, end in report["files"].items() if end["seconds"] > 20] == []


def test_each_file_ends_in_a_clear_error_or_is_set_apart(report):
    for name, end in report["files"].items():
        if name in SET_APART:
            assert end["error"] is None
            assert [reason.partition(":")[0] for reason in end["rejected"]] == SET_APART[name]
            assert end["rows"] >= 3
        elif name in HARMLESS:
            assert (end["error"], end["rows"], end["rejected"]) == (None, HARMLESS[name], [])
        elif name != "pictures":
            assert end["error"] is not None, name
            assert end["error"].startswith(("DataError", "RequestError")), name
            assert "\n  " in end["error"], f"{name}: no remedy"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bomb.csv.gz", "decompression bomb"),
        ("lines.txt.zst", "decompression bomb"),
        ("bomb.npz", "decompression bomb"),
        ("lists.parquet", "decompression bomb"),
        ("object.npy", "never read because they may run code"),
        ("pickle.pt", "never read because they may run code"),
        ("shape.npy", "100000000000000 bytes"),
        ("columns.csv", "1000000 columns"),
        ("dictionary.txt.xz", "Memory usage limit"),
        ("window.txt.zst", "too much memory"),
        ("pax.tar", "a header of 4294967296 bytes"),
        ("half.txt.gz", "ends early"),
        ("rows.parquet", "declares 30000000 rows"),
    ],
)
def test_errors_say_what_is_wrong(report, name, said):
    assert said in report["files"][name]["error"]


def test_hostile_pictures_are_each_set_apart_and_the_sound_ones_used(report):
    end = report["files"]["pictures"]
    assert end["rows"] == 4
    kinds = sorted(reason.partition(":")[0] for reason in end["rejected"])
    assert kinds == sorted(
        ["decompression bomb"] * 4 + ["not an image"] * 2 + ["outside the data folder"] * 3 + ["broken picture"] * 2
        + ["a link to a folder", "not a regular file", "unreadable"]
    )  # fmt: skip
