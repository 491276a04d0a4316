import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BeitConfig,
    ConvNextConfig,
    Dinov2Config,
    DINOv3ViTConfig,
    EfficientNetConfig,
    ResNetConfig,
    SwinConfig,
    ViTConfig,
    ViTForImageClassification,
)

from selftaught import nets
from selftaught.core import Kept, ModelError, RequestError, Tokens, View
from selftaught.nets import store
from selftaught.nets.borrowed import quiet
from selftaught.nets.split import probe

TRANSFORMER = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}
CONFIGS = {
    "vit": ViTConfig(intermediate_size=64, **TRANSFORMER),
    "dinov2": Dinov2Config(**TRANSFORMER),
    "resnet": ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 32, 64, 128], depths=[3, 4, 6, 3], layer_type="bottleneck"
    ),
    "efficientnet": EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.25, image_size=32, hidden_dim=320),
    "convnext": ConvNextConfig(hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 2, 1], image_size=32),
}
PROCESSOR = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "size": {"height": 16, "width": 16}}


def save(model, folder):
    with quiet():
        model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict:
    """{name: (transformers model in eval mode, its folder)}."""
    out = {}
    torch.manual_seed(0)
    for name, config in CONFIGS.items():
        model = AutoModel.from_config(config)
        model.train()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.02 * torch.randn_like(p))
            model(torch.randn(4, 3, 32, 32) if name not in ("vit", "dinov2") else torch.randn(4, 3, 16, 16))
        out[name] = (model.eval(), save(model, tmp_path_factory.mktemp(name)))
    return out


def view_for(encoder, rows: int = 2) -> View:
    torch.manual_seed(1)
    return View("image", parts={"pixels": torch.rand(rows, 3, *[min(n, 64) for n in encoder.plan.size])})


def normalised(view: View) -> torch.Tensor:
    mean, std = (torch.tensor(PROCESSOR[k])[:, None, None] for k in ("image_mean", "image_std"))
    return (view["pixels"] - mean) / std


@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_folder_gives_the_models_own_numbers(saved, name):
    model, folder = saved[name]
    encoder = nets.build(*["transformers"], source=str(folder))
    assert not encoder.training
    view = view_for(encoder)
    with torch.no_grad():
        out, got, stages = model(normalised(view), output_hidden_states=True), encoder(view), encoder.features(view)
    last = out.last_hidden_state
    wanted = last[:, 0] if name in ("vit", "dinov2") else out.pooler_output.flatten(1)
    assert (got - wanted).abs().max() < 1e-5
    assert got.shape == (2, encoder.dim)
    final = last.flatten(2).transpose(1, 2) if last.ndim == 4 else last
    assert (stages[-1].values - final).abs().max() < 1e-5
    assert len(stages) > 1
    assert "stages" in encoder.can
    for stage in stages:
        assert stage.grid is not None
        assert stage.grid[0] * stage.grid[1] + stage.prefix == len(stage)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_it_is_stored_and_loaded_in_transformers_own_names(saved, name, tmp_path):
    encoder = nets.build("transformers", source=str(saved[name][1]))
    view = view_for(encoder)
    again = store.load(store.save(tmp_path / "x", Kept(encoder))).encoder
    with torch.no_grad():
        assert torch.equal(again(view), encoder(view))
    theirs = set(load_file(saved[name][1] / "model.safetensors"))
    stored = {k.removeprefix("model.") for k in load_file(tmp_path / "x" / "model.safetensors")} - {"mask_token"}
    assert stored <= theirs


@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_tokens_may_be_dropped(saved, name):
    """All kept is the forward; some dropped is dense attention in transformers itself with the others masked out."""
    model, folder = saved[name]
    encoder = nets.build("transformers", source=str(folder))
    assert {"tokens", "mask"} <= encoder.can
    view = view_for(encoder, rows=3)
    keep = torch.stack([torch.randperm(16)[:5].sort().values for _ in range(3)])
    with torch.no_grad():
        tokens = encoder.tokenize(view)
        assert (tokens.grid, tokens.prefix) == ((4, 4), 1)
        whole = model(normalised(view)).last_hidden_state
        assert (encoder.trunk(tokens).values - whole).abs().max() < 1e-5
        got = encoder.trunk(tokens.take(keep))
        seen = torch.zeros(3, 17, dtype=torch.bool)
        seen[:, 0] = True
        seen.scatter_(1, keep + 1, True)
        mask = torch.zeros(3, 1, 17, 17).masked_fill(~seen[:, None, None, :], torch.finfo(torch.float32).min)
        dense = model.embeddings(normalised(view))
        for layer in getattr(model, "layers", None) or model.encoder.layer:
            dense = layer(dense, mask)
        dense = model.layernorm(dense)
    for row in range(3):
        wanted = dense[row][torch.cat([torch.tensor([0]), keep[row] + 1])]
        assert (got.values[row] - wanted).abs().max() < 1e-5


def test_masked_patches_become_the_mask_token(saved):
    encoder = nets.build("transformers", source=str(saved["vit"][1]))
    view = view_for(encoder)
    masked = torch.zeros(2, 16, dtype=torch.bool)
    masked[:, 3] = True
    with torch.no_grad():
        encoder.mask_token.fill_(7.0)
        plain, replaced = encoder.tokenize(view).values, encoder.tokenize(view.with_parts(masked=masked)).values
        assert (replaced[:, 4] == 7).all()
        assert torch.equal(replaced[:, [0, 1, 2, 3, 5]], plain[:, [0, 1, 2, 3, 5]])
        other = view.with_parts(pixels=view["pixels"].clone())
        other["pixels"][:, :, 0:4, 12:16] = 0  # patch 3
        assert torch.equal(encoder(view.with_parts(masked=masked)), encoder(other.with_parts(masked=masked)))
        assert not torch.equal(encoder(view), encoder(other))


def test_other_sizes_interpolate_positions_as_the_model_does(saved):
    model, folder = saved["vit"]
    encoder = nets.build("transformers", source=str(folder))
    view = View("image", parts={"pixels": torch.rand(2, 3, 24, 24)})
    with torch.no_grad():
        wanted = model(normalised(view), interpolate_pos_encoding=True).last_hidden_state
        assert (encoder(view) - wanted[:, 0]).abs().max() < 1e-5
        tokens = encoder.tokenize(view)
        assert tokens.grid == (6, 6)
        assert (encoder.trunk(tokens).values - wanted).abs().max() < 1e-5
        kept = encoder.trunk(tokens.take(torch.arange(36).expand(2, -1)))
        assert (kept.values - wanted).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            BeitConfig(
                intermediate_size=64,
                use_relative_position_bias=True,
                use_absolute_position_embeddings=True,
                **TRANSFORMER,
            ),
            "layers",
        ),
        (DINOv3ViTConfig(intermediate_size=64, **TRANSFORMER), "absolute"),
        (
            SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[2, 2], image_size=16, patch_size=2, window_size=4),
            "absolute",
        ),
        (CONFIGS["convnext"], "absolute"),
    ],
    ids=["relative bias", "rotary", "windows", "convolutions"],
)
def test_the_probe_refuses_where_dropping_changes_more(config, said):
    encoder = nets.build("borrowed", architecture=nets.architecture.settings_of(config.to_dict()))
    assert not {"tokens", "mask"} & encoder.can
    assert said in probe(encoder.architecture)
    with pytest.raises(RequestError, match="cannot be dropped"):
        encoder.tokenize(view_for(encoder))


def test_probing_and_loading_leave_the_random_state_alone(saved):
    state = torch.random.get_rng_state()
    encoder = nets.build("transformers", source=str(saved["dinov2"][1]))
    probe.cache_clear()
    assert "mask" in encoder.can
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_classifiers_folder_and_another_pooling(saved, tmp_path):
    """Weights under a prefix and beside a head, as hubs hold them."""
    torch.manual_seed(2)
    classifier = ViTForImageClassification(CONFIGS["vit"]).eval()
    encoder = nets.build("transformers", source=str(save(classifier, tmp_path)), pooling="mean")
    view = view_for(encoder)
    with torch.no_grad():
        wanted = classifier.vit(normalised(view)).last_hidden_state[:, 1:].mean(1)
        assert (encoder(view) - wanted).abs().max() < 1e-5


def test_every_parameter_gets_a_gradient(saved):
    """Data-parallel training demands it, with and without a mask."""
    for name in ("vit", "resnet", "convnext"):
        encoder = nets.build("transformers", source=str(saved[name][1])).train()
        encoder(view_for(encoder, rows=4)).sum().backward()
        assert [n for n, p in encoder.named_parameters() if p.grad is None] == []


def test_groups_of_layers_cover_the_parameters_in_order(saved):
    encoder = nets.build("transformers", source=str(saved["vit"][1]))
    groups = encoder.layers()
    assert sorted(id(p) for g in groups for p in g) == sorted(id(p) for p in encoder.parameters())
    assert len(groups) == 6  # mask token, embeddings, three layers, norm


def test_weights_in_half_precision_and_shards_are_read(saved, tmp_path):
    model, folder = saved["vit"]
    with quiet():
        model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert not (tmp_path / "model.safetensors").exists()
    encoder = nets.build("transformers", source=str(tmp_path))
    whole = nets.build("transformers", source=str(folder))
    assert all(torch.equal(a, b) for a, b in zip(encoder.model.parameters(), whole.model.parameters(), strict=True))
    half = {k: v.bfloat16() for k, v in load_file(folder / "model.safetensors").items()}
    (tmp_path / "half").mkdir()
    save_file(half, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "half" / "config.json").write_text((folder / "config.json").read_text())
    encoder = nets.build("transformers", source=str(tmp_path / "half"))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_only_the_architecture_is_taken_where_that_is_asked(saved):
    torch.manual_seed(0)
    fresh = nets.build("transformers", source=str(saved["vit"][1]), weights=False)
    loaded = nets.build("transformers", source=str(saved["vit"][1]))
    assert fresh.config() == loaded.config()
    assert not torch.equal(fresh.model.embeddings.position_embeddings, loaded.model.embeddings.position_embeddings)


def test_a_name_without_a_cache_is_refused_offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RequestError, match="Allow the download"):
        nets.build("transformers", source="nobody/has-this-model")
    with pytest.raises(RequestError, match="neither a folder nor the name"):
        nets.build("transformers", source="https://evil.example/x")


def test_a_causal_pass_is_refused(saved):
    encoder = nets.build("transformers", source=str(saved["vit"][1]))
    with pytest.raises(RequestError, match="causal"):
        encoder.trunk(Tokens(torch.zeros(1, 17, 32), prefix=1), causal=True)


def test_weights_of_another_network_are_refused(saved, tmp_path):
    _, folder = saved["vit"]
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    for change, tensors_then, said in (
        ({}, {k: v for k, v in tensors.items() if "layer.1" not in k}, "missing"),
        ({"hidden_size": 64}, tensors, "shape"),
        ({}, {**tensors, "embeddings.cls_token": torch.full((1, 1, 32), float("nan"))}, "not finite"),
    ):
        save_file(tensors_then, tmp_path / "model.safetensors", metadata={"format": "pt"})
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ModelError, match=said):
            nets.build("transformers", source=str(tmp_path))
