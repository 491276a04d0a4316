"""Transcripts and frame labels from a run to predictions: CTC learns to spell tones; what cannot be learned is counted; models come back whole."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from selftaught.cli import main
from selftaught.core import DataError, ModelError, RequestError
from selftaught.core.listener import Listener
from selftaught.evaluation import clip_data, evaluate, finetune, load_model, predict
from selftaught.evaluation.clip_curve import clip_curve
from selftaught.evaluation.clips import ClipFinetuned, finetune_clips
from selftaught.train.finetune import Plan

from . import tones

SPELL = Plan(epochs=1, steps=80, batch=16, lr=4e-3, layer_decay=1.0)
LABEL = Plan(epochs=1, steps=48, batch=16, lr=4e-3, layer_decay=1.0)
SHORT = Plan(epochs=1, steps=2, batch=16)


class Notes(Listener):
    def __init__(self):
        self.said: list[str] = []
        self.progressed: list[str] = []

    def say(self, text):
        self.said.append(text)

    def progress(self, stage, done, total, note=""):
        self.progressed.append(note)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    tones.run_folder(root / "run")
    tones.table(root / "clips.parquet", 80)
    tones.table(root / "more.parquet", 20, seed=1)
    return root


@pytest.fixture(scope="module")
def heard():
    return Notes()


@pytest.fixture(scope="module")
def models(work, heard):
    spelled = finetune_clips(
        work / "run", work / "clips.parquet", task="transcribe", test=work / "more.parquet", plan=SPELL, out=work / "speller", listener=heard
    )  # fmt: skip
    labelled = finetune_clips(
        work / "run", work / "clips.parquet", task="frames", labels="label", test=work / "more.parquet", plan=LABEL, out=work / "labeller"
    )  # fmt: skip
    return {"transcribe": spelled, "frames": labelled}


def test_ctc_learns_to_spell_tones(models, heard):
    result = models["transcribe"].result
    assert result["test"]["CER"] < 0.1
    assert (result["task"], result["metric"], result["lower_is_better"], result["normaliser"]) == ("transcribe", "WER", True, "simple")  # fmt: skip
    assert result["test"]["low"] <= result["test"]["WER"] <= result["test"]["high"]
    assert result["blind"][0]["name"] == "write nothing"
    assert result["blind"][0]["WER"] == 1.0
    assert result["blind"][0]["difference"]["mean"] == pytest.approx(result["test"]["WER"] - 1.0)
    assert 0.2 < result["test"]["blank rate"] < 0.95
    assert "collapse" not in result
    assert result["rows"] == {"test": 20, "train": 64, "validation": 16, "too_short": 0}
    assert models["transcribe"].task.characters == ("a", "b", "c", "d")  # upper case and the sign are normalised away
    assert any("4 characters (abcd" in said for said in heard.said)
    json.dumps(result, allow_nan=False)


def test_frames_are_labelled_and_events_found(models):
    result = models["frames"].result
    assert result["metric"] == "frame F1"
    assert result["test"]["frame F1"] > 0.8
    assert result["test"]["event F1"] > 0.6
    assert result["blind"][0]["name"] in {f"{k} everywhere" for k in "abcd"}
    assert result["blind"][0]["frame F1"] < 0.4
    assert models["frames"].task.one
    assert result["seconds_of_a_frame"] == pytest.approx(0.04)


@pytest.mark.parametrize(("task", "folder"), [("transcribe", "speller"), ("frames", "labeller")])
def test_a_saved_model_answers_as_before(models, work, task, folder):
    again = load_model(work / folder)
    assert isinstance(again, ClipFinetuned)
    assert vars(again.task) == vars(models[task].task)
    first, second = predict(models[task], work / "more.parquet"), predict(work / folder, work / "more.parquet")
    assert first.equals(second)
    assert first.num_rows == 20


def test_an_answer_depends_on_the_clip_alone(models, work, tmp_path):
    """Alone, or beside longer clips: the same text, as sure."""
    held = pq.read_table(work / "more.parquet")
    together = predict(models["transcribe"], work / "more.parquet").to_pylist()
    for row in (0, 7):
        pq.write_table(held.slice(row, 1), tmp_path / "one.parquet")
        (alone,) = predict(models["transcribe"], tmp_path / "one.parquet").to_pylist()
        assert alone["text"] == together[row]["text"]
        assert alone["confidence"] == pytest.approx(together[row]["confidence"], rel=1e-4)


def test_predicted_stretches_lie_in_their_clips(models, work, capsys, tmp_path):
    out = tmp_path / "found.jsonl"
    assert main(["predict", str(work / "labeller"), str(work / "more.parquet"), "-o", str(out), "--quiet"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    truth = pq.read_table(work / "more.parquet").to_pylist()
    assert "20 predictions" in capsys.readouterr().out
    assert len(rows) == 20
    for row in rows:
        assert len(row["start"]) == len(row["end"]) == len(row["label"]) == len(row["confidence"])
        assert all(0 <= a < b <= row["seconds"] for a, b in zip(row["start"], row["end"]))
    same = sum(row["label"] == t["label"] for row, t in zip(rows, truth))
    assert same >= 12
    assert main(["predict", str(work / "speller"), str(work / "more.parquet"), "--quiet"]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 20


def test_the_frozen_encoder_stays_as_it_is_and_its_tokens_are_held(work):
    from selftaught.nets import store

    before = store.load_encoder(work / "run").state_dict()
    found = finetune(work / "run", work / "clips.parquet", task="transcribe", mode="head", plan=SHORT)
    for name, tensor in found.model.encoder.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert found.result["mode"] == "head"


def test_training_twice_gives_one_model(work):
    one, two = (finetune_clips(work / "run", work / "clips.parquet", task="transcribe", plan=SHORT) for _ in range(2))
    assert one.result == two.result
    for a, b in zip(one.model.parameters(), two.model.parameters()):
        assert torch.equal(a, b)


def test_speakers_stay_on_one_side(work):
    from selftaught.evaluation.clip_data import Opener, split

    opener = Opener(work / "run", "transcribe", "encoder", {}, Listener())
    found = opener.open(work / "clips.parquet", None, None, None, 0.01)
    rows = split(found, 0, tested=False)
    sides = {part: set(found.groups[places].tolist()) for part, places in rows.items()}
    assert not sides["train"] & sides["test"]
    assert not sides["validation"] & sides["test"]


def test_clips_too_short_for_their_text_are_counted_and_upsampling_takes_them(work, tmp_path):
    held = pq.read_table(work / "clips.parquet").to_pylist()
    for row in held[:10]:
        row["text"] = "abcd" * 20
    pq.write_table(pa.Table.from_pylist(held), tmp_path / "long.parquet")
    notes = Notes()
    found = finetune_clips(work / "run", tmp_path / "long.parquet", task="transcribe", test=tmp_path / "long.parquet", plan=SHORT, listener=notes)  # fmt: skip
    short = found.result["rows"]["too_short"]
    assert 5 <= short <= 10
    assert any(f"{short} of 64 training clips have fewer frames" in said for said in notes.said)
    assert found.result["too_short_to_spell"] == 10  # the test clips are all scored
    more = finetune_clips(work / "run", tmp_path / "long.parquet", task="transcribe", upsample=8, test=tmp_path / "long.parquet", plan=SHORT)  # fmt: skip
    assert more.result["rows"]["too_short"] == 0
    for row in held:
        row["text"] = "abcd" * 200
    pq.write_table(pa.Table.from_pylist(held), tmp_path / "long.parquet")
    with pytest.raises(DataError, match="as many frames"):
        finetune_clips(work / "run", tmp_path / "long.parquet", task="transcribe", plan=SHORT)


def test_outputs_that_are_all_blank_are_called_that(work, monkeypatch):
    notes = Notes()
    monkeypatch.setattr(clip_data, "BLANK_BIAS", 6.0)
    found = finetune_clips(work / "run", work / "clips.parquet", task="transcribe", plan=SHORT, listener=notes)
    assert found.result["test"]["blank rate"] > 0.9
    assert "blank collapse" in found.result["collapse"]
    assert any("first plateau of CTC, keep going" in note for note in notes.progressed)
    assert found.result["collapse"] in notes.said


def test_unknown_characters_of_the_test_are_counted(work, tmp_path):
    held = pq.read_table(work / "more.parquet").to_pylist()
    held[0]["text"] = "xyz a"
    pq.write_table(pa.Table.from_pylist(held), tmp_path / "strange.parquet")
    found = finetune_clips(work / "run", work / "clips.parquet", task="transcribe", test=tmp_path / "strange.parquet", plan=SHORT)  # fmt: skip
    assert found.result["unknown_characters"] == 4  # x, y, z and the space


def test_a_mixture_of_stages_is_learned_and_reported(work):
    found = finetune_clips(work / "run", work / "clips.parquet", task="frames", labels="label", mode="head", pool="weighted", plan=LABEL)  # fmt: skip
    shares = found.result["stages"]
    assert len(shares) == 2
    assert sum(shares) == pytest.approx(1.0, abs=1e-5)
    assert abs(shares[0] - 0.5) > 1e-4
    assert found.result["test"]["frame F1"] > 0.5


def test_convolutions_can_be_read_too(tmp_path, work):
    tones.run_folder(tmp_path / "conv", kind="sound-conv")
    found = finetune_clips(tmp_path / "conv", work / "clips.parquet", task="frames", labels="label", plan=LABEL)
    assert found.result["test"]["frame F1"] > 0.6


def test_the_curve_sets_the_same_network_from_scratch_beside(work):
    found = clip_curve(work / "run", work / "clips.parquet", task="transcribe", budgets=(8, 16), draws=2, plan=SHORT, test=work / "more.parquet")  # fmt: skip
    assert [(r["features"], r["labels_per_class"]) for r in found["rows"]] == [("pretrained", 8), ("scratch", 8), ("pretrained", 16), ("scratch", 16)]  # fmt: skip
    assert all(r["low"] <= r["mean"] <= r["high"] for r in (*found["rows"], *found["differences"]))
    assert found["unit"] == "clips"
    assert "clips" in found["sentence"]
    json.dumps(found, allow_nan=False)
    with pytest.raises(RequestError, match="Give at most"):
        clip_curve(work / "run", work / "clips.parquet", task="transcribe", budgets=(500,), plan=SHORT)


def test_the_command_line_says_what_it_did(work, capsys, tmp_path):
    argv = ["finetune", str(work / "run"), str(work / "clips.parquet"), "--task", "transcribe", "--labels", "text", "--epochs", "1", "--out", str(tmp_path / "m"), "--quiet"]  # fmt: skip
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "WER" in out
    assert "(lower is better)" in out
    assert main([*argv[:-3], "--curve", "4", "--draws", "1", "--quiet"]) == 0
    assert "clips" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"task": "transcribe", "labels": "txet"}, "column of"),
        ({"task": "transcribe", "labels": "audio"}, "not text"),
        ({"task": "transcribe", "upsample": 0}, "writes nothing"),
        ({"task": "transcribe", "normaliser": "simpel"}, "normaliser"),
        ({"task": "transcribe", "mode": "tail"}, "no way to finetune"),
        ({"task": "transcribe", "labels_per_class": 5}, "no meaning"),
        ({"task": "transcribe", "labels": ["a", "b"]}, "2 transcripts for 80"),
        ({"task": "frames", "labels": "label", "beams": 3}, "is for --task transcribe"),
        ({"task": "frames", "labels": "nothing.csv"}, "no table of stretches"),
    ],
)
def test_requests_that_make_no_sense(work, more, match):
    with pytest.raises(RequestError, match=match):
        finetune_clips(work / "run", work / "clips.parquet", plan=SHORT, **more)


def test_other_runs_and_tasks_are_refused(work, tmp_path):
    with pytest.raises(RequestError, match="stretches of sound"):
        evaluate(work / "run", work / "clips.parquet", task="transcribe", labels="text")
    (tmp_path / "a.txt").write_text("hello\n" * 40)
    with pytest.raises(RequestError, match="no sounds"):
        finetune_clips(work / "run", tmp_path / "a.txt", task="transcribe")


def test_a_broken_model_is_refused(models, work, tmp_path):
    import shutil

    shutil.copytree(work / "speller", tmp_path / "m")
    about = json.loads((tmp_path / "m" / "labels.json").read_text())
    about["options"]["characters"] = ["a", "b"]
    (tmp_path / "m" / "labels.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match="does not fit"):
        load_model(tmp_path / "m")
    about["options"]["characters"] = 7
    (tmp_path / "m" / "labels.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match="broken"):
        load_model(tmp_path / "m")


def test_beams_of_one_are_greedy(models, work):
    import copy

    model = models["transcribe"]
    quick = copy.copy(model)
    quick.task = copy.copy(model.task)
    quick.task.beams = 1
    wide, narrow = (predict(m, work / "more.parquet")["text"].to_pylist() for m in (model, quick))
    assert np.mean([a == b for a, b in zip(wide, narrow)]) > 0.8
