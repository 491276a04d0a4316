"""A folder with every twentieth file broken: an error before training, or a run that counts them."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from .shell import TINY, asked


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """95 pictures and five that are none."""
    place = tmp_path_factory.mktemp("data") / "pictures"
    place.mkdir()
    rng = np.random.default_rng(0)
    for k in range(95):
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(place / f"{k:03}.png")
    whole = (place / "000.png").read_bytes()
    (place / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (place / "empty.jpg").write_bytes(b"")
    (place / "words.png").write_text("I am no picture")
    (place / "header.png").write_bytes(whole[:16] + b"\xff\xff\xff\xff" + whole[20:])
    os.symlink(place / "nowhere.png", place / "dangling.png")
    return place


def test_too_many_broken_rows_are_an_error_before_training(folder, tmp_path, capsys):
    code, result = asked(capsys, "pretrain", str(folder), *TINY, "--steps", "1", "--out", str(tmp_path / "run"), "-q")
    assert code == 3
    assert "--max-bad" in result["error"]["remedy"]
    assert not (tmp_path / "run").exists()


def test_a_run_that_allows_them_counts_them_and_says_why(folder, tmp_path, capsys):
    words = ["--steps", "1", "--max-bad", "0.06", "--out", str(tmp_path / "run"), "-q"]
    code, result = asked(capsys, "pretrain", str(folder), *TINY, *words)
    assert (code, result["rejected"], result["finished"]) == (0, 5, True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "rejected.jsonl").read_text().splitlines()]
    assert {row["name"].rsplit("/", 1)[-1] for row in rows} == {
        "truncated.png", "empty.jpg", "words.png", "header.png", "dangling.png"
    }  # fmt: skip
    assert all(row["reason"] for row in rows)
    assert json.loads((tmp_path / "run" / "data.json").read_text())["rows"] == 95
