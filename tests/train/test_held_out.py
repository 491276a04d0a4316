"""The loss on held-out rows: written down, the same masks each time, and nothing of the run changed by it."""

import pytest
import torch

from selftaught import train
from selftaught.modalities.text import Text
from selftaught.nets import store
from selftaught.train import held_out

TEXTS, _ = Text.toy(200, 0)
SMALL = {"width": 16, "depth": 1, "heads": 2}


def run(place, **more):
    return train.pretrain(
        TEXTS,
        method="masked-token",
        steps=12,
        recipe={"batch": 4},
        encoder="text-transformer",
        encoder_options=SMALL,
        out=place,
        **more,
    )


def test_it_is_looked_at_from_start_to_end_and_changes_nothing(tmp_path, monkeypatch):
    looked = run(tmp_path / "a", holdout=0.2)
    rows = held_out.rows(looked.run.folder)
    assert [r["step"] for r in rows] == list(range(13))
    assert rows[-1]["loss"] < rows[0]["loss"]
    monkeypatch.setattr(held_out.HeldOut, "before", lambda self, step, training: None)
    plain = run(tmp_path / "b", holdout=0.2)
    assert not held_out.rows(plain.run.folder)
    one, two = (store.load_encoder(p.run.encoder).state_dict() for p in (looked, plain))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_without_a_holdout_or_where_rows_meet_there_is_none(tmp_path):
    assert not held_out.rows(run(tmp_path / "a").run.folder)
    done = train.pretrain(TEXTS, method="simclr", steps=2, recipe={"batch": 8}, holdout=0.2, out=tmp_path / "b")
    assert not held_out.rows(done.run.folder)


@pytest.mark.parametrize("method", ["electra", "hybrid"])
def test_a_loss_of_several_means_is_followed_too(method, tmp_path):
    train.pretrain(
        TEXTS[:40], method=method, steps=2, holdout=0.3, recipe={"batch": 4}, encoder="text-transformer", encoder_options=SMALL,
        out=tmp_path / "run",
    )  # fmt: skip
    found = held_out.rows(tmp_path / "run")
    assert [row["step"] for row in found][-1] == 2
    assert all(row["loss"] > 0 for row in found)
