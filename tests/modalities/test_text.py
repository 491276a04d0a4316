"""Text: the tokenizer's round trip, what is set apart, marks, views, targets, the raw control, saving and loading."""

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import DataError, Draw, Facts, ModelError, Ragged, RequestError, View
from selftaught.data.arrays import of_memory
from selftaught.data.bad import Bad
from selftaught.modalities import _tokenizer
from selftaught.modalities.text import Text, readable, vocabulary_for
from selftaught.views.text import BEGIN, END, MARKS, MASK, PAD

TEXTS, FACTORS = Text.toy(300, 0)


@pytest.fixture(scope="module")
def text() -> Text:
    source = of_memory(TEXTS)
    return Text.fit(source, "text")


def batch(text: Text, rows: list[str]) -> View:
    ids = [torch.from_numpy(text.decode(r).astype(np.int64)) for r in rows]
    return text.collate(Ragged(torch.cat(ids), torch.tensor([0, *map(len, ids)]).cumsum(0)))


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_any_text_comes_back_from_its_ids(text, words):
    if not words.strip():
        with pytest.raises(Bad, match="empty"):
            text.decode(words)
        return
    ids = text.decode(words)
    assert text.text_of(ids) == words
    assert ids.min() >= len(MARKS)
    assert ids.max() < text.vocabulary
    assert np.array_equal(ids, text.decode(words.encode("utf-8")))


@given(st.sampled_from(MARKS), st.sampled_from(["{}", "a {} b", "{}{}", "x{}y", " {}"]))
def test_a_mark_spelled_out_in_a_text_is_ordinary_text(text, mark, frame):
    words = frame.replace("{}", mark)
    ids = text.decode(words)
    assert ids.min() >= len(MARKS)
    assert text.text_of(ids) == words


def test_a_corpus_full_of_spelled_marks_does_not_teach_the_tokenizer_one_either():
    fitted = Text.fit(of_memory(["the [MASK] token and [PAD] [PAD] text"] * 40 + ["other words"] * 10), "text")
    ids = fitted.decode("[MASK] [PAD]")
    assert ids.min() >= len(MARKS)
    assert fitted.text_of(ids) == "[MASK] [PAD]"


def test_copies_keep_marks_ordinary(text):
    text.decode("[MASK]")
    for again in (copy.deepcopy(text), pickle.loads(pickle.dumps(text)), dataclasses.replace(text, context=9)):
        assert again.decode("[MASK]").min() >= len(MARKS)
        assert np.array_equal(again.decode("a goat"), text.decode("a goat"))


def test_words_keep_their_boundaries(text):
    words = "The happy farmer, tired but glad, fed 12 goats."
    encoding = text.bpe.encode(words, add_special_tokens=False)
    spelled = ["".join(words[slice(*encoding.offsets[i])] for i in range(len(encoding)) if encoding.word_ids[i] == w) for w in range(12)]  # fmt: skip
    assert spelled == ["The", "happy", "farmer", ",", "tired", "but", "glad", ",", "fed", "12", "goats", "."]
    assert len(encoding) < len(words) / 2


def test_the_same_corpus_gives_the_same_tokenizer_in_another_process_with_one_thread(text):
    code = "from selftaught.modalities.text import Text; from selftaught.data.arrays import of_memory;"
    code += "print(Text.fit(of_memory(Text.toy(300, 0)[0]), 'text').config()['tokenizer'])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RAYON_NUM_THREADS": "1"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.strip() == text.config()["tokenizer"]


def test_marks_are_the_first_ids(text):
    assert [text.bpe.token_to_id(m) for m in MARKS] == [PAD, BEGIN, END, MASK] == [0, 1, 2, 3]
    whole = text.bpe.encode("The cow.")  # what tools that load tokenizer.json do
    assert [whole.ids[0], whole.ids[-1]] == [BEGIN, END]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [(b"caf\xe9", "not UTF-8"), ("\ud800", "not UTF-8"), ("", "empty"), ("  \n\t", "empty"), (b"", "empty"), (3, "not text"), (None, "not text")],
)  # fmt: skip
def test_what_is_no_text_is_set_apart(text, payload, reason):
    with pytest.raises(Bad, match=reason):
        text.decode(payload)
    many = text.decode_many(["good", payload, "fine"])
    assert isinstance(many[1], Bad)
    assert [text.text_of(many[i]) for i in (0, 2)] == ["good", "fine"]


def test_many_at_once_are_one_after_the_other(text):
    assert all(np.array_equal(a, text.decode(t)) for a, t in zip(text.decode_many(TEXTS[:40]), TEXTS, strict=False))
    assert text.decode_many([]) == []


def test_a_text_without_end_keeps_its_beginning_and_is_counted(text):
    row = text.decode("the goat " * 300_000)
    assert len(row) == Text.longest
    assert text.text_of(row[:10]) == text.text_of(text.decode("the goat " * 300)[:10])
    said = text.notes(np.array([5, Text.longest, text.context, text.context - 2]))
    assert said[0].startswith("1 of 4 texts reach 65536 tokens")
    assert said[1].startswith(f"2 of 4 texts are longer than the context of {text.context}")
    assert text.notes(np.array([3, 4])) == []


def test_rows_are_stored_narrow_as_they_are_said_to_be(text):
    assert text.decode("a word").dtype == np.dtype(text.dtype) == np.uint16
    assert text.ragged


def test_the_vocabulary_grows_with_the_corpus_up_to_a_bound():
    assert [vocabulary_for(s) for s in (0, 1e5, 1e6, 1.1e6, 1e7, 5e7, 1e9, 1e12)] == [
        2048,
        2048,
        2048,
        4096,
        4096,
        8192,
        16384,
        32768,
    ]


def test_fit_says_what_it_chose_and_size_is_the_context(text):
    longest = max(len(text.decode(t)) for t in TEXTS)
    assert longest + 2 <= text.context <= longest + 9
    assert f"{text.vocabulary} ids" in text.describe()
    assert Text.fit(of_memory(TEXTS), "text", size=16).context == 16
    with pytest.raises(RequestError, match="--size 3"):
        Text.fit(of_memory(TEXTS), "text", size=3)


def test_fit_sets_unreadable_rows_aside_and_refuses_a_column_of_nothing_else():
    broken = of_memory(
        {"body": [f"text {i} with some words" if i % 3 else "" for i in range(60)], "n": list(range(60))}
    )
    guess = Text.sniff(broken)
    assert guess.column == "body"
    assert Text.fit(broken, "body").decode("one text").size > 1
    empty = of_memory({"body": ["words that are here at first"], "n": [1]})
    empty._held["body"] = [""]
    with pytest.raises(DataError, match="holds no text"):
        Text.fit(empty, "body")


def test_sniff_takes_the_longest_text_and_leaves_other_data_alone():
    short, long = (
        [f"title number {i}" for i in range(30)],
        [f"a body of text that goes on for longer, {i}" for i in range(30)],
    )
    guess = Text.sniff(of_memory({"title": short, "body": long, "label": ["a", "b"] * 15}))
    assert guess.column == "body"
    assert "'title'" in guess.reason
    assert Text.sniff(of_memory(np.zeros((5, 8, 8), np.uint8))) is None


def test_collate_pads_and_views_put_marks(text):
    raw = batch(text, TEXTS[:4])
    assert raw["ids"].dtype == torch.int64
    assert not (raw["ids"][raw["valid"]] < len(MARKS)).any()
    shown = text.plain()(raw, Draw(torch.arange(4)))
    for i in range(4):
        ids = shown["ids"][i][shown["valid"][i]].tolist()
        assert [ids[0], ids[-1]] == [BEGIN, END]
        assert text.text_of(ids) == TEXTS[i]
    equal = text.collate(np.array([[5, 6], [7, 8]], np.uint16))
    assert equal["ids"].tolist() == [[5, 6], [7, 8]]
    assert equal["valid"].all()


@pytest.mark.parametrize("name", ["plain", "mild", "augment", "local"])
def test_every_view_goes_through_the_encoder_made_for_it(text, name):
    facts = Facts(rows=300, modality=text, minutes=1)
    net = text.encoder(facts, frozenset({"tokens", "mask", "causal"}))
    view = getattr(text, name)(facts)(batch(text, TEXTS[:5]), Draw(torch.arange(5)))
    assert view["ids"].shape[1] <= text.context
    assert net(view).shape == (5, net.dim)
    assert net(view).isfinite().all()
    assert net.embedding.weight.shape[0] == text.vocabulary


def test_plain_has_no_randomness_and_local_shows_less_than_augment(text):
    raw, draw, other = batch(text, TEXTS[:50]), Draw(torch.arange(50)), Draw(torch.arange(50), seed=1)
    assert torch.equal(text.plain()(raw, draw)["ids"], text.plain()(raw, other)["ids"])
    length = {n: getattr(text, n)()(raw, draw)["valid"].sum(1).float().mean() for n in ("plain", "augment", "local")}
    assert length["local"] < 0.7 * length["augment"] < 0.7 * length["plain"]


def test_targets_are_the_clean_ids_and_corruption_spares_marks(text):
    view = text.mild()(batch(text, TEXTS[:20]), Draw(torch.arange(20)))
    target = text.target(view, (view["ids"].shape[1],))
    assert (target.kind, target.outputs) == ("class", text.vocabulary)
    assert torch.equal(target.values, view["ids"])
    assert torch.equal(target.valid, view["valid"] & (view["ids"] != BEGIN))
    hidden = text.corrupt(view, torch.ones_like(view["valid"]), None, Draw(torch.arange(20)))
    marks = view["ids"] < len(MARKS)
    assert torch.equal(hidden["ids"][marks], view["ids"][marks])
    assert 0.75 < (hidden["ids"][~marks] == MASK).float().mean() < 0.85
    assert hidden["ids"].max() < text.vocabulary


def test_encoders_by_name(text):
    facts = Facts(rows=300, modality=text)
    assert text.encoder(facts, frozenset(), width=64, heads=2, depth=1).dim == 64
    assert text.encoder(facts, frozenset(), "text-transformer", width=32, heads=2).vocabulary == text.vocabulary
    sizes = [
        text.encoder(Facts(rows=1, modality=text, minutes=m, device=d), frozenset()).dim
        for m, d in ((1, "cpu"), (60, "cpu"), (1, "cuda"))
    ]
    assert sizes == sorted(set(sizes))
    with pytest.raises(RequestError, match="takes image, not text"):
        text.encoder(facts, frozenset(), "vit")


def test_the_raw_control_is_a_bag_of_tokens(text):
    raw = batch(text, ["the goat the goat the", "the goat", "goat the"])
    bag = text.raw(raw)
    counts = np.bincount(text.decode("the goat the goat the"), minlength=text.vocabulary)
    wanted = np.log1p(counts) / np.linalg.norm(np.log1p(counts))
    np.testing.assert_allclose(bag[0].numpy(), wanted, atol=1e-6)
    assert bag.shape == (3, text.vocabulary)
    shown = text.plain()(raw, Draw(torch.arange(3)))
    assert torch.allclose(text.raw(shown), bag)  # marks and padding count for nothing
    assert torch.allclose(bag.norm(dim=1), torch.ones(3))


def test_the_raw_control_is_hashed_where_the_vocabulary_is_large(text, monkeypatch):
    monkeypatch.setattr("selftaught.modalities.text.BAG", 64)
    bag = text.raw(batch(text, TEXTS[:30]))
    assert bag.shape == (30, 64)
    assert (bag > 0).any(0).sum() > 48
    assert torch.allclose(bag.norm(dim=1), torch.ones(30))


def test_saved_and_loaded_it_is_the_same(text, tmp_path):
    text.save(tmp_path)
    again = Text.load(tmp_path)
    assert again == text
    assert again.config() == text.config()
    assert np.array_equal(again.decode("the [MASK] goat"), text.decode("the [MASK] goat"))
    assert json.loads(json.dumps(text.config())) == text.config()


def test_transformers_reads_the_tokenizer(text, tmp_path):
    from transformers import PreTrainedTokenizerFast

    text.save(tmp_path)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), split_special_tokens=True)
    for words in (TEXTS[0], "a [MASK] in the text"):
        assert theirs(words)["input_ids"] == [BEGIN, *text.decode(words).tolist(), END]


def _vocabulary(held):
    held["model"]["vocab"]["zzz"] = 70_000


def _pattern(held):
    held["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


def _marks(held):
    held["added_tokens"] = held["added_tokens"][:2]


def _model(held):
    held["model"] = {"type": "WordLevel", "vocab": held["model"]["vocab"], "unk_token": "[PAD]"}


def _merges(held):
    held["model"]["merges"] = [["a", "zzzzzz"]]


@pytest.mark.parametrize(
    "change", [_vocabulary, _pattern, _marks, _model, _merges, lambda h: h.clear(), lambda h: h.update(model=[])]
)
def test_a_tokenizer_that_was_tampered_with_is_refused(text, change):
    held = json.loads(text.tokenizer)
    change(held)
    with pytest.raises(ModelError, match=r"tokenizer\.json is broken"):
        _tokenizer.load(json.dumps(held))


def test_files_that_do_not_belong_together_are_refused(text, tmp_path):
    text.save(tmp_path)
    held = text.config()
    for broken in ({**held, "context": 7}, {**held, "vocabulary": 5}, {**held, "context": "9"}, {**held, "extra": 1}):
        (tmp_path / "preprocessor.json").write_text(json.dumps(broken))
        if broken["context"] == 7:
            assert Text.load(tmp_path).context == 7
            continue
        with pytest.raises(ModelError):
            Text.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="no file"):
        Text.load(tmp_path)


def test_toy_factors_are_known_even_and_told_by_the_words():
    texts, factors = Text.toy(2000, 3)
    assert (texts, *map(list, factors.values())) == (Text.toy(2000, 3)[0], *map(list, Text.toy(2000, 3)[1].values()))
    assert texts != Text.toy(2000, 4)[0]
    assert {k: len(set(v)) for k, v in factors.items()} == {"topic": 4, "tense": 3, "sentiment": 2, "number": 2}
    assert all(np.bincount(v).min() > 0.8 * 2000 / (v.max() + 1) for v in factors.values())
    assert all(("will " in t) == (tense == 2) for t, tense in zip(texts, factors["tense"], strict=True))
    spoken = [set(t.lower().replace(".", "").replace(",", "").split()) for t in texts]

    def told(*words: str) -> np.ndarray:
        return np.array([not said.isdisjoint(words) for said in spoken])

    farm = told(*["meadow", "barn", "orchard", "stable", "field", "haystack", "furrow", "pasture", "trough", "cart"])
    assert farm[factors["topic"] == 0].mean() > 0.8
    assert not farm[factors["topic"] != 0].any()
    assert not told("gladly", "well", "happy", "lovely")[factors["sentiment"] == 0].any()


def test_readable_hands_text_through():
    assert readable("naïve ☃".encode()) == readable("naïve ☃") == "naïve ☃"
