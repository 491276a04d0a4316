"""Whole clips as a network is given them: energies worked out once are those of the waves; what a task asks for comes by row."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from selftaught import modalities
from selftaught.core import View
from selftaught.data import Dataset
from selftaught.evaluation.clips import finetune_clips
from selftaught.nets import store
from selftaught.nets.listening import listening, tokens_of
from selftaught.nets.weighted import WeightedStages
from selftaught.train import clip_feed
from selftaught.train.clip_feed import Feed
from selftaught.train.clips import _energies
from selftaught.train.finetune import Plan

from ..evaluation import tones


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """(encoder, dataset) of nine sounds of unlike length."""
    root = tmp_path_factory.mktemp("feed")
    encoder = store.load_encoder(tones.run_folder(root / "run"))
    rng = np.random.default_rng(0)
    waves = [(0.1 * rng.normal(size=n)).astype(np.float32) for n in (900, 4000, 81, 80, 2500, 7000, 3333, 1200, 4001)]
    return encoder, Dataset.from_arrays(waves, modalities.load(store.find(root / "run")))


def test_held_energies_are_those_of_the_waves(clips, monkeypatch):
    encoder, sounds = clips
    rows = np.array([5, 0, 2, 8, 3])
    ear = listening(encoder, tones.RATE)
    waves, held = Feed(sounds, rows, torch.device("cpu")), Feed.of(encoder, sounds, rows, torch.device("cpu"))
    assert held.mels is not None
    numbers = np.array([3, 0, 2])
    (one, n), (two, m) = (ear(encoder, feed.view(numbers)) for feed in (waves, held))
    assert n.tolist() == m.tolist() == ear.count(sounds.lengths[rows[numbers]]).tolist()
    for row, count in enumerate(n.tolist()):
        assert torch.allclose(one[row, :count], two[row, :count], atol=1e-5)
    monkeypatch.setattr(clip_feed, "LONGEST", 0.5)  # a clip that is heard in stretches is given as a wave
    assert Feed.of(encoder, sounds, rows, torch.device("cpu")).mels is None


def test_every_clip_comes_once_the_short_ones_first(clips):
    _, sounds = clips
    feed = Feed(sounds, np.arange(9), torch.device("cpu"))
    found = list(feed.by_length(4))
    assert sorted(np.concatenate(found).tolist()) == list(range(9))
    lengths = sounds.lengths[np.concatenate(found)]
    assert (np.diff(lengths) >= 0).all()


def test_a_mixture_reads_energies_too(clips):
    encoder, sounds = clips
    mixed = WeightedStages.around(encoder, sounds.fetch([0, 1]))
    assert Feed.of(mixed, sounds, np.arange(3), torch.device("cpu")).mels is not None


@pytest.mark.parametrize("views", ["masked", "augment"])
def test_clips_with_text_are_changed_the_same_for_a_seed(tmp_path, views):
    tones.run_folder(tmp_path / "run")
    table = tones.table(tmp_path / "clips.parquet", 24)
    plan = Plan(epochs=1, steps=2, batch=8)
    words = {"task": "transcribe", "plan": replace(plan, views=views)}
    one, two = (finetune_clips(tmp_path / "run", table, **words).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    mild = finetune_clips(tmp_path / "run", table, task="transcribe", plan=plan).model.state_dict()
    assert any(not torch.equal(one[k], mild[k]) for k in one)


def test_a_quicker_tempo_leaves_the_frames_that_a_text_needs(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for row in range(24):  # as many characters as a clip has tokens of 40 ms: with one token less no path spells them
        tokens = int(rng.integers(4, 9))
        wave = tones.tone(float(rng.uniform(200, 800)), tokens * 0.04)
        rows.append({"audio": tones.wav(wave), "text": "abcdefgh"[:tokens], "speaker": f"s{row % 4}"})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "clips.parquet")
    tones.run_folder(tmp_path / "run")
    plan = Plan(epochs=1, steps=12, batch=8, views="augment")
    done = finetune_clips(tmp_path / "run", tmp_path / "clips.parquet", task="transcribe", plan=plan)
    assert done.result["rows"]["too_short"] == 0
    assert done.result["test"]["WER"] >= 0


@pytest.mark.parametrize(("kind", "upsample"), [("sound-transformer", 1), ("sound-transformer", 2), ("sound-conv", 1)])
def test_the_energies_that_a_text_needs_are_the_fewest(tmp_path, kind, upsample):
    kept = store.load(tones.run_folder(tmp_path / "run", kind))
    ear = listening(kept.encoder, tones.RATE)
    front = kept.encoder.hearing.front
    for frames in (1, 2, 5, 8):
        needed = int(_energies(ear, np.array([frames]), upsample, front.hop)[0])
        said = [
            upsample * int(tokens_of(kept.encoder, View("sound", parts={"mel": torch.zeros(1, n, 32), "length": torch.tensor([n])}))[1][0])
            for n in (max(1, needed - 1), needed)
        ]  # fmt: skip
        assert said[1] >= frames
        assert said[0] < frames or needed == 1
