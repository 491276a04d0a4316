"""Hostile model folders: nothing runs, memory stays small, each ends in a clear error within 20 seconds."""

import json
import os
import subprocess
import sys

import pytest

from . import corpus


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> dict:
    root = tmp_path_factory.mktemp("corpus")
    canary = root / "canary"
    for number, (_, write) in enumerate(corpus.CASES.values()):
        folder = root / str(number)
        folder.mkdir()
        write(folder, canary)
    assert not canary.exists()
    ran = subprocess.run(
        [sys.executable, "-m", "tests.nets.corpus", str(root)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout.splitlines()[-1]) | {"canary": canary.exists()}


def test_the_corpus_is_wide():
    assert len(corpus.CASES) >= 60


def test_nothing_runs_and_nothing_is_fetched(result):
    assert not result["canary"]
    assert result["reached"] == []


def test_memory_stays_under_a_gibibyte(result):
    assert result["peak"] < 1 << 30


@pytest.mark.parametrize("name", list(corpus.CASES))
def test_it_ends_in_a_clear_error_in_time(result, name):
    case = result["cases"][name]
    assert case["kind"] == "clear", case
    assert 20 < len(case["error"]) < 1500
    assert case["seconds"] < 20
