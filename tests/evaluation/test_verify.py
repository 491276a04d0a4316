"""Speaker verification: trials fixed beforehand, speakers never fitted, controls beside, and speakers named rather than compared."""

import json

import numpy as np
import pytest

from selftaught.cli import main
from selftaught.core import DataError, RequestError
from selftaught.core.listener import Listener
from selftaught.data import Dataset
from selftaught.evaluation import evaluate, finetune
from selftaught.evaluation.opening import open_dataset, open_encoders
from selftaught.evaluation.verify import draw_pairs, prepare, verify
from selftaught.train.finetune import Plan

from . import tones


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    root = tmp_path_factory.mktemp("verify")
    tones.run_folder(root / "run", kind="sound-conv")
    tones.voices(root / "voices.parquet")
    tones.voices(root / "others.parquet", speakers=3, seed=9)
    return root


def opened(work, name: str = "voices.parquet") -> Dataset:
    return open_dataset(work / name, open_encoders(work / "run")[1], Listener())


def test_trials_are_a_function_of_the_seed_and_balanced():
    speakers = np.repeat([3, 5, 9], [10, 4, 6])
    one, two, other = draw_pairs(speakers, seed=0), draw_pairs(speakers, seed=0), draw_pairs(speakers, seed=1)
    assert np.array_equal(one.places, two.places)
    assert not np.array_equal(one.places, other.places)
    same = one.speakers[:, 0] == one.speakers[:, 1]
    assert same.sum() == 45 + 6 + 15 == (~same).sum()
    assert (one.places[:, 0] != one.places[:, 1]).all()
    assert len(np.unique(np.sort(one.places, 1), axis=0)) == len(one.places)
    codes = np.searchsorted([3, 5, 9], speakers)
    assert np.array_equal(codes[one.places], one.speakers)
    names = [str(k) for k in range(20)]
    assert one.digest(names) == two.digest(names) != other.digest(names)


def test_large_sets_give_as_many_trials_as_asked_for():
    speakers = np.repeat(np.arange(30), 20)
    found = draw_pairs(speakers, seed=0, most=400)
    same = found.speakers[:, 0] == found.speakers[:, 1]
    assert same.sum() == 200
    assert (~same).sum() == 200
    assert len(np.unique(found.speakers[same, 0])) == 30


@pytest.mark.parametrize("speakers", [[0, 0, 0], [0, 1, 2]])
def test_what_makes_no_trials_is_refused(speakers):
    with pytest.raises(DataError, match="trials"):
        draw_pairs(np.array(speakers), seed=0)


def test_speakers_of_trials_are_fitted_by_nothing(work):
    problem = prepare(opened(work), None, "speaker", 0, Listener())
    fitted = set(problem.pool.values("speaker").tolist())
    tested = set(problem.test.values("speaker").tolist())
    assert not fitted & tested
    assert len(tested) == problem.trials.count == 4
    names = problem.test.values("speaker")
    assert all((names[a] == names[b]) == (s == t) for (a, b), (s, t) in zip(problem.trials.places, problem.trials.speakers))  # fmt: skip


def test_speakers_of_a_test_set_are_left_out_of_what_is_fitted(work, tmp_path):
    held = opened(work)
    some = held.subset(held.values("speaker") == "v1")
    with pytest.raises(DataError, match="two speakers"):
        prepare(held, some, "speaker", 0, Listener())
    several = held.subset(np.isin(held.values("speaker"), ["v1", "v2"]))
    problem = prepare(held, several, "speaker", 0, Listener())
    assert not set(problem.pool.values("speaker").tolist()) & {"v1", "v2"}


def test_verification_beside_its_controls(work, capsys):
    argv = ["evaluate", str(work / "run"), str(work / "voices.parquet"), "--task", "verify", "--group", "speaker", "--seeds", "2", "--json", "--quiet"]  # fmt: skip
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {(r["features"], r["probe"]): r for r in found["rows"]}
    assert {("pretrained", "cosine"), ("untrained", "cosine"), ("raw", "cosine"), ("raw", "discriminant")} <= set(rows)
    assert rows["untrained", "cosine"]["seeds"] == 2
    assert all(0 <= r["low"] <= r["mean"] <= r["high"] for r in found["rows"])
    assert rows["raw", "cosine"]["mean"] < 0.4  # a timbre shows in the energies of the bands
    assert found["verdict"]["answer"] in ("helped", "hurt", "cannot tell")
    assert "held-out speakers" in found["verdict"]["sentence"]
    listed = (work / "run" / "verification-trials.tsv").read_text().splitlines()
    assert len(listed) == 1 + found["trials"]["count"]
    assert sum(line.endswith("\t1") for line in listed) == found["trials"]["of_one_speaker"]
    again, _ = verify(work / "run", work / "voices.parquet", group="speaker", seeds=1)
    assert again["trials"]["hash"] == found["trials"]["hash"]


def test_few_speakers_and_no_column_are_said(work):
    with pytest.raises(DataError, match="3 speakers"):
        verify(work / "run", work / "others.parquet", group="speaker")
    with pytest.raises(RequestError, match="column of"):
        verify(work / "run", work / "voices.parquet", group="who")


def test_two_tested_speakers_give_no_verdict(work):
    """A resampling of two speakers holds both or no trial of different ones: its spread is nothing, and was once called certain."""
    held = opened(work)
    two = held.subset(np.isin(held.values("speaker"), ["v1", "v2"]))
    found, _ = verify(work / "run", held, test=two, group="speaker", seeds=1)
    assert found["verdict"]["answer"] == "cannot tell"
    assert "Two speakers give no interval" in found["verdict"]["sentence"]
    assert all((r["low"], r["high"]) == (0.0, 1.0) for r in found["rows"])
    assert all((d["low"], d["high"]) == (-1.0, 1.0) for d in found["differences"])


def test_naming_speakers_is_classification_split_by_recording(work):
    plan = Plan(epochs=12, batch=16, lr=4e-3, layer_decay=1.0)
    found = finetune(work / "run", work / "voices.parquet", labels="speaker", group="recording", plan=plan)
    assert found.result["task"] == "classify"
    assert len(found.task.classes) == 8
    result = evaluate(work / "run", work / "voices.parquet", labels="speaker", group="recording", draws=1, seeds=1, controls=("raw", "untrained"))  # fmt: skip
    assert result["rows"]
    with pytest.raises(RequestError, match="cannot be the group"):
        evaluate(work / "run", work / "voices.parquet", labels="speaker", group="speaker")


def test_what_is_told_apart_is_no_group(work):
    """Without being told, speakers would be the group, and each class on one side of the split."""
    held = opened(work)
    assert held.groups() is not None
    assert len(np.unique(held.groups(but="speaker"))) == 24  # the recordings
