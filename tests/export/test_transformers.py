import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    ConvNextConfig,
    Dinov2Config,
    ViTConfig,
)

from selftaught import nets
from selftaught.core import Kept, ModelError, RequestError, View
from selftaught.export import to_transformers
from selftaught.export.to_transformers import represent
from selftaught.modalities.text import Text
from selftaught.nets.architecture import settings_of
from selftaught.nets.generation import Sampling, write
from selftaught.nets.heads import LanguageHead

from .networks import lived, network


def reload(folder):
    return AutoModel.from_pretrained(folder, local_files_only=True).eval()


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("vit mean", "ViTModel"),
        ("vit class", "ViTModel"),
        ("vit no class", "IJepaModel"),
        ("resnet18", "ResNetModel"),
        ("resnet50", "ResNetModel"),
    ],
)
def test_an_image_encoder_gives_the_same_numbers(name, architecture, tmp_path):
    encoder = network(name)
    measured = to_transformers(encoder, tmp_path)
    assert measured["architecture"] == architecture
    height, width = {"vit no class": (16, 24)}.get(name, (16, 16) if "vit" in name else (96, 96))
    pixels = torch.rand(3, encoder.channels, height, width)
    processor = json.loads((tmp_path / "preprocessor_config.json").read_text())
    mean, std = (torch.tensor(processor[k])[:, None, None] for k in ("image_mean", "image_std"))
    with torch.no_grad():
        output = reload(tmp_path)(pixel_values=(pixels - mean) / std)
        wanted = encoder(View("image", parts={"pixels": pixels}))
    assert (represent(output, measured["representation"]) - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize(("name", "architecture"), [("text", "XLMRobertaXLModel"), ("text causal", "GPT2Model")])
def test_a_text_encoder_gives_the_same_numbers_whatever_the_padding(name, architecture, tmp_path):
    encoder = network(name)
    measured = to_transformers(encoder, tmp_path)
    assert measured["architecture"] == architecture
    ids = torch.randint(1, 60, (4, 12))
    valid = torch.arange(12) < torch.tensor([12, 9, 4, 1])[:, None]
    ids = ids.masked_fill(~valid, 0)
    with torch.no_grad():
        output = reload(tmp_path)(input_ids=ids, attention_mask=valid.long())
        wanted = encoder(View("text", parts={"ids": ids, "valid": valid}))
    got = represent(output, measured["representation"], valid & (ids >= 4))
    assert (got - wanted).abs().max() < 1e-5


def test_a_tokenizer_goes_along_and_gives_the_same_ids(tmp_path):
    texts = ["the cat sat on the mat", "a dog ate the cat", "[MASK] is a word here", "mats and cats, dogs!"]
    tokenizer = __import__("selftaught.modalities._tokenizer", fromlist=["train"]).train(texts * 3, 300)
    modality = Text(tokenizer, 16)
    encoder = lived(
        nets.build("text-transformer", vocabulary=modality.vocabulary, context=16, width=16, depth=1, heads=2)
    )
    to_transformers(encoder, tmp_path, modality=modality)
    theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    batch = theirs(texts, return_tensors="pt", padding=True)
    for row, text in enumerate(texts):
        assert batch.input_ids[row][batch.attention_mask[row].bool()].tolist() == modality.bpe.encode(text).ids
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.mask_token_id) == (0, 1, 2, 3)
    assert theirs.model_max_length == 16


def test_the_image_processor_normalises_as_the_encoder(tmp_path):
    encoder = network("vit mean")
    to_transformers(encoder, tmp_path)
    picture = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8)
    processor = AutoImageProcessor.from_pretrained(tmp_path, local_files_only=True, backend="pil")
    theirs = processor(picture.numpy(), return_tensors="pt")["pixel_values"]
    assert (theirs - encoder.normalise(picture.permute(2, 0, 1)[None])).abs().max() < 1e-6
    wide = processor(torch.zeros(40, 90, 3, dtype=torch.uint8).numpy(), return_tensors="pt")["pixel_values"]
    assert wide.shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    "config",
    [
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=16,
            patch_size=4,
        ),
        Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4),
        ConvNextConfig(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], image_size=32),
    ],
    ids=["vit", "dinov2", "convnext"],
)
@pytest.mark.parametrize("pooling", ["auto", "mean"])
def test_a_borrowed_network_goes_back_to_what_it_was(config, pooling, tmp_path):
    encoder = lived(nets.build("borrowed", architecture=settings_of(config.to_dict()), pooling=pooling))
    measured = to_transformers(encoder, tmp_path)
    assert measured["difference"] < 1e-5
    again = nets.build("transformers", source=str(tmp_path), pooling=pooling)
    view = View("image", parts={"pixels": torch.rand(2, 3, *encoder.plan.size)})
    with torch.no_grad():
        assert (again(view) - encoder(view)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("resnet18", {"image_size": 32}, "3 x 3 stem.*\n.*torchvision"),
        ("resnet-small", {}, "no architecture.*\n.*onnx"),
        ("vit mean", {"registers": 2}, "register tokens"),
        ("vit mean", {"causal": True}, "causal"),
        ("series convolutions", {}, "no architecture"),
    ],
)
def test_what_transformers_cannot_express_is_refused_with_a_way_out(name, changes, said, tmp_path):
    with pytest.raises(RequestError, match=said):
        to_transformers(network(name, **changes), tmp_path)


def test_a_folder_that_gives_other_numbers_is_refused(tmp_path, monkeypatch):
    """A converter that lost a sign: the comparison after writing notices."""
    from selftaught.export import architectures

    honest = architectures._pair

    def wrong(prefix, layer):
        return {k: -v if k == "layernorm.weight" else v for k, v in honest(prefix, layer).items()}

    monkeypatch.setattr(architectures, "_pair", wrong)
    with pytest.raises(ModelError, match="other numbers"):
        to_transformers(network("vit mean"), tmp_path)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("causal", "auto", "architecture"), [(True, AutoModelForCausalLM, "GPT2LMHeadModel"), (False, AutoModelForMaskedLM, "XLMRobertaXLForMaskedLM")])  # fmt: skip
def test_a_language_models_head_goes_along_tied_or_not(tied, causal, auto, architecture, tmp_path):
    """The weights are written once where they are shared, the config says so, and the folder gives the same logits."""
    encoder = network("text causal" if causal else "text", types=2)
    torch.manual_seed(3)
    torch.nn.init.normal_(encoder.type_embedding.weight, std=0.1)
    head = LanguageHead(16, 60, predicts="next" if causal else "own", eps=encoder.eps)
    torch.nn.init.normal_(head.weight)
    if tied:
        head.weight = encoder.embedding.weight
    measured = to_transformers(Kept(encoder, {"head": head}), tmp_path)
    assert (measured["architecture"], measured["tied"]) == (architecture, tied)
    names = set(load_file(tmp_path / "model.safetensors"))
    wide = [
        n for n in names if n.endswith(("wte.weight", "word_embeddings.weight", "lm_head.weight", "decoder.weight"))
    ]
    assert len(wide) == 2 - tied
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is tied
    model = auto.from_pretrained(tmp_path, local_files_only=True).eval()
    ids = torch.randint(4, 60, (3, 9))
    with torch.no_grad():
        wanted = head(encoder.trunk(encoder.tokenize(View("text", parts={"ids": ids}))).values)
        torch.testing.assert_close(model(input_ids=ids).logits, wanted, rtol=1e-4, atol=1e-4)


def test_a_hybrid_leaves_its_head_unless_it_is_to_look_back(tmp_path):
    encoder = network("text")
    kept = Kept(encoder, {"head": LanguageHead(16, 60, predicts="next")})
    assert "left behind" in to_transformers(kept, tmp_path / "both")["head"]
    assert to_transformers(kept, tmp_path / "both")["architecture"] == "XLMRobertaXLModel"
    assert "head" not in to_transformers(kept, tmp_path / "none", head="none")
    measured = to_transformers(kept, tmp_path / "back", head="causal")
    assert (measured["architecture"], measured["model"]) == ("GPT2LMHeadModel", "AutoModelForCausalLM")
    assert encoder.causal is False
    with pytest.raises(RequestError, match="next token"):
        to_transformers(Kept(encoder, {"head": LanguageHead(16, 60, predicts="own")}), tmp_path / "no", head="causal")


def test_transformers_writes_what_generate_writes(tmp_path):
    encoder = network("text causal")
    head = LanguageHead(16, 60, predicts="next")
    head.weight = encoder.embedding.weight
    to_transformers(Kept(encoder, {"head": head}), tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True).eval()
    theirs = model.generate(torch.tensor([[1, 9, 17]]), do_sample=False, max_new_tokens=9, suppress_tokens=[0, 1, 3])
    steps = write(
        encoder, head, [[9, 17]], tokens=9, sampling=Sampling(0), samples=[0], begin=1, end=2, never=[0, 1, 3]
    )
    assert theirs[0, 3:].tolist() == [row[0] for row in steps]
