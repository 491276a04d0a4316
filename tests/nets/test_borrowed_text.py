"""Language models of transformers: the same numbers in another order of ids, packed texts apart, saving, refusing, training."""

import json

import pytest
import torch
from tokenizers import Tokenizer

from selftaught import nets, train
from selftaught.core import Draw, ModelError, RequestError, View
from selftaught.export import to_transformers
from selftaught.modalities import _tokenizer, open_data
from selftaught.modalities.text import Text
from selftaught.nets import store

TEXTS, _ = Text.toy(300, 0)
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def saved(folder, kind: str) -> dict:
    """A small model of a kind with random weights and a tokenizer whose ids lie in another order; -> {piece: its id}."""
    import transformers

    own = json.loads(_tokenizer.train(TEXTS, 400, "wordpiece"))
    names = {"[PAD]": "<pad>", "[BOS]": "<s>", "[EOS]": "</s>", "[MASK]": "<mask>", "[UNK]": "[UNK]"}
    listed = sorted(own["model"]["vocab"], key=own["model"]["vocab"].__getitem__)
    turned = [listed[5], "<pad>", *listed[6:], "<s>", "</s>", "<mask>", "[UNK]"]  # RoBERTa's padding is 1
    own["model"]["vocab"] = ids = {piece: n for n, piece in enumerate(turned)}
    own["added_tokens"] = [
        {**t, "content": names[t["content"]], "id": ids[names[t["content"]]]} for t in own["added_tokens"]
    ]
    own["post_processor"] = None
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(own), "utf-8")
    roles = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(roles), "utf-8")
    more = {"vocab_size": len(ids) + 3, "pad_token_id": 1, "bos_token_id": ids["<s>"], "eos_token_id": ids["</s>"]}
    config = transformers.CONFIG_MAPPING[kind](**SMALL, **more, max_position_embeddings=80)
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model.save_pretrained(folder)
    return ids


KINDS = ("bert", "roberta", "distilbert", "gpt2", "llama", "modernbert")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kind: (root / kind, saved(root / kind, kind)) for kind in KINDS}


def rows(text: Text, count: int = 5) -> View:
    dataset = open_data(TEXTS[:count], modality=text)
    return text.plain()(dataset.fetch(torch.arange(count)), Draw(torch.arange(count)))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_hidden_states_are_the_models_own(folders, kind):
    import transformers

    folder, ids = folders[kind]
    text = Text.fit(open_data(TEXTS).source, "text", tokenizer=str(folder))
    encoder = nets.build("transformers", source=str(folder))
    assert encoder.vocabulary == text.vocabulary == len(ids)
    view = rows(text)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    native, last = Tokenizer.from_file(str(folder / "tokenizer.json")), encoder.features(view)[-1].values
    for row in range(5):
        own = [ids["<s>"], *native.encode(TEXTS[row]).ids, ids["</s>"]]
        wanted = theirs(input_ids=torch.tensor([own])).last_hidden_state[0]
        assert torch.allclose(last[row, : len(own)], wanted, atol=1e-5)
        assert torch.allclose(encoder(view)[row], wanted.mean(0), atol=1e-5)
    assert len(encoder.features(view)) == 2


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "gpt2", "llama"])
@torch.no_grad()
def test_texts_in_a_pack_do_not_see_one_another(folders, kind):
    folder, _ = folders[kind]
    dataset = open_data(TEXTS[:40], tokenizer=str(folder), size=60)
    encoder = nets.build("transformers", source=str(folder))
    view = dataset.modality.packed(dataset, "isolated", 0).fetch(torch.arange(2))
    out = encoder.trunk(encoder.tokenize(view)).values
    for number in view["segment"][0].unique()[1:]:
        inside = view["segment"][0] == number
        alone = View(
            "text",
            parts={"ids": view["ids"][0][inside][None], "valid": torch.ones(1, int(inside.sum()), dtype=torch.bool)},
        )
        assert torch.allclose(out[0][inside], encoder.trunk(encoder.tokenize(alone)).values[0], atol=1e-5)


def test_what_a_model_cannot_do_is_said(folders):
    dataset = open_data(TEXTS[:40], tokenizer=str(folders["modernbert"][0]), size=60)
    view = dataset.modality.packed(dataset, "isolated", 0).fetch(torch.arange(2))
    encoder = nets.build("transformers", source=str(folders["modernbert"][0]))
    tokens = encoder.tokenize(view)
    with pytest.raises(RequestError, match="--packing none"):
        encoder.trunk(tokens)
    with pytest.raises(RequestError, match="--tokenizer FOLDER"):
        open_data(TEXTS).modality.encoder(None, frozenset(), f"transformers:{folders['bert'][0]}")
    with pytest.raises(RequestError, match="--size 80"):
        open_data(TEXTS, tokenizer=str(folders["bert"][0]), size=90).modality.encoder(
            None, frozenset(), f"transformers:{folders['bert'][0]}"
        )


def test_a_tokenizer_that_is_not_the_models_is_refused(folders, tmp_path):
    ids = saved(tmp_path / "m", "bert")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    held = json.loads((tmp_path / "m" / "tokenizer.json").read_text())
    held["model"]["vocab"]["zebra"] = config["vocab_size"] + 5
    (tmp_path / "m" / "tokenizer.json").write_text(json.dumps(held))
    assert "zebra" not in ids
    with pytest.raises(ModelError, match="do not belong together"):
        nets.build("transformers", source=str(tmp_path / "m"))


def test_a_tied_table_learns_and_padding_rows_stay(folders):
    encoder = nets.build("transformers", source=str(folders["bert"][0]))
    text = Text.fit(open_data(TEXTS).source, "text", tokenizer=str(folders["bert"][0]))
    encoder(rows(text)).sum().backward()
    gradient = encoder.embedding.weight.grad
    assert gradient is not None
    assert gradient[0].abs().sum() == 0
    assert gradient[1].abs().sum() > 0


@pytest.mark.parametrize(("kind", "method"), [("roberta", "masked-token"), ("gpt2", "next-token")])
def test_pretraining_goes_on_from_a_model_and_comes_back(folders, tmp_path, kind, method):
    folder, _ = folders[kind]
    done = train.pretrain(
        TEXTS[:120],
        method=method,
        encoder=f"transformers:{folder}",
        steps=3,
        recipe={"batch": 4},
        size=40,
        out=tmp_path / "run",
    )
    encoder = done.encoder()
    assert encoder.kind == "borrowed-text"
    assert done.result["loss"] < 20
    modality = Text.load(store.find(tmp_path / "run"))
    view = rows(modality)
    report = to_transformers(encoder, tmp_path / "out", modality=modality)
    assert report["difference"] < 1e-5
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer(TEXTS[0])["input_ids"] == view["ids"][0][view["valid"][0]].tolist()
