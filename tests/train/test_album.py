"""pictures/: the run is the same with and without, the rows are those that training never saw, and a resumed run goes on drawing."""

import json

import numpy as np
import pytest
import torch

from selftaught import modalities, train
from selftaught.core import Batch, Encoder, View
from selftaught.modalities.image import Image
from selftaught.nets.vit import ViT
from selftaught.train import album
from selftaught.train.album import Album, attention, filters
from selftaught.train.pictures import row_picture

TOKENS = {"encoder_options": {"width": 16, "depth": 1, "heads": 2, "patch": 4}, "recipe": {"batch": 8}}
PLAIN = {"encoder_options": {"widths": (8,), "blocks": (1,), "strides": (2,), "stem": 8}, "recipe": {"batch": 16}}


def pictures(rows: int = 60, channels: int = 3) -> np.ndarray:
    found = np.stack(modalities.find("image").toy(rows, 0)[0])[:, ::2, ::2]
    return found if channels == 3 else np.concatenate([found] * 2, 3)[..., :channels]


def listed(run) -> dict:
    return json.loads((run.pictures / "pictures.json").read_text())


@pytest.mark.parametrize(("method", "small"), [("mae", TOKENS), ("deepcluster-v2", PLAIN)])
def test_the_run_is_bit_for_bit_the_same_with_and_without(method, small, tmp_path, monkeypatch):
    options = {"clusters": 5} if method == "deepcluster-v2" else {}
    states = []
    for name in ("with", "without"):
        if name == "without":
            monkeypatch.setattr(Album, "at", lambda *_: None)
        torch.manual_seed(7)
        done = train.pretrain(pictures(), method=method, steps=6, out=tmp_path / name, holdout=0.2, options=options, **small)  # fmt: skip
        held = sorted((done.run.folder / "encoder").rglob("*.safetensors")) + sorted(done.run.checkpoints.rglob("*.safetensors"))  # fmt: skip
        assert len(held) > 1
        losses = [row["loss"] for row in done.run.metrics()]
        states.append(([f.read_bytes() for f in held], losses, torch.get_rng_state()))
        assert done.run.pictures.exists() == (name == "with")
    (files, losses, random), (again, losses_again, random_again) = states
    assert files == again
    assert losses == losses_again
    assert torch.equal(random, random_again)


def test_what_lies_in_the_folder_is_listed_and_of_rows_that_training_never_saw(tmp_path):
    data = modalities.open_data(pictures())
    done = train.pretrain(data, method="swav", steps=5, out=tmp_path / "run", holdout=0.2, options={"prototypes": 6}, **PLAIN)  # fmt: skip
    held = listed(done.run)
    assert held["rows"]["of"] == "held-out"
    from selftaught.data import splits

    assert set(held["rows"]["ids"]) <= set(splits.hold_out(data, 0.2)[1].tolist())
    assert {(s["name"], s["stage"]) for s in held["sheets"]} == {
        ("filters", "start"), ("filters", "middle"), ("filters", "end"), ("clusters", "end"),
    }  # fmt: skip
    files = {s["file"] for s in held["sheets"]}
    assert files == {p.name for p in done.run.pictures.glob("*.png")}
    assert all(s["caption"] and (done.run.pictures / s["file"]).stat().st_size < 200_000 for s in held["sheets"])
    (clusters,) = [s for s in held["sheets"] if s["name"] == "clusters"]
    assert "of 12 held-out rows" in clusters["caption"]


@pytest.mark.parametrize(("channels", "method"), [(1, "mae"), (5, "inpainting"), (1, "sparse-manifold")])
def test_grey_pictures_and_many_channels(channels, method, tmp_path):
    small = {"mae": TOKENS, "inpainting": PLAIN, "sparse-manifold": {}}[method]
    steps = {} if method == "sparse-manifold" else {"steps": 2}
    done = train.pretrain(pictures(40, channels), method=method, out=tmp_path / "run", **small, **steps)
    names = {s["name"] for s in listed(done.run)["sheets"]}
    assert "filters" in {n.split("-")[0] for n in names}
    assert ("reconstruction" in names) == (method != "sparse-manifold")
    assert ("attention" in names) == (method == "mae")
    assert listed(done.run)["rows"]["of"] == "training"


def test_series_are_drawn_and_text_has_no_pictures(tmp_path):
    for name, there in (("series", True), ("text", False)):
        payloads, _ = modalities.find(name).toy(40, 0)
        options = {"encoder_options": {"width": 16, "depth": 1, "heads": 2}, "recipe": {"batch": 8}}
        done = train.pretrain(payloads, method="mae", steps=2, out=tmp_path / name, modality=name, **options)
        assert done.run.pictures.exists() == there
        if there:
            assert {s["name"] for s in listed(done.run)["sheets"]} == {"reconstruction"}


def test_sounds_are_drawn_as_spectrograms(tmp_path):
    clips, _ = modalities.find("sound").toy(40, 0)
    data = modalities.open_data({"audio": clips}, modality="sound", column="audio")
    options = {"encoder_options": {"width": 16, "depth": 1, "heads": 2}, "recipe": {"batch": 8}}
    done = train.pretrain(data, method="mae", steps=2, out=tmp_path / "mae", **options)
    assert {s["name"] for s in listed(done.run)["sheets"]} == {"reconstruction"}
    assert (done.run.folder / "views.png").stat().st_size > 1000
    small = {"encoder_options": {"widths": [8], "kernels": [5], "strides": [1]}, "recipe": {"batch": 8}}
    done = train.pretrain(data, method="simclr", steps=2, out=tmp_path / "simclr", **small)
    (filters,) = {s["caption"] for s in listed(done.run)["sheets"]}
    assert "bands (high pitch at the top) by frames" in filters


def test_a_spectrogram_by_hand():
    """Low pitch lies at the bottom, quiet is dark, what is not there is grey, and a shorter sound is narrower."""
    mel = torch.full((2, 8, 4), -10.0)
    mel[0, 4:, 3] = 2.0  # high and late
    mel[1, :2, 0] = torch.nan
    view = View("sound", parts={"mel": mel, "length": torch.tensor([8, 4])})
    first, second = (np.asarray(row_picture(view, row, 32, torch.tensor([[-10.0, 2.0]]))).astype(int) for row in (0, 1))
    assert first.shape == (32, 32, 3)
    assert second.shape == (32, 16, 3)
    light = first.sum(2)
    assert (light[:8, 16:] > 600).all()
    assert (np.delete(light, np.s_[:8], 0) < 50).all()
    assert (light[:8, :16] < 50).all()
    assert (second[24:, :8] == 127).all() or (second[24:, :8] == 128).all()


def test_a_sounds_target_comes_back_from_its_tokens():
    clips, _ = modalities.find("sound").toy(3, 1)
    data = modalities.open_data({"audio": clips}, modality="sound", column="audio")
    view = data.modality.plain(None)(data.fetch(np.arange(3)), None)
    mel, frames = data.modality.front(view["wave"], view["length"])
    tokens = -(-mel.shape[1] // 4)
    back = data.modality.untarget(data.modality.target(view, (tokens,)).values, view, (tokens,))
    torch.testing.assert_close(back["mel"], mel, atol=2e-4, rtol=1e-4)
    assert torch.equal(back["length"], frames)
    drawn = data.modality.seen(view)
    assert torch.equal(drawn["mel"], mel)
    assert data.modality.seen(drawn) is drawn


def test_a_stopped_run_goes_on_drawing_and_a_new_one_begins_without(tmp_path):
    calls = iter([False, False, False, True])
    train.pretrain(pictures(), method="mae", steps=8, out=tmp_path / "run", stop=lambda: next(calls, False), **TOKENS)
    run = train.Run.open(tmp_path / "run")
    assert {s["stage"] for s in listed(run)["sheets"]} == {"start"}
    train.resume(tmp_path / "run", data=pictures())
    assert [s["stage"] for s in listed(run)["sheets"] if s["name"] == "reconstruction"] == ["start", "middle", "end"]
    train.pretrain(pictures(), method="simclr", steps=0, out=tmp_path / "run", overwrite=True, **PLAIN)
    assert {s["name"] for s in listed(run)["sheets"]} == {"filters"}
    assert not (run.pictures / "reconstruction.png").exists()


class Leaning:
    """A clustering that is known: a row belongs to the cluster of its mean brightness, a third each."""

    def nearness(self, batch: Batch) -> torch.Tensor:
        light = batch.views[0]["pixels"].float().mean((1, 2, 3)) / 255
        return -(light[:, None] - torch.tensor([0.1, 0.5, 0.9, 5.0])).abs()


def test_clusters_by_example_are_the_rows_nearest(tmp_path):
    rng = np.random.default_rng(0)
    level = np.concatenate([rng.uniform(0, 0.2, 30), rng.uniform(0.4, 0.6, 10), rng.uniform(0.85, 1, 4)])
    rows = np.round(level * 255).astype(np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
    done = train.pretrain(rows, method="simclr", steps=0, out=tmp_path / "run", size=8, **PLAIN)
    job = type("Job", (), {
        "data": modalities.open_data(rows, size=8), "held": None, "facts": None, "device": torch.device("cpu"), "run": done.run,
        "settings": type("Settings", (), {"seed": 0}),
    })()  # fmt: skip
    (sheet,) = Album(job).clusters(Leaning())
    assert sheet.words["1"] == ["30 rows", "10 rows", "4 rows"]
    assert "3 of 4 clusters are in use" in sheet.caption
    shown = torch.stack([c["pixels"].mean((1, 2, 3)) for c in sheet.columns.values()], 1)  # (clusters, nearest)
    stored = np.round(level * 255) / 255
    for line, (centre, members) in enumerate([(0.1, stored[:30]), (0.5, stored[30:40]), (0.9, stored[40:])]):
        near = members[np.argsort(np.abs(members - centre), kind="stable")][:8]
        got = shown[line][shown[line].isfinite()].numpy()
        assert np.allclose(np.abs(got - centre), np.abs(near - centre), atol=1e-5)
        assert len(got) == min(8, len(members))


def test_attention_lights_what_is_looked_at():
    torch.manual_seed(0)
    vit: Encoder = ViT(image_size=8, patch=4, width=8, depth=1, heads=2, pooling="class").eval()
    view = View("image", parts={"pixels": torch.ones(2, 3, 8, 8)})
    for weight in (vit.blocks.layer[0].attention.qkv.weight, vit.blocks.layer[0].attention.qkv.bias):
        torch.nn.init.zeros_(weight)
    (sheet,) = attention(vit, view)
    assert list(sheet.columns) == ["picture", "head 1", "head 2"]
    assert torch.allclose(sheet.columns["head 1"]["pixels"], view["pixels"])  # alike everywhere: nothing is dimmed
    assert "the class token" in sheet.caption


def test_filters_fill_the_last_line_with_nothing():
    vit = ViT(image_size=8, patch=4, width=20, depth=1, heads=2)
    (sheet,) = filters(vit)
    assert len(sheet.columns) == album.ABREAST
    assert len(sheet) == 2
    held = torch.cat([c["pixels"] for c in sheet.columns.values()])
    assert held.isnan().flatten(1).all(1).sum() == 12
    assert filters(Image(16, 3).encoder(type("F", (), {"device": "cpu"}), frozenset()))[0].caption.startswith("32 ")
