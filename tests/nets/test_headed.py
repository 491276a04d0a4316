"""An encoder with a projector's first layer: it is the two after one another, and comes back from a folder as it was."""

import pytest
import torch

from selftaught import nets
from selftaught.core import Kept, ModelError, View
from selftaught.nets import store
from selftaught.nets.headed import Headed
from selftaught.nets.heads import hidden_layer
from selftaught.nets.small import SmallResNet
from selftaught.nets.vit import ViT

PICTURES = View("image", parts={"pixels": torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))})


def small():
    torch.manual_seed(0)
    return SmallResNet(widths=(8, 16), blocks=(1, 1), strides=(1, 2), stem=8)


def vit():
    torch.manual_seed(0)
    return ViT(image_size=16, patch=4, width=16, depth=2, heads=2)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("inner", [small, vit])
def test_it_is_the_encoder_and_then_the_layer_and_comes_back_from_a_folder(tmp_path, inner, norm):
    encoder, first = inner(), hidden_layer(16, 24, norm=norm)
    headed = Headed(width=24, norm=norm).join(encoder, first).eval()
    assert (headed.dim, headed.modality, headed.can) == (24, "image", encoder.can)
    torch.testing.assert_close(headed(PICTURES), first(encoder(PICTURES)))
    assert headed(PICTURES).min() >= 0
    if "tokens" in headed.can:
        torch.testing.assert_close(headed.pool(headed.trunk(headed.tokenize(PICTURES))), headed(PICTURES))
    assert {id(p) for layer in headed.layers() for p in layer} == {id(p) for p in headed.parameters()}
    store.save(tmp_path / "e", Kept(headed))
    loaded = store.load_encoder(tmp_path / "e")
    assert torch.equal(loaded(PICTURES), headed(PICTURES))
    twice = Headed(width=4).join(loaded)
    store.save(tmp_path / "twice", Kept(twice))
    assert torch.equal(store.load_encoder(tmp_path / "twice")(PICTURES), twice.eval()(PICTURES))


def test_a_sibling_is_fresh_inside_and_out():
    headed = Headed(width=24).join(small())
    other = headed.sibling()
    assert other.state_dict().keys() == headed.state_dict().keys()
    assert not torch.equal(other.inner.conv.weight, headed.inner.conv.weight)
    assert not torch.equal(other.first[0].weight, headed.first[0].weight)


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "headed", "options": {"width": 4, "norm": "batch"}},
        {"kind": "headed", "options": {"width": 0, "norm": "batch"}, "encoder": {"kind": "vit", "options": {}}},
        {"kind": "headed", "options": {"norm": "odd"}, "encoder": {"kind": "vit", "options": {}}},
        {"kind": "headed", "encoder": {"kind": "vit", "options": {}}},
        {"kind": "headed", "options": {}, "encoder": "vit"},
    ],
)
def test_configs_that_describe_none_are_refused(config):
    with pytest.raises(ModelError):
        nets.rebuild(config)
