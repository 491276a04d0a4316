"""ViT: what transformers computes with the same parameters, dropped and masked patches, other sizes."""

import pytest
import torch
import torch.nn.functional as F

from selftaught.core import RequestError, View
from selftaught.nets.vit import ViT


def vit(**options) -> ViT:
    torch.manual_seed(0)
    return ViT(**{"image_size": 16, "patch": 4, "width": 24, "depth": 2, "heads": 2, **options}).eval()


def pictures(rows: int = 3, size: int | tuple[int, int] = 16, channels: int = 3) -> View:
    high, wide = size if isinstance(size, tuple) else (size, size)
    generator = torch.Generator().manual_seed(1)
    return View("image", parts={"pixels": torch.rand(rows, channels, high, wide, generator=generator)})


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_it_is_transformers_vit_parameter_by_parameter(positions):
    from transformers import ViTConfig, ViTModel

    net = vit(positions=positions, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(std=0.3)
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=96, image_size=16, patch_size=4,
        hidden_act="gelu", layer_norm_eps=net.eps, attn_implementation="eager",
    )  # fmt: skip
    theirs = ViTModel(config, add_pooling_layer=False).double().eval()
    state = {
        "embeddings.cls_token": net.cls_token.view(1, 1, -1),
        "embeddings.position_embeddings": F.pad(net.blocks.positions.table, (0, 0, 1, 0))[None],
        "embeddings.patch_embeddings.projection.weight": net.project.weight,
        "embeddings.patch_embeddings.projection.bias": net.project.bias,
        "layernorm.weight": net.blocks.norm.weight,
        "layernorm.bias": net.blocks.norm.bias,
    }
    for i, block in enumerate(net.blocks.layer):
        for part in ("weight", "bias"):
            thirds = getattr(block.attention.qkv, part).chunk(3)
            state |= {f"layers.{i}.attention.{n}_proj.{part}": t for n, t in zip("qkv", thirds, strict=True)}
            for name, module in {
                "attention.o_proj": block.attention.out, "layernorm_before": block.norm1, "layernorm_after": block.norm2,
                "mlp.fc1": block.expand, "mlp.fc2": block.contract,
            }.items():  # fmt: skip
                state[f"layers.{i}.{name}.{part}"] = getattr(module, part)
    theirs.load_state_dict(state)
    view = pictures()
    shift, scale = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (net.mean, net.std))
    wanted = theirs((view["pixels"].double() - shift) / scale).last_hidden_state
    got = net.trunk(net.tokenize(view))
    assert torch.allclose(got.values, wanted, atol=1e-9)
    assert torch.allclose(net(view), wanted[:, 1:].mean(1), atol=1e-9)


def test_bytes_and_shares_are_the_same_picture():
    net = vit()
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    as_bytes, as_shares = (net(View("image", parts={"pixels": p})) for p in (pixels, pixels / 255))
    assert torch.allclose(as_bytes, as_shares, atol=1e-5)


def test_patches_are_in_row_order():
    net = vit()
    first, second = torch.zeros(2, 1, 3, 16, 16)
    second[..., 4:8, 8:12] = 1  # row 1, column 2 of the 4 x 4 grid
    a, b = (net.tokenize(View("image", parts={"pixels": p})) for p in (first, second))
    changed = (a.patches != b.patches).any(-1)[0].nonzero().flatten().tolist()
    assert changed == [6]
    assert a.grid == (4, 4)
    assert a.prefix == 1


@pytest.mark.parametrize(
    "options", [{}, {"class_token": False}, {"registers": 2}, {"pooling": "class", "registers": 1}]
)
def test_all_patches_kept_is_the_plain_forward(options):
    net, view = vit(**options), pictures()
    tokens = net.tokenize(view)
    order = torch.stack([torch.randperm(16) for _ in range(3)])
    assert torch.allclose(net.pool(net.trunk(tokens.take(order))), net(view), atol=1e-5)
    assert tokens.prefix == int(net.class_token) + net.registers
    some = net.trunk(tokens.take(order[:, :5]))
    assert some.patches.shape == (3, 5, 24)
    assert not torch.allclose(net.pool(some), net(view), atol=1e-3)


def test_masked_patches_hide_their_pixels_and_only_theirs():
    net = vit().double()
    masked = torch.zeros(1, 16, dtype=torch.bool)
    masked[0, 5] = True
    pixels = pictures(1)["pixels"].double().requires_grad_()
    out = net(View("image", parts={"pixels": pixels, "masked": masked}))
    (grad,) = torch.autograd.grad(out[0, 0], pixels)
    hidden = grad[0].abs().amax(0).view(4, 4, 4, 4).amax((1, 3)) == 0
    assert hidden.flatten().tolist() == [i == 5 for i in range(16)]


def test_every_parameter_has_a_gradient_with_and_without_masks():
    for masked in ({}, {"masked": torch.ones(3, 16, dtype=torch.bool)}):
        net = vit(registers=1, positions="learned")
        view = pictures()
        net(view.with_parts(**masked)).square().sum().backward()
        assert [n for n, p in net.named_parameters() if p.grad is None] == []
        assert bool(net.mask_token.grad.abs().sum() > 0) is bool(masked)


def test_other_sizes_see_the_same_places():
    net = vit(width=16)
    with torch.no_grad():
        net.project.weight.zero_()
    small = net.blocks.positions(net.tokenize(pictures(1, 8)))[0, 1:]
    large = net.blocks.positions(net.tokenize(pictures(1, 16)))[0, 1:].view(4, 4, 16)
    centre = large[1:3, 1:3].mean((0, 1))
    assert small.shape == (4, 16)
    assert torch.cosine_similarity(small.mean(0), centre, dim=0) > 0.9
    assert net(pictures(1, (8, 12))).shape == (1, 16)
    assert ViT(image_size=(8, 16), width=16, heads=2, depth=1)(pictures(1, (8, 16))).shape == (1, 16)


def test_stages_end_in_the_trunk():
    net, view = vit(depth=3), pictures()
    stages = net.features(view)
    assert [s.grid for s in stages] == [(4, 4)] * 3
    assert torch.allclose(stages[-1].values, net.trunk(net.tokenize(view)).values, atol=1e-6)
    assert torch.allclose(net.pool(stages[-1]), net(view), atol=1e-6)


def test_rows_do_not_depend_on_one_another():
    net, view = vit(), pictures(4)
    alone = torch.cat([net(view.take(torch.tensor([i]))) for i in range(4)])
    assert torch.allclose(net.train()(view), alone, atol=1e-5)


def test_config_rebuilds_it_and_a_sibling_differs():
    net = vit(registers=1, positions="learned")
    again = ViT(**net.config()["options"])
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(pictures()), net(pictures()))
    assert net.sibling(width=12, heads=1).dim == 12
    assert sum(map(len, net.layers())) == len(list(net.parameters()))
    assert len(net.layers()) == 4


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(RequestError, match="16 x 16 pixels do not divide into patches of 5"):
        vit(patch=5)
    with pytest.raises(RequestError, match="class token"):
        vit(pooling="class", class_token=False)
    with pytest.raises(RequestError, match="channels and patches"):
        vit()(pictures(1, 16, channels=1))
    with pytest.raises(RequestError, match=r"\(3, 14, 16\)"):
        vit()(pictures(1, (14, 16)))
