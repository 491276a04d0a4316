"""Whole clips as a network is given them: energies worked out once are those of the waves; what a task asks for comes by row."""

import numpy as np
import pytest
import torch

from selftaught import modalities
from selftaught.data import Dataset
from selftaught.nets import store
from selftaught.nets.listening import listening
from selftaught.nets.weighted import WeightedStages
from selftaught.train import clip_feed
from selftaught.train.clip_feed import Feed

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
