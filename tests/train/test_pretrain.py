"""The whole way of a pretraining on tiny pictures: results that do not depend on being cut, on threads, or on bad luck."""

import copy
import json
from itertools import count

import numpy as np
import pytest
import torch

from selftaught import train
from selftaught.core import Batch, Method
from selftaught.core.errors import AlarmError, DataError, ModelError, RequestError
from selftaught.core.listener import Listener
from selftaught.modalities import find
from selftaught.nets import norm, store

SMALL = {
    "encoder_options": {"widths": (8, 16), "blocks": (1, 1), "strides": (2, 2), "stem": 8},
    "recipe": {"batch": 32},
}


@pytest.fixture(scope="module")
def pictures():
    rows, _ = find("image").toy(96, 0)
    return np.stack(rows)[:, ::2, ::2]


class Ears(Listener):
    def __init__(self):
        self.said, self.moments = [], []

    def say(self, text):
        self.said.append(text)

    def moment(self, moment):
        self.moments.append(moment)


def weights(run) -> dict[str, torch.Tensor]:
    return store.load_encoder(run.run.encoder).state_dict()


def same(a, b) -> bool:
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def stop_after(calls: int):
    counter = count(1)
    return lambda: next(counter) >= calls


CUT = [
    ("simclr", {}), ("byol", {}), ("swav", {}), ("swav", {"queue": 64, "queue_from": 0.2}), ("rotation", {}),
    ("simclr-v2", {"memory": 48}), ("together", {"methods": "moco-v2:queue=64+rotation"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "options"), CUT, ids=lambda x: str(x))
def test_a_run_that_was_cut_in_the_second_epoch_ends_in_the_same_bits(tmp_path, pictures, method, options):
    settings = {"method": method, "options": options, "steps": 8, **SMALL}
    whole = train.pretrain(pictures, out=tmp_path / "whole", **settings)
    cut = train.pretrain(pictures, out=tmp_path / "cut", stop=stop_after(5), **settings)
    assert cut.result["steps"] == 5
    assert not cut.result["finished"]
    resumed = train.resume(tmp_path / "cut", data=pictures)
    assert resumed.result["resumed_from_step"] == 5
    assert same(whole, resumed)
    rows = [r["step"] for r in resumed.run.metrics()]
    assert rows == list(range(1, 9))


def test_a_distillation_goes_on_with_its_own_teacher_only(tmp_path, pictures, monkeypatch):
    for seed in (0, 1):
        train.pretrain(pictures, method="simclr", steps=0, seed=seed, out=tmp_path / f"teacher{seed}", **SMALL)
    monkeypatch.chdir(tmp_path)
    settings = {"method": "distil", "options": {"teacher": "teacher0"}, "steps": 8, **SMALL}
    whole = train.pretrain(pictures, out=tmp_path / "whole", **settings)
    train.pretrain(pictures, out=tmp_path / "cut", stop=stop_after(5), **settings)
    weights_of_teacher = store.load_encoder(tmp_path / "teacher0").state_dict()
    saved = sum(f.stat().st_size for f in (tmp_path / "cut" / "checkpoints").rglob("tensors.safetensors"))
    three_times = 3 * sum(p.numel() * p.element_size() for p in weights_of_teacher.values())
    assert saved < three_times + 20_000, "the student and the optimiser's two moments; no teacher"
    monkeypatch.chdir("/")
    (tmp_path / "teacher0").rename(tmp_path / "away")
    with pytest.raises(ModelError, match="no folder"):
        train.resume(tmp_path / "cut", data=pictures)
    (tmp_path / "teacher1").rename(tmp_path / "teacher0")
    with pytest.raises(ModelError, match="teacher is not the one"):
        train.resume(tmp_path / "cut", data=pictures)
    (tmp_path / "teacher0").rename(tmp_path / "teacher1")
    (tmp_path / "away").rename(tmp_path / "teacher0")
    assert same(whole, train.resume(tmp_path / "cut", data=pictures))


def test_what_a_method_found_out_is_said_and_logged(tmp_path, pictures):
    ears = Ears()
    done = train.pretrain(pictures, method="together", steps=1, out=tmp_path / "run", listener=ears, **SMALL)
    assert "views: 3 asked for, 3 made." in ears.said
    assert "views: 3 asked for, 3 made." in (done.run.folder / "log.txt").read_text()


def test_a_kept_layer_is_settled_on_clean_rows_too(tmp_path, pictures):
    """Running statistics of the handed-over layer are those of clean rows, as the encoder's are."""
    done = train.pretrain(pictures, method="simclr-v2", steps=2, out=tmp_path / "run", **SMALL)
    encoder = store.load_encoder(done.run.encoder)
    again = copy.deepcopy(encoder)
    norm.recalibrate(again, [find("image")(side=16).collate(pictures)])
    torch.testing.assert_close(encoder.first[1].running_mean, again.first[1].running_mean)
    torch.testing.assert_close(encoder.first[1].running_var, again.first[1].running_var)


def test_thread_counts_change_no_bit(tmp_path, pictures):
    runs = [
        train.pretrain(pictures, method="simclr", steps=4, threads=n, out=tmp_path / str(n), **SMALL) for n in (1, 4)
    ]
    assert same(*runs)


def test_another_seed_is_another_run(tmp_path, pictures):
    runs = [train.pretrain(pictures, method="simclr", steps=2, seed=n, out=tmp_path / str(n), **SMALL) for n in (0, 1)]
    assert not same(*runs)


def test_no_steps_write_the_untrained_encoder(tmp_path, pictures):
    untrained = train.pretrain(pictures, method="simclr", steps=0, out=tmp_path / "none", **SMALL)
    trained = train.pretrain(pictures, method="simclr", steps=1, out=tmp_path / "one", **SMALL)
    assert untrained.result["steps"] == 0
    assert weights(untrained).keys() == weights(trained).keys()
    assert not same(untrained, trained)


def test_a_finished_run_says_so_and_stays(tmp_path, pictures):
    done = train.pretrain(pictures, method="simclr", steps=2, out=tmp_path / "run", **SMALL)
    ears = Ears()
    again = train.resume(tmp_path / "run", data=pictures, listener=ears)
    assert "finished already" in ears.said[0]
    assert again.result["resumed_from_step"] == 2
    assert same(done, again)


def test_a_run_without_a_checkpoint_begins_anew_and_says_so(tmp_path, pictures):
    done = train.pretrain(pictures, method="simclr", steps=2, out=tmp_path / "run", **SMALL)
    before = weights(done)
    for place in (tmp_path / "run" / "checkpoints").iterdir():
        (place / "manifest.json").write_text("{}")
    done.run.status("running")
    ears = Ears()
    again = train.resume(tmp_path / "run", data=pictures, listener=ears)
    assert any("begins anew" in text for text in ears.said)
    assert all(torch.equal(before[k], v) for k, v in weights(again).items())


def test_changed_data_are_refused_on_resume(tmp_path, pictures):
    train.pretrain(pictures, method="simclr", steps=4, out=tmp_path / "run", stop=stop_after(2), **SMALL)
    with pytest.raises(ModelError, match="data have changed"):
        train.resume(tmp_path / "run", data=255 - pictures)


def test_a_folder_that_holds_a_run_is_not_overwritten_unasked(tmp_path, pictures):
    train.pretrain(pictures, method="simclr", steps=1, out=tmp_path / "run", **SMALL)
    with pytest.raises(RequestError, match="already holds a run"):
        train.pretrain(pictures, method="simclr", steps=1, out=tmp_path / "run", **SMALL)
    train.pretrain(pictures, method="simclr", steps=1, out=tmp_path / "run", overwrite=True, **SMALL)


def test_the_folder_tells_all(tmp_path, pictures):
    done = train.pretrain(pictures, method="simclr", steps=3, out=tmp_path / "run", **SMALL)
    folder = tmp_path / "run"
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
    assert {"torch", "chip", "threads"} <= json.loads((folder / "env.json").read_text()).keys()
    config = done.run.config()
    assert (config["method"], config["steps"], config["recipe"]["batch"]) == ("simclr", 3, 32)
    assert (folder / "views.png").read_bytes()[:4] == b"\x89PNG"
    assert not list((folder / "checkpoints").glob(".writing-*"))


def test_the_written_config_makes_the_same_run_again(tmp_path, pictures):
    first = train.pretrain(
        pictures, method="simclr", steps=3, options={"temperature": 0.5}, out=tmp_path / "a", **SMALL
    )
    config = {k: v for k, v in first.run.config().items() if k != "data"}
    assert same(first, train.pretrain(pictures, out=tmp_path / "b", **config))


def test_minutes_become_a_horizon_that_is_kept(tmp_path, pictures):
    ears = Ears()
    done = train.pretrain(pictures, method="simclr", minutes=0.02, out=tmp_path / "run", listener=ears, **SMALL)
    assert done.run.config()["resolved"]["horizon"] == done.result["steps"] >= 1
    assert any("ms a step" in text for text in ears.said)


def test_one_row_is_no_data(tmp_path, pictures):
    with pytest.raises(DataError, match="1 usable row"):
        train.pretrain(pictures[:1], method="simclr", steps=1, out=tmp_path / "run")


def test_accumulation_with_batch_statistics_is_refused(tmp_path, pictures):
    with pytest.raises(RequestError, match="batch statistics"):
        train.pretrain(
            pictures, method="simclr", steps=1, out=tmp_path / "run", encoder_options=SMALL["encoder_options"],
            recipe={"batch": 32, "accumulate": 2},
        )  # fmt: skip
    assert not (tmp_path / "run").exists(), "the next attempt may take the same folder"


def test_a_refused_run_takes_nothing_of_others_along(tmp_path, pictures):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("kept")
    wrong = {**SMALL, "recipe": {"batch": 32, "accumulate": 2}}
    with pytest.raises(RequestError, match="batch statistics"):
        train.pretrain(pictures, method="simclr", steps=1, out=tmp_path / "run", **wrong)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["mine.txt"]
    train.pretrain(pictures, method="simclr", steps=1, out=tmp_path / "run", **SMALL)
    wrong["recipe"] = {"batch": -1}
    with pytest.raises(RequestError, match="already holds a run"):
        train.pretrain(pictures, method="simclr", steps=1, out=tmp_path / "run", **wrong)
    assert (tmp_path / "run" / "result.json").exists()


def test_masked_pictures_learn_the_same_in_micro_batches(tmp_path, pictures):
    vit = {"encoder_options": {"width": 16, "depth": 1, "heads": 2}}
    runs = [
        train.pretrain(
            pictures,
            method="mae",
            steps=3,
            out=tmp_path / str(n),
            recipe={"batch": 32, "accumulate": n, "lr": 1e-3},
            precision="float32",  # bfloat16, which some chips take by themselves, rounds micro-batches otherwise
            **vit,
        )
        for n in (1, 4)
    ]
    for a, b in zip(weights(runs[0]).values(), weights(runs[1]).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    losses = [[r["loss"] for r in run.run.metrics()] for run in runs]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def poison(monkeypatch, steps: set[int]):
    """Makes the loss of SimCLR not finite at some steps, statistics included."""
    from selftaught import methods

    simclr = methods.find("simclr")
    honest = simclr.loss

    def loss(self: Method, batch: Batch):
        if batch.step in steps:
            batch = Batch(
                [v.with_parts(pixels=v["pixels"] * float("nan")) for v in batch.views],
                batch.index,
                batch.seed,
                batch.step,
                batch.progress,
            )
        return honest(self, batch)

    monkeypatch.setattr(simclr, "loss", loss)


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(tmp_path, pictures, monkeypatch):
    poison(monkeypatch, {2})
    ears = Ears()
    done = train.pretrain(pictures, method="simclr", steps=4, out=tmp_path / "run", listener=ears, **SMALL)
    assert done.result["skipped"] == 1
    assert any("step 2" in text and "rows" in text for text in ears.said)
    assert all(torch.isfinite(v).all() for v in weights(done).values() if v.is_floating_point())


def test_several_in_a_row_stop_the_run_with_the_rows(tmp_path, pictures, monkeypatch):
    poison(monkeypatch, set(range(1, 50)))
    with pytest.raises(AlarmError, match="5 steps in a row"):
        train.pretrain(pictures, method="simclr", steps=20, out=tmp_path / "run", **SMALL)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_collapse_is_noticed_by_the_loop(tmp_path, pictures, monkeypatch):
    from selftaught import methods

    byol = methods.find("byol")
    honest = byol.loss

    def loss(self, batch):
        outputs = honest(self, batch)
        return {**outputs, "features": outputs["features"].mean(0, keepdim=True).expand_as(outputs["features"])}

    monkeypatch.setattr(byol, "loss", loss)
    done = train.pretrain(pictures, method="byol", steps=80, out=tmp_path / "run", **SMALL)
    assert any("collapse" in text for text in done.result["alarms"])
    assert "collapse" in (tmp_path / "run" / "log.txt").read_text()


def texts(words: str) -> list[str]:
    """Sixty texts of the given words in changing order."""
    some = words.split()
    return [" ".join(some[(3 * k + j * (1 + k % 4)) % len(some)] for j in range(12)) for k in range(60)]


@pytest.mark.parametrize(("method", "steps"), [("next-token", 40), ("masked-token", 120)])
def test_a_run_that_stays_above_a_blind_guess_says_so_and_one_below_does_not(tmp_path, method, steps):
    order = [" ".join("abcdefgh"[(k + j) % 8] for j in range(24)) for k in range(100)]
    small = {"encoder_options": {"width": 32, "depth": 1, "heads": 2}}
    for lr, rings in ((1e-5, True), (1e-2, False)):
        words = {"steps": steps, "recipe": {"batch": 32, "lr": lr}, **small}
        rung = train.pretrain(order, method=method, out=tmp_path / str(lr), **words).result["alarms"]
        assert any("no progress" in text for text in rung) == rings


def test_a_run_that_continues_another_reads_with_its_tokenizer(tmp_path):
    ears = Ears()
    small = {"width": 16, "depth": 1, "heads": 2}
    first = train.pretrain(
        texts("the cat sat on a mat and saw another cat"), method="masked-token", steps=2, out=tmp_path / "first",
        encoder_options=small,
    )  # fmt: skip
    (tmp_path / "more.jsonl").write_text(
        "".join(f'{{"text": "{t}"}}\n' for t in texts("ships sail far over northern seas"))
    )
    second = train.pretrain(
        tmp_path / "more.jsonl", method="masked-token", steps=0, out=tmp_path / "second", encoder=str(tmp_path / "first"), listener=ears
    )  # fmt: skip
    read = [(r.run.encoder / "tokenizer.json").read_bytes() for r in (first, second)]
    assert read[0] == read[1]
    assert any("rows are read as" in line for line in ears.said)
    before, after = first.encoder().state_dict(), second.encoder().state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_data_that_an_encoder_reads_otherwise_are_refused(tmp_path):
    from selftaught.modalities import open_data

    small = {"width": 16, "depth": 1, "heads": 2}
    train.pretrain(
        texts("one two three four five"), method="masked-token", steps=1, out=tmp_path / "run", encoder_options=small
    )
    other = open_data(texts("six seven eight nine ten"))
    keywords = {"method": "masked-token", "steps": 1, "encoder": str(tmp_path / "run")}
    with pytest.raises(RequestError, match="packed in another way"):
        train.pretrain(other, out=tmp_path / "a", **keywords)
    with pytest.raises(RequestError, match="--size"):
        train.pretrain(texts("six seven"), out=tmp_path / "b", size=64, **keywords)
    with pytest.raises(RequestError, match="is for text"):
        train.pretrain(np.zeros((8, 16, 16, 3), np.uint8), out=tmp_path / "c", modality="image", **keywords)


def test_what_is_held_out_is_never_trained_on_and_is_what_evaluate_tests_on(tmp_path, pictures):
    from selftaught.data import Dataset, splits
    from selftaught.evaluation import evaluate

    labels = np.arange(96) % 3
    modality = find("image")(side=16)
    data = Dataset.from_arrays(pictures, modality, labels=labels)
    kept, held = splits.hold_out(data, 0.25)
    changed = pictures.copy()
    changed[held] = 255 - changed[held]
    same_there = Dataset.from_arrays(changed, modality)
    keywords = {"method": "simclr", "steps": 4, "holdout": 0.25, **SMALL}
    first = train.pretrain(data, out=tmp_path / "first", **keywords)
    assert same(first, train.pretrain(same_there, out=tmp_path / "second", **keywords))
    assert not same(first, train.pretrain(data, out=tmp_path / "third", **{**keywords, "holdout": 0.0}))
    assert first.run.read_json("data.json")["rows"] == len(kept) == 72

    ears = Ears()
    options = {"budgets": [2], "draws": 2, "seeds": 1, "controls": ("raw",)}
    found = evaluate(tmp_path / "first", data, listener=ears, **options)
    assert found["test_rows"] == len(held) == 24
    assert found["leakage"]["seen_in_pretraining"] == 0
    assert any("that pretraining left out" in line for line in ears.said)
    turned = labels.copy()
    turned[held] = (turned[held] + 1) % 3
    assert evaluate(tmp_path / "first", data, labels=turned, **options)["rows"] != found["rows"], (
        "the labels of just these rows are what is scored"
    )
    seen = evaluate(tmp_path / "third", data, **options)
    assert seen["leakage"]["seen_in_pretraining"] == seen["test_rows"]
    with pytest.raises(RequestError, match="--holdout 1"):
        train.pretrain(data, out=tmp_path / "fourth", **{**keywords, "holdout": 1.0})


def test_a_closed_form_is_no_start_for_a_gradient_and_takes_none(tmp_path, pictures):
    fitted = train.pretrain(pictures, method="sparse-manifold", options={"atoms": 288}, out=tmp_path / "closed")
    with pytest.raises(RequestError, match="a closed form made it"):
        train.pretrain(pictures, method="simclr", encoder=str(fitted.run.folder), steps=1, out=tmp_path / "on")
    with pytest.raises(RequestError, match="is a closed form"):
        train.pretrain(pictures, method="sparse-manifold", encoder="resnet-small", out=tmp_path / "from")
