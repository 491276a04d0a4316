"""What sounds are set against: equal to loops, the same with and without padding, in evaluate and in compare."""

import numpy as np
import pytest
import torch

from selftaught import modalities
from selftaught.core import Facts, random
from selftaught.evaluation import compare, evaluate, sounds
from selftaught.evaluation.embed import raw
from selftaught.modalities.sound import Sound


@pytest.fixture(scope="module")
def data():
    clips, factors = Sound.toy(80, 0)
    opened = modalities.open_data({"audio": clips, "label": [f"word{w}" for w in factors["word"] % 3]}, modality="sound", column="audio")  # fmt: skip
    return opened


def test_statistics_equal_loops_and_see_no_padding():
    mel = random.normal(1, torch.arange(3), (7, 5))
    frames = torch.tensor([7, 4, 1])
    got = sounds.statistics(mel, frames).double().numpy()
    for row, count in enumerate(frames.tolist()):
        own = mel[row, :count].double().numpy()
        np.testing.assert_allclose(got[row], np.concatenate([own.mean(0), own.std(0)]), atol=1e-5)
    longer = torch.cat([mel, torch.full((3, 9, 5), 37.0)], 1)
    torch.testing.assert_close(sounds.statistics(longer, frames), sounds.statistics(mel, frames))


def test_filters_equal_loops_and_see_no_padding():
    mel, frames = random.normal(2, torch.arange(3), (9, 4)), torch.tensor([9, 5, 2])
    filters = random.normal(3, torch.arange(6), (4, 3))
    got = sounds.filtered(mel, frames, filters).double().numpy()
    for row, count in enumerate(frames.tolist()):
        own = np.zeros((max(count, 3), 4))
        own[:count] = mel[row, :count].double().numpy()
        found = np.array([[max(0.0, (own[t : t + 3].T * f).sum()) for t in range(len(own) - 2)] for f in filters.double().numpy()])  # fmt: skip
        np.testing.assert_allclose(got[row], np.concatenate([found.mean(1), found.max(1)]), atol=1e-5)
    longer = torch.cat([mel, torch.full((3, 11, 4), 9.0)], 1)
    torch.testing.assert_close(sounds.filtered(longer, frames, filters), sounds.filtered(mel, frames, filters))


@pytest.mark.parametrize("name", sounds.NAMES)
def test_a_clip_is_the_same_alone_and_beside_longer_ones(data, name):
    heard = sounds.Heard(name, 5, data)
    together = heard.features(data)
    assert together.shape == (len(data), 2 * (sounds.BANDS if name == "log-mel" else sounds.FILTERS))
    assert np.isfinite(together).all()
    for place in (0, 17):
        np.testing.assert_allclose(heard.features(data, np.array([place]))[0], together[place], atol=2e-4)
    np.testing.assert_array_equal(sounds.Heard(name, 5, data).features(data), together)
    if name == "random-filters":
        assert not np.allclose(sounds.Heard(name, 6, data).features(data), together)


def test_the_raw_control_is_log_mel_in_eight_stretches(data):
    """Eight means of the normalised log-mel energies, in time order, of each sound's true length."""
    got, modality = raw(data), data.modality
    view = modality.plain(None)(data.fetch(np.array([3])), None)
    mel, frames = modality.front(view["wave"], view["length"])
    own = (mel[0, : int(frames)].double().numpy() - np.array(modality.mean)) / np.array(modality.std)
    edges = np.linspace(0, len(own), 9)
    bins = np.empty((8, own.shape[1]))
    for k in range(8):
        weight = np.clip(np.minimum(np.arange(len(own)) + 1, edges[k + 1]) - np.maximum(np.arange(len(own)), edges[k]), 0, 1)  # fmt: skip
        bins[k] = (weight[:, None] * own).sum(0) / weight.sum()
    assert got.shape == (len(data), 8 * modality.bands)
    near = np.abs(got[3].reshape(modality.bands, 8).T - bins)
    assert np.corrcoef(got[3].reshape(modality.bands, 8).T.ravel(), bins.ravel())[0, 1] > 0.98, near.max()


def test_evaluate_sets_sounds_beside_their_controls(data):
    encoder = data.modality.encoder(_facts(data), frozenset(), widths=(8, 8), kernels=(5, 3))
    found = evaluate(encoder, data, budgets=[4], draws=2, seeds=2, controls=("untrained", "log-mel", "random-filters"))  # fmt: skip
    names = {r["features"]: r["seeds"] for r in found["rows"] if (r["probe"], r["labels_per_class"]) == ("linear", "all")}  # fmt: skip
    assert names["log-mel"] == 1
    assert {d["b"] for d in found["differences"]} >= {"log-mel", "random-filters"}
    ahead = [d for d in found["differences"] if d["b"] in sounds.NAMES and d["labels_per_class"] == "all" and d["high"] < 0]  # fmt: skip
    assert bool(ahead) == ("take that" in found["verdict"]["sentence"]) or len(ahead) == 1


def test_compare_sets_them_beside_methods_and_says_what_each_keeps(tmp_path):
    clips, factors = Sound.toy(104, 1)
    table = {"audio": clips, "label": [f"word{w % 3}" for w in factors["word"]], "noise": [f"noise{n}" for n in factors["noise"]], "speaker": [f"s{n % 8}" for n in range(104)]}  # fmt: skip
    data = modalities.open_data(table, modality="sound", column="audio")
    small = {"widths": [8, 8], "kernels": [5, 3]}
    asked = {"labels": "label", "methods": ["simclr"], "steps": 1, "draws": 2, "out": tmp_path / "c", "choose_with": 40, "encoder_options": small}  # fmt: skip
    found = compare(data, **asked)
    assert {"raw", "log-mel", "random-filters", "untrained"} <= {r["features"] for r in found["rows"]}
    assert {(d["a"], d["b"]) for d in found["differences"]} >= {("simclr", "log-mel"), ("simclr", "random-filters")}
    assert "keeps" not in found
    more = compare(data, **asked, seeds=2, keeps=("noise", "speaker"))
    kept = {(k["features"], k["column"]): k for k in more["keeps"]}
    assert {column for _, column in kept} == {"noise", "speaker"}
    assert kept["simclr", "noise"]["seeds"] == 2
    assert kept["raw", "noise"]["mean"] > kept["blind", "noise"]["mean"] + 0.2  # the level of the noise is heard


def test_texts_have_no_controls_of_sounds():
    table = {"text": ["one two", "three four", "five six"]}
    assert not sounds.is_sound(modalities.open_data(table, modality="text", column="text", size=8))


def _facts(data):
    return Facts(rows=len(data), modality=data.modality)
