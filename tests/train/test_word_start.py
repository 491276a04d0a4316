"""A token table that begins with word vectors: what it knows, what it leaves alone, and that nothing about a run changes otherwise."""

import numpy as np
import pytest
import torch

from selftaught import modalities, train
from selftaught.core import random
from selftaught.core.errors import DataError, RequestError
from selftaught.core.listener import Listener
from selftaught.nets.text import TextTransformer
from selftaught.train import word_start

SMALL = {"encoder_options": {"width": 32, "depth": 1, "heads": 2}, "recipe": {"batch": 32}, "tokenizer": "words"}
FIELDS = [[f"{field}{k}" for k in range(12)] for field in ("sea", "wood", "town")]


class Ears(Listener):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """600 texts of twelve words, each of one of three fields of twelve words."""
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(FIELDS[k % 3], 12)) for k in range(600)]


def table(run) -> torch.Tensor:
    return run.encoder().embedding.weight.detach()


def fresh(data, spare: int = 0) -> TextTransformer:
    """A network whose table has `spare` rows that no token uses."""
    torch.manual_seed(0)
    return TextTransformer(
        vocabulary=data.modality.vocabulary + spare, specials=data.modality.specials, width=32, depth=1, heads=2
    )


def test_words_of_one_field_lie_together_and_what_is_unknown_stays(texts):
    data = modalities.open_data(texts, tokenizer="words")
    encoder, before = fresh(data, 3), fresh(data, 3).embedding.weight.detach().clone()
    known = word_start.fill(encoder, data, 10.0, seed=0)
    rows, words = encoder.embedding.weight.detach(), data.modality.words()
    assert known == 36
    for untouched in (slice(data.modality.specials), slice(len(words), None)):
        assert torch.equal(rows[untouched], before[untouched])
    own = torch.tensor([[words.index(w) for w in field] for field in FIELDS])
    unit = torch.nn.functional.normalize(rows[own.flatten()], dim=1)
    cosines = (unit @ unit.T).view(3, 12, 3, 12).mean((1, 3))
    assert (cosines.diagonal() > cosines.max(0).values - 1e-6).all()
    assert cosines.diagonal().min() > cosines[~torch.eye(3, dtype=torch.bool)].max() + 0.3


def test_the_rows_have_one_spread_and_no_common_mean(texts):
    data = modalities.open_data(texts, tokenizer="words")
    encoder = fresh(data)
    word_start.fill(encoder, data, 2.0, seed=0)
    rows = encoder.embedding.weight.detach()[data.modality.specials :].double()
    ids = data.rows(np.arange(len(data))).values.long() - data.modality.specials
    assert float(rows.std()) == pytest.approx(word_start.SPREAD, rel=1e-3)
    assert rows[ids].mean(0).abs().max() < 1e-6


def test_a_seed_gives_one_table(texts):
    data = modalities.open_data(texts, tokenizer="words")
    made = []
    for seed in (0, 0, 1):
        encoder = fresh(data)
        word_start.fill(encoder, data, 1.5, seed=seed)
        made.append(encoder.embedding.weight.detach())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_it_is_said_and_a_run_that_was_cut_ends_in_the_same_bits(tmp_path, texts):
    ears, whole = Ears(), {"method": "masked-token", "steps": 12, "word_start": True, "seed": 3, **SMALL}
    once = train.pretrain(texts, out=tmp_path / "once", listener=ears, **whole)
    assert sum("token table" in line for line in ears.said) == 1
    calls = iter(range(100))
    train.pretrain(texts, out=tmp_path / "cut", stop=lambda: next(calls) >= 5, **whole)
    again = Ears()
    cut = train.resume(tmp_path / "cut", data=texts, listener=again)
    assert not any("token table" in line for line in again.said)
    assert all(torch.equal(a, b) for a, b in zip(once.encoder().parameters(), cut.encoder().parameters(), strict=True))


def test_a_small_corpus_an_untrained_encoder_and_whoever_declines_begin_with_random_rows(tmp_path, texts):
    cases = {
        "small": {"steps": 1},
        "declined": {"steps": 1, "word_start": False},
        "untrained": {"steps": 0, "word_start": True},
    }
    rows = {
        name: table(train.pretrain(texts, method="masked-token", out=tmp_path / name, **case, **SMALL))
        for name, case in cases.items()
    }
    torch.manual_seed(random.key(0, "initialisation"))
    assert torch.equal(rows["small"], rows["declined"])
    assert (rows["small"] - rows["untrained"]).abs().max() < 0.01  # one step of a rate that warms up


def test_a_large_one_begins_with_vectors_unasked(tmp_path, texts, monkeypatch):
    monkeypatch.setattr(word_start, "LEAST_IDS", 30)
    monkeypatch.setattr(word_start, "LEAST_TOKENS", 7_000)
    ears = Ears()
    train.pretrain(texts, method="masked-token", steps=1, out=tmp_path / "run", listener=ears, **SMALL)
    assert any("36 of" in line and "--word-start False" in line for line in ears.said)


def test_where_it_cannot_be_it_is_refused(tmp_path):
    pictures = np.zeros((40, 8, 8, 3), np.uint8)
    with pytest.raises(RequestError, match="--word-start"):
        train.pretrain(pictures, method="simclr", steps=1, word_start=True, out=tmp_path / "a")
    with pytest.raises(DataError, match="fewer than two"):
        train.pretrain(
            [f"w{k}" for k in range(40)], method="masked-token", steps=1, word_start=True, out=tmp_path / "b", **SMALL
        )
