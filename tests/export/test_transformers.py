import json

import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, ConvNextConfig, Dinov2Config, ViTConfig

from selftaught import nets
from selftaught.core import ModelError, RequestError, View
from selftaught.export import to_transformers
from selftaught.export.to_transformers import represent
from selftaught.modalities.text import Text
from selftaught.nets.architecture import settings_of

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
