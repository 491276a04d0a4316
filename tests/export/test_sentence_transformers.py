"""A folder for sentence-transformers: its files, its pooling worked out by hand in float64, and the library itself where it is there."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from selftaught import nets
from selftaught.core import RequestError
from selftaught.data.dataset import Dataset
from selftaught.evaluation import embed
from selftaught.export import export, to_sentence_transformers
from selftaught.export.to_sentence_transformers import read, spells_a_mark
from selftaught.modalities import _tokenizer
from selftaught.modalities.text import Text

from .networks import lived, network

TEXTS = [
    "the cat sat on the mat", "a", "[MASK] and [EOS] are words here, as is [PAD]", "dogs!", "the mat " * 30, "cat " * 14 + "x",
]  # fmt: skip


def modality(kind: str = "bpe") -> Text:
    texts = ["the cat sat on the mat", "a dog ate the cat", "mats and cats, dogs!"] * 6
    return Text(_tokenizer.train(texts, 300, kind), 16)


def encoder(causal: bool = False, kind: str = "bpe"):
    own = modality(kind)
    sizes = {"vocabulary": own.vocabulary, "specials": own.specials, "context": 16, "width": 16, "depth": 2, "heads": 2}
    return lived(nets.build("text-transformer", causal=causal, **sizes))


def by_hand(folder, texts) -> np.ndarray:
    """What sentence-transformers does, module after module, one text at a time and in float64."""
    model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    longest = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    weights = json.loads((folder / "2_WordWeights" / "config.json").read_text())
    rows = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=longest)["input_ids"]
        with torch.no_grad():
            last = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).last_hidden_state[0]
        total, weight = torch.zeros(last.shape[1], dtype=torch.float64), 0.0
        for number, vector in zip(ids, last, strict=True):
            one = weights["word_weights"].get(weights["vocab"][number], weights["unknown_word_weight"])
            total, weight = total + one * vector, weight + one
        rows.append((total / max(weight, 1e-9)).numpy())
    return np.stack(rows)


WAYS = pytest.mark.parametrize(
    ("causal", "tokens"), [(False, "bpe"), (True, "bpe"), (False, "wordpiece"), (False, "unigram")]
)


@WAYS
def test_the_folder_gives_what_embed_gives_short_long_and_odd(causal, tokens, tmp_path):
    net, kind = encoder(causal, tokens), modality(tokens)
    measured = to_sentence_transformers(net, tmp_path, modality=kind)
    assert measured["difference"] < 1e-5
    texts = [t for t in TEXTS if not spells_a_mark(kind, t)]
    assert len(texts) == len(TEXTS) - (tokens == "unigram")
    ours = embed(net, Dataset.from_arrays(texts, kind))
    np.testing.assert_allclose(by_hand(tmp_path, texts), ours, atol=2e-6)
    np.testing.assert_allclose(read(tmp_path, texts), ours, atol=2e-6)


def test_the_layout_is_the_one_that_every_release_reads(tmp_path):
    to_sentence_transformers(encoder(False), tmp_path, modality=modality())
    chain = json.loads((tmp_path / "modules.json").read_text())
    assert [m["type"].rpartition(".")[2] for m in chain] == ["Transformer", "WordWeights", "Pooling"]
    assert [m["path"] for m in chain] == ["", "2_WordWeights", "1_Pooling"]
    assert all((tmp_path / m["path"] / "config.json").is_file() for m in chain)
    pooling = json.loads((tmp_path / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"]
    assert pooling["word_embedding_dimension"] == 16
    weights = json.loads((tmp_path / "2_WordWeights" / "config.json").read_text())
    assert weights["vocab"][:4] == ["[PAD]", "[BOS]", "[EOS]", "[MASK]"]
    assert len(weights["vocab"]) == modality().vocabulary
    assert json.loads((tmp_path / "sentence_bert_config.json").read_text())["max_seq_length"] == 16


def test_it_goes_through_export_with_a_card(tmp_path):
    done = export(encoder(False), "sentence-transformers", tmp_path / "out", modality=modality())
    assert done.measured["difference"] < 1e-5
    assert 'SentenceTransformer(".").encode(texts)' in (tmp_path / "out" / "README.md").read_text()


def test_pictures_and_encoders_without_a_tokenizer_are_refused(tmp_path):
    with pytest.raises(RequestError, match="this is one of image"):
        to_sentence_transformers(network("vit mean"), tmp_path)
    with pytest.raises(RequestError, match="without its tokenizer"):
        to_sentence_transformers(encoder(False), tmp_path)


@pytest.mark.skipif(
    not importlib.util.find_spec("sentence_transformers"), reason="sentence-transformers is not installed"
)
@WAYS
def test_the_library_itself_gives_the_same_numbers(causal, tokens, tmp_path):
    from sentence_transformers import SentenceTransformer

    net, kind = encoder(causal, tokens), modality(tokens)
    to_sentence_transformers(net, tmp_path, modality=kind)
    texts = [t for t in TEXTS if not spells_a_mark(kind, t)]
    theirs = SentenceTransformer(str(tmp_path), device="cpu").encode(texts, batch_size=2)
    np.testing.assert_allclose(theirs, embed(net, Dataset.from_arrays(texts, kind)), atol=2e-6)
