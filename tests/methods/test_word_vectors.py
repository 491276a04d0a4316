"""cbow, skip-gram and fasttext from texts to vectors: runs, resuming, threads, starts, files, the command."""

import json

import numpy as np
import pytest
import torch

import selftaught
from selftaught.cli import main
from selftaught.core import DataError, ModelError, Ragged, RequestError
from selftaught.core.listener import Listener
from selftaught.nets import word_corpus, word_fit
from selftaught.nets.subwords import Subwords
from selftaught.nets.word_corpus import Corpus
from selftaught.nets.word_fit import Fitting, Plan
from selftaught.nets.words import Words
from selftaught.train import Run

METHODS = ("cbow", "skip-gram", "fasttext")
TOPICS = {"sea": "ship wave salt harbour sail tide", "kitchen": "bread oven flour butter knife salad", "sky": "star moon cloud comet orbit dawn"}  # fmt: skip


def texts(count=300, seed=0):
    """Texts of eight words of one topic each, with words in between that every topic has."""
    draw, kinds = np.random.default_rng(seed), [v.split() for v in TOPICS.values()]
    return [" ".join(w for word in draw.choice(kinds[i % 3], 8) for w in ("the", word)) for i in range(count)]


class Rows:
    """Documents of ids as a dataset gives them."""

    def __init__(self, documents):
        self.documents = documents

    def __len__(self):
        return len(self.documents)

    def rows(self, index):
        found = [self.documents[int(i)] for i in index]
        return Ragged(torch.from_numpy(np.concatenate(found)), torch.tensor([0, *np.cumsum([len(d) for d in found])]))


def clusters(documents=500, size=10, seed=0):
    """Documents of one of four clusters of `size` words; ids from 5 on."""
    draw = np.random.default_rng(seed)
    return Rows([(5 + size * (i % 4) + draw.integers(0, size, draw.integers(2, 14))).astype(np.int32) for i in range(documents)])  # fmt: skip


def plan(**options):
    given = {
        "way": "skip-gram",
        "vocabulary": 45,
        "specials": 5,
        "dimensions": 12,
        "min_count": 1,
        "sample": 0,
        "epochs": 3,
    }
    return Plan(**{**given, **options})


def fitted(data, chosen, state=None):
    fitting = Fitting(chosen, lambda: [f"w{i}" for i in range(45)])
    return fitting, list(fitting.run(data, state))


@pytest.mark.parametrize("way", ["skip-gram", "cbow", "subwords"])
def test_planted_clusters_come_out_and_the_loss_falls(way):
    subwords = Subwords(50) if way == "subwords" else None
    fitting, _ = fitted(clusters(), plan(way=way, epochs=20, lr=0.1, subwords=subwords))
    unit = torch.nn.functional.normalize(fitting.kept().encoder.embedding.weight.detach()[5:], dim=1)
    cosine, own = unit @ unit.T, torch.arange(40) // 10
    alike = (own[:, None] == own) & ~torch.eye(40, dtype=torch.bool)
    assert cosine[alike].mean() > cosine[own[:, None] != own].mean() + 0.4
    losses = fitting.state["losses"]
    assert losses.dtype == torch.float64
    assert len(losses) == 20
    assert losses[-1] < losses[0] < np.log(2)


@pytest.mark.parametrize("way", ["skip-gram", "cbow", "subwords"])
def test_one_thread_gives_the_same_bits_wherever_it_is_cut(way, monkeypatch):
    data, chosen = clusters(), plan(way=way, epochs=2.5, subwords=Subwords(50) if way == "subwords" else None)
    _, whole = fitted(data, chosen)
    monkeypatch.setattr(word_fit, "PIECE", 700)
    _, cut = fitted(data, chosen)
    assert len(cut) > len(whole) + 5
    assert [round(share, 3) for _, share in cut][-1] == 1.0
    _, resumed = fitted(data, chosen, cut[3][0])
    for name, value in whole[-1][0].items():
        if name in ("losses", "loss"):  # sums of other lengths
            torch.testing.assert_close(cut[-1][0][name], value, rtol=1e-12, atol=0)
        else:
            assert torch.equal(cut[-1][0][name], value), name
        assert torch.equal(resumed[-1][0][name], cut[-1][0][name]), name


def test_loss_does_not_depend_on_threads_where_nothing_is_learned():
    """The true mean a target, summed in float64 a thread: the same for one thread and three."""
    data = clusters()
    one, three = (fitted(data, plan(lr=0.0, threads=n))[0].state for n in (1, 3))
    torch.testing.assert_close(one["losses"], three["losses"], rtol=1e-13, atol=0)
    _, several = fitted(data, plan(threads=2, lr=0.1))
    assert several[-1][0]["inputs"].isfinite().all()
    assert several[-1][0]["losses"][-1] < one["losses"][-1] - 0.05


def test_nothing_of_a_long_text_is_left_out(monkeypatch):
    """Every word of every document is in one unit, once, in other documents' company or not."""
    monkeypatch.setattr(word_corpus, "UNIT", 8)
    draw = np.random.default_rng(1)
    documents = [draw.integers(5, 45, n).astype(np.int32) for n in (3, 0, 8, 9, 41, 1, 16)]
    corpus = Corpus.of(Rows(documents), 45, 5, 1)
    whole = np.concatenate(documents)
    assert corpus.words == len(whole)
    assert corpus.counts.tolist() == np.bincount(whole, minlength=45).tolist()
    seen = np.zeros(len(whole), int)
    for some in (np.array([4, 1, 0]), np.array([6, 3]), np.array([2, 5])):
        piece = corpus.read(some)
        for first, last, place in piece.units:
            np.testing.assert_array_equal(piece.ids[first:last], whole[place : place + last - first])
            assert 0 < last - first <= 8
            seen[place : place + last - first] += 1
        parts = piece.shares(3)
        assert np.concatenate([units for units, _ in parts]).tolist() == piece.units.tolist()
        assert [before for _, before in parts] == [units[0, 0] for units, _ in parts]
    assert (seen == 1).all()


def test_rare_words_have_no_vector_and_no_weight():
    documents = [np.array([5, 6, 7] * 5, np.int32), np.array([8], np.int32)]
    fitting, _ = fitted(Rows(documents), plan(min_count=2))
    encoder = fitting.kept().encoder
    assert encoder.get_buffer("frequency").nonzero().flatten().tolist() == [5, 6, 7]
    assert not encoder.embedding.weight[8].any()
    words = Words.of(encoder, [f"w{i}" for i in range(45)])
    assert words.names == ["w5", "w6", "w7"]
    with pytest.raises(DataError, match="fewer than two occur 9 times"):
        fitted(Rows(documents), plan(min_count=9))


def test_bad_options_name_what_is_accepted(tmp_path):
    for name, value in {
        "window": 0,
        "negatives": 0,
        "dimensions": 0,
        "sample": 2.0,
        "lr": -1.0,
        "epochs": -1.0,
    }.items():
        with pytest.raises(RequestError, match=f"{name} = {value}"):
            plan(**{name: value})
    with pytest.raises(RequestError, match="n-grams"):
        selftaught.pretrain(
            texts(), method="fasttext", out=tmp_path / "run", options={"shortest": 9, "longest": 3}, epochs=1
        )


def learn(folder, method="skip-gram", **settings):
    options = {"min_count": 1, "dimensions": 16, "sample": 0.01, "workers": 1, **settings.pop("options", {})}
    if method == "fasttext":
        options["buckets"] = 500
    return selftaught.pretrain(texts(), method=method, out=folder, options=options, **{"epochs": 4, **settings})


@pytest.mark.parametrize("method", METHODS)
def test_texts_to_words(tmp_path, method):
    done = learn(tmp_path / "run", method, epochs=30)
    rows = Run.open(tmp_path / "run").metrics()
    assert [r["epoch"] for r in rows] == list(range(1, 31))
    assert rows[-1]["loss"] == done.result["loss"] < rows[0]["loss"]
    words = selftaught.words(tmp_path / "run")
    assert len(words) == 19
    near = {name for name, _ in words.near("ship", 5)}
    assert len(near & set(TOPICS["sea"].split())) >= 4
    view = selftaught.open_data(["the ship and the tide"], modality=selftaught.modalities.load(done.run.encoder)).fetch(
        [0]
    )
    encoder = done.encoder()
    weight = {w: 1e-3 / (1e-3 + float(f)) for w, f in zip(words.names, encoder.get_buffer("frequency")[encoder.get_buffer("frequency") > 0], strict=True)}  # fmt: skip
    known = ["the", "ship", "the", "tide"]
    wanted = np.mean([weight[w] * words.vector(w) for w in known], axis=0)
    np.testing.assert_allclose(encoder(view)[0].detach().numpy(), wanted, rtol=1e-4, atol=1e-6)
    assert selftaught.modalities.load(done.run.encoder).context == 1024
    if method == "fasttext":
        assert words.near("ships", 1)[0][0] == "ship"


class Stop(Listener):
    """Asks a run to stop once some of its pieces are done."""

    def __init__(self, after):
        self.after, self.said = after, []

    def progress(self, stage, done, total, note=""):
        self.after -= stage == "fitting"

    def say(self, text):
        self.said.append(text)


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    whole = learn(tmp_path / "whole")
    monkeypatch.setattr(word_fit, "PIECE", 1000)
    ears = Stop(7)
    cut = learn(tmp_path / "cut", listener=ears, stop=lambda: ears.after <= 0)
    assert not cut.result["finished"]
    assert any("same vectors" in said for said in ears.said)
    done = selftaught.resume(tmp_path / "cut", data=texts())
    assert done.result["resumed_from_step"] > 0
    ours, theirs = done.encoder().state_dict(), whole.encoder().state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    epochs = [row["epoch"] for row in Run.open(tmp_path / "cut").metrics()]
    assert epochs == [1, 2, 3, 4]


def test_minutes_buy_epochs_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(word_fit, "TRIAL_SECONDS", 0.02)
    ears = Stop(10**9)
    done = learn(tmp_path / "run", epochs=None, minutes=0.02, listener=ears)
    assert done.result["finished"]
    said = next(s for s in ears.said if "words a second here" in s)
    assert said.startswith("0.02 minutes: ")
    for wrong in ({"epochs": 2, "minutes": 1}, {"epochs": None, "steps": 5}):
        with pytest.raises(RequestError):
            learn(tmp_path / "wrong", overwrite=True, **wrong)
    untrained = learn(tmp_path / "none", epochs=None, steps=0)
    assert untrained.result["loss"] is None
    assert untrained.encoder()(selftaught.open_data(["ship"], modality=selftaught.modalities.load(untrained.run.encoder)).fetch([0])).any()  # fmt: skip


def test_training_begins_with_another_programs_vectors(tmp_path):
    table = np.random.default_rng(0).normal(0, 1, (2, 16)).astype(np.float32)
    Words(["ship", "unheard"], table).write(tmp_path / "w.bin")
    ears = Stop(10**9)
    learn(tmp_path / "run", encoder=f"word2vec:{tmp_path / 'w.bin'}", epochs=0, listener=ears)
    assert any("for 1 of 19 words" in said for said in ears.said)
    np.testing.assert_array_equal(selftaught.words(tmp_path / "run").vector("ship"), table[0])
    with pytest.raises(RequestError, match="16 dimensions, not 8"):
        learn(tmp_path / "other", encoder=f"word2vec:{tmp_path / 'w.bin'}", options={"dimensions": 8})
    with pytest.raises(RequestError, match="no encoder by itself"):
        selftaught.pretrain(
            texts(), method="simclr", encoder=f"word2vec:{tmp_path / 'w.bin'}", steps=1, out=tmp_path / "net"
        )
    with pytest.raises(ModelError, match="There is no file"):
        learn(tmp_path / "gone", encoder="word2vec:gone.bin")


def test_the_command(tmp_path, capsys):
    learn(tmp_path / "run", epochs=30)
    capsys.readouterr()
    asked = ["words", str(tmp_path / "run"), "--near", "ship", "bread", "--analogy", "ship", "wave", "bread", "-k", "3"]
    assert main([*asked, "--to", str(tmp_path / "w.bin"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [len(a["words"]) for a in found["answers"]] == [3, 3, 3]
    assert found["count"] == 19
    assert main(["words", str(tmp_path / "w.bin"), "--near", "ship", "-k", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"][0] == found["answers"][0]
    assert main(["words", str(tmp_path / "run"), "--near", "submarine", "--json"]) == 2
    assert "none of the 19 words" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert main(["words", str(tmp_path / "run"), "--json"]) == 2
