"""Pretraining and finetuning on sounds: a published model hears at its own rate and goes on with its codes, kills leave no trace, labels with hidden parts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining

from selftaught import modalities, nets, tasks, train
from selftaught.core import Draw, Facts, RequestError, View
from selftaught.evaluation.embed import embed
from selftaught.modalities.sound import Sound
from selftaught.nets import store
from selftaught.train.finetune import Plan, tune
from selftaught.views.spectrogram import Hide

from ..evaluation import tones
from .test_pretrain import Ears, same, stop_after

TINY = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7, "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2, "num_codevectors_per_group": 5, "codevector_dim": 6, "proj_codevector_dim": 6,
}  # fmt: skip
CODES = {"codes": 5, "code_width": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tones in class folders, at 8 kHz and of unlike lengths."""
    root = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for number in range(32):
        label, seconds = "ab"[number % 2], rng.choice([0.15, 0.2, 0.9])
        (root / label).mkdir(exist_ok=True)
        wave = tones.tone(tones.TONES[label] * rng.uniform(0.95, 1.05), seconds) + 0.01 * rng.normal(size=int(seconds * tones.RATE))  # fmt: skip
        (root / label / f"{number}.wav").write_bytes(tones.wav(wave))
    return root


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder of Wav2Vec2ForPreTraining that hears at 16 kHz."""
    place = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    Wav2Vec2ForPreTraining(Wav2Vec2Config(**TINY)).save_pretrained(place)
    Wav2Vec2FeatureExtractor(sampling_rate=16000).save_pretrained(place)
    return place


def go_on(folder, published, out, **more):
    words = {"method": "wav2vec2", "steps": 2, "recipe": {"batch": 8}, "options": CODES, **more}
    return train.pretrain(folder, out=out, encoder=f"transformers:{published}", **words)


def test_a_published_model_hears_at_its_own_rate(folder, published, tmp_path):
    ears = Ears()
    done = go_on(folder, published, tmp_path / "run", listener=ears)
    assert any(text.startswith("rate: 16000 Hz") for text in ears.said)
    assert modalities.load(done.run.encoder).rate == done.encoder().rate == 16000
    assert done.run.config()["rate"] == 16000
    with pytest.raises(RequestError, match=r"(?s)16000 samples a second.*resampled to 16000"):
        go_on(folder, published, tmp_path / "other", rate=8000)
    opened = modalities.open_data(folder)
    with pytest.raises(RequestError, match=r"(?s)kept at 8000.*--rate 16000"):
        go_on(opened, published, tmp_path / "open")
    with pytest.raises(RequestError, match="kept at 8000"):
        embed(nets.build("transformers", source=str(published)), opened)


def test_a_run_that_fell_before_its_first_checkpoint_begins_with_the_same_codes(folder, published, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(published, model)
    ears = Ears()
    whole = go_on(folder, model, tmp_path / "whole")
    go_on(folder, model, tmp_path / "cut", steps=2, stop=stop_after(1))
    shutil.rmtree(tmp_path / "cut" / "checkpoints")
    shutil.rmtree(model)
    again = train.resume(tmp_path / "cut", listener=ears)
    assert again.result["resumed_from_step"] == 0
    assert any("codebook and projections go on learning" in text for text in ears.said)
    parts = [store.load(done.run.encoder).parts["quantiser"].state_dict() for done in (whole, again)]
    assert all(torch.equal(value, parts[1][name]) for name, value in parts[0].items())
    assert same(whole, again)


@pytest.mark.parametrize("method", ["apc", "mae", "simmim", "best-rq", "data2vec", "masked-token", "cpc"])
def test_methods_on_log_mel_refuse_encoders_of_waves_before_they_begin(folder, method, tmp_path):
    small = {"channels": (8,), "width": 16, "depth": 1, "heads": 2}
    with pytest.raises(RequestError, match=r"(?s)log-mel.*sound-transformer"):
        train.pretrain(folder, method=method, encoder="wav2vec2", encoder_options=small, steps=1, out=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


LEARN = """
import json, sys
from selftaught import train
train.pretrain(sys.argv[1], out=sys.argv[2], **json.loads(sys.argv[3]))
"""
TOKENS = {"width": 16, "depth": 1, "heads": 2}


def test_a_killed_run_goes_on_to_the_same_bits(folder, tmp_path):
    words = {"method": "best-rq", "steps": 30, "save_every": 3, "recipe": {"batch": 8}, "encoder_options": TOKENS}
    whole = train.pretrain(folder, out=tmp_path / "whole", **words)
    path = os.pathsep.join(sys.path)
    run = subprocess.Popen([sys.executable, "-c", LEARN, str(folder), str(tmp_path / "cut"), json.dumps(words)], env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    until, kept = time.monotonic() + 120, tmp_path / "cut" / "checkpoints"
    while run.poll() is None and time.monotonic() < until and not (kept.is_dir() and len(list(kept.iterdir())) > 1):
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    again = train.resume(tmp_path / "cut")
    assert 0 < again.result["resumed_from_step"] < 30
    assert same(whole, again)
    assert [r["loss"] for r in again.run.metrics()] == [r["loss"] for r in whole.run.metrics()]


@pytest.mark.parametrize("reads", ["mel", "wave"])
def test_what_is_hidden_from_a_label_is_the_rows_own_and_nothing_moves(reads):
    modality = Sound(rate=8000, context=8000, typical=4000, bands=16)
    wave = torch.randint(1, 3000, (3, 8000), dtype=torch.int16)
    length = torch.tensor([8000, 5000, 900])
    wave.masked_fill_(torch.arange(8000) >= length[:, None], 0)
    view, draw = View("sound", parts={"wave": wave, "length": length}), Draw(torch.tensor([4, 9, 2]), 1, 5)
    change = modality.masked(Facts(rows=3, modality=modality, reads=reads))
    got = change(view, draw)
    kind = "mel" if reads == "mel" else "wave"
    plain = modality.mild(Facts(rows=3, modality=modality, reads=reads))(view, draw)
    assert torch.equal(got["length"], plain["length"])
    hidden = got[kind] != plain[kind]
    shares = hidden.flatten(1).float().sum(1) / hidden[0].numel()
    assert hidden.any()
    assert (shares < 0.55).all()
    alone = change(view.take(torch.tensor([1])), Draw(torch.tensor([9]), 1, 5))
    # what is hidden is filled with the row's mean, whose sum is taken in another order
    torch.testing.assert_close(alone[kind][0], got[kind][1, : alone[kind].shape[1]], rtol=0, atol=1e-5)
    behind = torch.arange(got[kind].shape[1]) >= got["length"][:, None]
    assert torch.equal(got[kind][behind], plain[kind][behind])


def test_finetuning_sorts_unlike_lengths_and_hides_parts_the_same_for_a_seed(folder):
    data = modalities.open_data(folder)
    encoder = data.modality.encoder(
        Facts(rows=32, modality=data.modality), {"tokens"}, None, width=16, depth=1, heads=2
    )
    targets = np.arange(32) % 2
    order = np.argsort(data.lengths, kind="stable")
    task, ears = tasks.find("classify")(classes=("a", "b")), Ears()
    plan = Plan(epochs=2, batch=8, views="masked", seed=3)
    one, two, mild = (
        tune(encoder, task, data, targets, order, plan=p, listener=ears)[0].state_dict() for p in (plan, plan, replace(plan, views="mild"))
    )  # fmt: skip
    assert any(text.startswith("batches: rows of like length") for text in ears.said)
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], mild[k]) for k in one)


def test_waves_are_silenced_where_no_energies_are_made():
    wave = torch.full((1, 1000), 500, dtype=torch.int16)
    got = Hide()(View("sound", parts={"wave": wave, "length": torch.tensor([1000])}), Draw(torch.tensor([1]), 0, 0))
    assert set(got["wave"].unique().tolist()) == {0, 500}
