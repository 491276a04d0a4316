"""Kinds of tokenizers, those of models, where words begin, and texts as packed sequences."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import Draw, ModelError, RequestError
from selftaught.data.arrays import of_memory
from selftaught.methods.masked_token import MaskedToken
from selftaught.modalities import _tokenizer, open_data
from selftaught.modalities.text import Text
from selftaught.views import random_words
from selftaught.views.text import BEGIN, END, MARKS, PACKED

TEXTS, _ = Text.toy(300, 0)


@pytest.fixture(scope="module", params=_tokenizer.KINDS)
def fitted(request) -> Text:
    return Text.fit(of_memory(TEXTS), "text", tokenizer=request.param)


def test_every_kind_has_marks_first_and_brings_known_words_back(fitted, tmp_path):
    assert fitted.pieces[: len(MARKS)] == list(MARKS)
    assert fitted.specials in (len(MARKS), len(MARKS) + 1)
    ids = fitted.decode("the happy farmer")
    assert ids.min() >= fitted.specials
    assert fitted.text_of(ids).split() == ["the", "happy", "farmer"]
    assert fitted.decode("[MASK] farmer").min() >= len(MARKS)
    fitted.save(tmp_path)
    again = Text.load(tmp_path)
    assert again == fitted
    assert np.array_equal(again.decode(TEXTS[0]), fitted.decode(TEXTS[0]))


def test_bytes_are_bytes_and_words_are_words_by_how_often_they_occur():
    by_bytes = Text.fit(of_memory(TEXTS), "text", tokenizer="bytes")
    assert by_bytes.vocabulary == len(MARKS) + 256
    assert len(by_bytes.decode("Zoë")) == 4
    words = Text.fit(of_memory(TEXTS), "text", tokenizer="words")
    listed = words.words()[words.specials :]
    counted: dict[str, int] = {}
    for text in TEXTS:
        for word in text.lower().replace(",", " ").replace(".", " ").split():
            counted[word] = counted.get(word, 0) + 1
    assert set(listed) == {w for w, n in counted.items() if n >= 5}
    assert [counted[w] for w in listed] == sorted((counted[w] for w in listed), reverse=True)
    assert words.text_of(words.decode("The Goat's, farmer!")).split()[0] == "the"


def test_the_number_of_ids_can_be_asked_for_and_nonsense_is_refused(tmp_path):
    assert Text.fit(of_memory(TEXTS), "text", tokenizer="bpe:400").vocabulary == 400
    for spec in ("bpe:12", "sentencepiece", "words:many", str(tmp_path / "nowhere")):
        with pytest.raises(RequestError, match="--tokenizer"):
            Text.fit(of_memory(TEXTS), "text", tokenizer=spec)
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        Text.fit(of_memory(TEXTS), "text", tokenizer=str(tmp_path))


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.sampled_from(["goat", "farmers", "12", "7", ",", "...", "(", "mew", "!"]), max_size=9),
    st.lists(st.sampled_from(["", " ", "\n"]), min_size=9, max_size=9),
)
def test_where_words_begin_is_what_the_tokenizer_says(parts, gaps):
    text = "The" + "".join(g + p for g, p in zip(gaps, parts, strict=False))
    fitted = WORDY
    encoding = fitted.bpe.encode(text, add_special_tokens=False)
    ids = torch.tensor([encoding.ids])
    numbers = encoding.word_ids
    wanted = [i == 0 or numbers[i] != numbers[i - 1] for i in range(len(numbers))]
    assert fitted.starts(ids)[0].tolist() == wanted


WORDY = Text.fit(of_memory(TEXTS), "text")


def test_word_pieces_go_on_and_marks_stand_alone():
    pieces = Text.fit(of_memory(TEXTS), "text", tokenizer="wordpiece")
    encoding = pieces.bpe.encode("Farmers mewed zzxqy.", add_special_tokens=False)
    numbers = encoding.word_ids
    assert pieces.starts(torch.tensor([encoding.ids]))[0].tolist() == [
        i == 0 or numbers[i] != numbers[i - 1] for i in range(len(numbers))
    ]
    ids = torch.tensor([[BEGIN, *WORDY.decode("goat").tolist(), END, 0, 0]])
    assert WORDY.starts(ids)[0].tolist()[-3:] == [True] * 3


@given(st.integers(0, 10_000))
def test_whole_words_are_hidden_or_left_and_hardly_more_than_asked(seed):
    rng = np.random.default_rng(seed)
    begins = torch.from_numpy(rng.random((4, 30)) < 0.5)
    valid = torch.from_numpy(rng.random((4, 30)) < 0.9)
    begins[:, 0] = True
    chosen = random_words(Draw(torch.arange(4), seed), valid, begins, 0.2)
    word = begins.long().cumsum(1)
    for row in range(4):
        for number in word[row].unique():
            inside = (word[row] == number) & valid[row]
            assert chosen[row][inside].unique().numel() <= 1
        size = max((int(((word[row] == n) & valid[row]).sum()) for n in word[row].unique()), default=0)
        wanted = max(1, round(0.2 * int(valid[row].sum())))
        if valid[row].any():
            assert wanted <= int(chosen[row].sum()) < wanted + size


def model_folder(tmp_path, kind: str, said: dict, **more):
    """A folder as transformers writes it, with ids in an order of its own."""
    own = json.loads(_tokenizer.train(TEXTS, 500, kind))
    marks = len(own["added_tokens"])
    names = {"[PAD]": "<pad>", "[BOS]": "<s>", "[EOS]": "</s>", "[MASK]": "<mask>", "[UNK]": "[UNK]"}
    vocabulary = sorted(own["model"]["vocab"], key=own["model"]["vocab"].__getitem__)
    turned = [*vocabulary[marks:], *[names[m] for m in vocabulary[:marks]]]
    own["model"]["vocab"] = {piece: n for n, piece in enumerate(turned)}
    own["added_tokens"] = [
        {**t, "content": names[t["content"]], "id": own["model"]["vocab"][names[t["content"]]]}
        for t in own["added_tokens"]
    ]
    own["post_processor"] = None
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "tokenizer.json").write_text(json.dumps(own | more), "utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said), "utf-8")
    return tmp_path, own["model"]["vocab"]


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_a_models_tokenizer_is_taken_with_its_marks_first(tmp_path, kind):
    said = {"pad_token": "<pad>", "cls_token": "<s>", "sep_token": {"content": "</s>"}, "mask_token": "<mask>"}
    folder, theirs = model_folder(tmp_path, kind, said)
    text = Text.fit(of_memory(TEXTS), "text", tokenizer=str(folder))
    assert text.pieces[:4] == ["<pad>", "<s>", "</s>", "<mask>"]
    table = _tokenizer.native(folder)
    assert len(table) == text.vocabulary == len(theirs)
    assert [theirs[p] for p in text.pieces] == table
    from tokenizers import Tokenizer

    native = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for words in TEXTS[:20]:
        assert [table[i] for i in text.decode(words)] == native.encode(words).ids
    assert text.decode("a <mask> of <pad>").min() >= 4  # spelled out, they are ordinary text


def test_marks_that_a_model_does_not_have_are_added(tmp_path):
    folder, theirs = model_folder(tmp_path, "bpe", {"eos_token": "</s>", "bos_token": "</s>"})
    text = Text.fit(of_memory(TEXTS), "text", tokenizer=str(folder))
    assert text.pieces[:4] == ["[PAD]", "</s>", "[EOS]", "[MASK]"]
    assert _tokenizer.native(folder)[:4] == [-1, theirs["</s>"], -1, -1]
    assert set(text.pieces[4 : text.specials]) == {"<pad>", "<s>", "<mask>"}


@pytest.mark.parametrize("broken", [{"model": {"type": "Magic", "vocab": {}}}, {"model": None}, {"added_tokens": 3}])
def test_a_broken_tokenizer_of_a_model_is_refused_by_name(tmp_path, broken):
    folder, _ = model_folder(tmp_path, "bpe", {}, **broken)
    with pytest.raises(ModelError, match="cannot be taken"):
        Text.fit(of_memory(TEXTS), "text", tokenizer=str(folder))


@pytest.mark.parametrize("way", ["isolated", "bos_bestfit"])
def test_packed_sequences_hold_every_text_once(way):
    dataset = open_data(TEXTS, size=32)
    packed = dataset.modality.packed(dataset, way, 3)
    view = packed.fetch(torch.arange(len(packed)))
    assert view.role == PACKED
    assert view["ids"].shape == (len(packed), 32)
    ids, valid = view["ids"], view["valid"]
    held = np.sort(ids[valid & (ids >= 4)].numpy())
    wanted = np.sort(np.concatenate([dataset.modality.decode(t) for t in TEXTS]))
    assert np.array_equal(held, wanted.astype(np.int64))
    assert int((ids == END).sum()) == len(TEXTS)
    assert (ids[~valid] == 0).all()
    again = packed.fetch(torch.tensor([5, 2]))
    assert torch.equal(again["ids"], ids[[5, 2]])
    if way == "isolated":
        begins = ids == BEGIN
        assert torch.equal(begins.long().cumsum(1)[valid], view["segment"][valid])
        assert (view["position"][begins] == 0).all()
        assert packed.plan.filled > 0.88
    else:
        assert set(view.parts) == {"ids", "valid"}
        assert packed.plan.filled > 0.93


def test_lines_of_a_document_are_joined_by_a_line_break(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("the goat\nsaw the barn\n\nthe cook\nsaw the soup\n\n" * 30, "utf-8")
    dataset = open_data(str(path), size=64)
    packed = dataset.modality.packed(dataset, "isolated", 0)
    ids = packed.fetch(torch.arange(1))["ids"][0]
    said = dataset.modality.bpe.decode(ids.tolist(), skip_special_tokens=False)
    assert "the goat\nsaw the barn[EOS]" in said
    assert "the cook\nsaw the soup[EOS]" in said


def test_packing_changes_no_texts_representation_or_loss():
    """What a masked-token model says of a text in a pack is what it says of the text alone: nothing leaks across a border."""
    dataset = open_data(TEXTS, size=48)
    modality = dataset.modality
    packed = modality.packed(dataset, "isolated", 0)
    view = packed.fetch(torch.arange(3))
    torch.manual_seed(0)
    from selftaught import nets

    encoder = nets.build(
        "text-transformer",
        vocabulary=modality.vocabulary,
        context=48,
        specials=modality.specials,
        width=32,
        depth=2,
        heads=2,
    ).double()
    together = encoder.trunk(encoder.tokenize(view)).values
    for row in range(3):
        for number in view["segment"][row].unique()[1:]:
            inside = view["segment"][row] == number
            alone = view.with_parts(
                ids=view["ids"][row][inside][None], valid=torch.ones(1, int(inside.sum()), dtype=torch.bool),
                segment=torch.ones(1, int(inside.sum()), dtype=torch.int64), position=view["position"][row][inside][None],
            )  # fmt: skip
            for causal in (False, True):
                both = together if not causal else encoder.trunk(encoder.tokenize(view), causal=True).values
                single = encoder.trunk(encoder.tokenize(alone), causal=causal).values
                assert torch.allclose(both[row][inside], single[0], atol=1e-12)


def test_a_copy_in_the_same_pack_is_not_predicted_better_than_alone():
    """Two equal documents in one pack: in expectation nothing of the first helps with the second (nanoVLM PR 204, profam 495)."""
    dataset = open_data([TEXTS[0]] * 2 + TEXTS[1:40], size=96)
    packed = dataset.modality.packed(dataset.subset([0, 1]), "isolated", 0)
    view = packed.fetch(torch.arange(1))
    assert int(view["segment"].max()) == 2
    torch.manual_seed(0)
    from selftaught import nets

    encoder = nets.build(
        "text-transformer", vocabulary=dataset.modality.vocabulary, context=96, width=32, depth=2, heads=2
    ).double()
    out = encoder.trunk(encoder.tokenize(view), causal=True).values[0]
    first, second = (out[view["segment"][0] == n] for n in (1, 2))
    assert torch.allclose(first, second, atol=1e-12)


def test_masked_tokens_of_whole_words_need_words():
    from selftaught.core import Facts
    from selftaught.modalities.series import Series

    with pytest.raises(RequestError, match="has no words"):
        MaskedToken(whole_words=True).setup(
            None, Facts(rows=4, modality=Series.fit(of_memory([np.zeros(8, np.float32)] * 4), "series"))
        )  # type: ignore[arg-type]
