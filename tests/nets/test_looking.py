"""Attention that is read off is the one that mixes; filters are what the first layer holds."""

import pytest
import torch
from torch import nn
from transformers import ViTConfig, ViTModel

from selftaught.core import View
from selftaught.nets import build, parse
from selftaught.nets.attention import last_attention, weights
from selftaught.nets.filters import SHOWN, atoms, first_filters
from selftaught.nets.patch_code import PatchCode
from selftaught.nets.series import SeriesTransformer
from selftaught.nets.small import SmallResNet
from selftaught.nets.trunk import Attention
from selftaught.nets.vit import ViT


def test_weights_are_those_that_mix_the_values():
    torch.manual_seed(0)
    attention, x = Attention(12, 3).double(), torch.randn(2, 5, 12, dtype=torch.float64)
    nn.init.normal_(attention.qkv.weight)
    for mask in (None, (torch.rand(2, 1, 1, 5) > 0.4).index_fill(3, torch.tensor([0]), True)):
        taken = weights(attention, x, mask)
        value = attention.qkv(x)[..., 24:].view(2, 5, 3, 4).transpose(1, 2)
        mixed = attention.out((taken @ value).transpose(1, 2).reshape(2, 5, 12))
        assert torch.allclose(mixed, attention(x, mask))
        assert torch.allclose(taken.sum(-1), torch.ones(2, 3, 5, dtype=torch.float64))


def test_a_head_that_asks_for_bright_patches_looks_at_them():
    """Known weights: the key is the patch's brightness, the query a constant; of 4 patches one is bright."""
    vit = ViT(image_size=8, patch=4, width=8, depth=1, heads=1, pooling="class", class_token=True).eval()
    block = vit.blocks.layer[0]
    block.norm1 = nn.Identity()
    vit.blocks.positions = None
    with torch.no_grad():
        vit.project.weight.zero_()
        vit.project.weight[0] = 1 / 48
        vit.project.bias.zero_()
        vit.cls_token.zero_()
        block.attention.qkv.weight.zero_()
        block.attention.qkv.bias.zero_()
        block.attention.qkv.bias[0] = 8**0.5  # the query, so that scores are the keys
        block.attention.qkv.weight[8, 0] = 1.0
    pixels = torch.full((1, 3, 8, 8), 0.5)
    pixels[:, :, 4:, :4] = 1.0  # normalised: 0 and 2
    found = last_attention(vit, View("image", parts={"pixels": pixels}))
    keys = torch.tensor([0.0, 0.0, 0.0, 2.0, 0.0])  # the class token, then the patches
    assert torch.allclose(found.maps[0, 0].flatten(), keys.softmax(0)[1:], atol=1e-6)
    assert found.of_class
    block.attention.qkv.bias.data[0] = 0.0
    assert torch.allclose(last_attention(vit, View("image", parts={"pixels": pixels})).maps, torch.tensor(0.2))


def test_mean_attention_and_encoders_without():
    torch.manual_seed(0)
    vit = ViT(image_size=16, patch=4, width=16, depth=2, heads=2, registers=1).eval()
    view = View("image", parts={"pixels": torch.rand(3, 3, 16, 16)})
    before = vit(view)
    found = last_attention(vit, view)
    assert found.maps.shape == (3, 2, 4, 4)
    assert not found.of_class
    assert (found.maps.sum((2, 3)) < 1).all()
    assert torch.equal(before, vit(view))
    assert last_attention(SmallResNet(), view) is None
    series = SeriesTransformer(channels=1, patch=4, width=16, depth=1, heads=2)
    held = View("series", parts={"values": torch.randn(2, 1, 16), "valid": torch.ones(2, 16, dtype=torch.bool)})
    assert last_attention(series, held).maps.shape == (2, 2, 4)


def test_a_borrowed_networks_attention_is_the_one_it_gives_out(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    ViTModel(ViTConfig(image_size=16, patch_size=4, **sizes)).save_pretrained(tmp_path)
    kind, options = parse(f"transformers:{tmp_path}")
    encoder = build(kind, **options).eval()
    view = View("image", parts={"pixels": torch.rand(2, 3, 16, 16)})
    before = encoder(view)
    how = encoder.model.config._attn_implementation
    found = last_attention(encoder, view)
    assert found.maps.shape == (2, 2, 4, 4)
    assert (found.maps > 0).all()
    assert (found.maps.sum((2, 3)) < 1).all()
    assert encoder.model.config._attn_implementation == how
    assert torch.equal(before, encoder(view))


def test_filters_of_the_first_convolution():
    vit = ViT(image_size=16, patch=4, width=200, depth=1, heads=2, channels=1)
    (found,) = first_filters(vit)
    assert found.shape == (SHOWN, 1, 4, 4)
    assert found.min() >= 0
    assert found.max() <= 1
    largest = (found - 0.5).abs().amax((1, 2, 3))
    assert torch.allclose(largest, torch.full_like(largest, 0.5))
    first = vit.project.weight[0] / vit.project.weight[0].abs().max()
    assert torch.allclose(found[0] * 2 - 1, first, atol=1e-6)


@pytest.mark.parametrize("grey", [False, True])
def test_atoms_are_patches_that_the_whitening_takes_to_them(grey):
    torch.manual_seed(0)
    code = PatchCode(
        size=(16, 16), shrink=(1,), pad=(0,), patch=(6,), stride=(2,), grey=(grey,), filters=(20,), atoms=(64,), width=(8,),
        cells=(2,), outputs=0,
    )  # fmt: skip
    (scale,) = code.scales
    patches = atoms(scale)
    assert patches.shape == (64, 1 if grey else 3, 6, 6)
    assert torch.allclose(patches.flatten(1) @ scale.filters.T, scale.atoms, atol=1e-4)
    assert [f.shape for f in first_filters(code)] == [(64, 1 if grey else 3, 6, 6)]
