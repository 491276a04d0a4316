import numpy as np
import pytest
import torch

from selftaught import nets
from selftaught.core import View
from selftaught.nets.small import WHITENING


def test_sizes_of_the_stages_and_the_output():
    net = nets.build("resnet-small").eval()
    stages = net.features(View("image", parts={"pixels": torch.zeros(2, 3, 32, 32, dtype=torch.uint8)}))
    assert [(t.grid, t.values.shape[-1]) for t in stages] == list(
        zip([(8, 8), (4, 4), (2, 2)], net.widths, strict=True)
    )
    assert net.dim == net.widths[-1]


@pytest.mark.parametrize("side", [24, 28, 33, 96])
def test_it_takes_any_size_and_colour_count(side):
    net = nets.build("resnet-small", channels=1, mean=(0.5,), std=(0.5,), stride=4 if side > 64 else 2).eval()
    with torch.no_grad():
        assert net(View("image", parts={"pixels": torch.rand(2, 1, side, side)})).isfinite().all()


def test_a_block_starts_near_its_shortcut():
    torch.manual_seed(0)
    x = torch.rand(4, 32, 16, 16)
    nets_of = {
        r: nets.build("resnet-small", widths=(32,), blocks=(1,), strides=(1,), residual=r).stages[0][0]
        for r in (0.0, 0.5, 1.0)
    }
    assert torch.equal(nets_of[0.0](x), x)
    far = {r: (block.train()(x) - x).abs().mean() for r, block in nets_of.items()}
    assert far[0.5] < far[1.0]


def test_the_first_filters_whiten_the_patches_of_a_sample():
    torch.manual_seed(0)
    net = nets.build("resnet-small", stem=32, mean=(0.5,), std=(0.25,))
    mix = torch.randn(48, 48) / 7
    pixels = (torch.randn(4000, 48) @ mix * 0.1 + 0.5).clamp(0, 1).view(4000, 3, 4, 4)
    net.start_from(View("image", parts={"pixels": pixels}))
    patches = ((pixels - 0.5) / 0.25).flatten(1)
    out = (patches - patches.mean(0)) @ net.conv.weight.detach().flatten(1).T
    covariance = out[:, :16].T @ out[:, :16] / len(out)
    assert (covariance - torch.diag(covariance.diag())).abs().max() < 0.02
    assert covariance.diag().min() > 0.9
    assert covariance.diag().max() < 1.01
    assert torch.equal(net.conv.weight[16:], -net.conv.weight[:16])


def test_filters_beyond_the_patch_stay_random():
    torch.manual_seed(0)
    net = nets.build("resnet-small", stem=16, channels=1, mean=(0.0,), std=(1.0,), patch=2, stride=2)
    before = net.conv.weight.clone()
    net.start_from(View("image", parts={"pixels": torch.rand(50, 1, 8, 8)}))
    assert torch.equal(net.conv.weight[8:], before[8:])
    assert not torch.equal(net.conv.weight[:8], before[:8])


def test_filters_may_start_as_whitened_patches_of_the_sample():
    torch.manual_seed(0)
    net = nets.build("resnet-small", stem=24, mean=(0.5,), std=(0.25,), start="atoms")
    mix = torch.randn(48, 48) / 7
    pixels = (torch.randn(3000, 48) @ mix * 0.1 + 0.5).clamp(0, 1).view(3000, 3, 4, 4)
    net.start_from(View("image", parts={"pixels": pixels}))
    patches = ((pixels.double() - 0.5) / 0.25).flatten(1)
    patches = patches - patches.mean(0)
    values, vectors = np.linalg.eigh(np.cov(patches.numpy().T, bias=True))
    white = patches.numpy() @ vectors / np.sqrt(values + WHITENING * values[-1])
    answers = patches.numpy() @ net.conv.weight.detach().double().flatten(1).numpy().T
    lengths = np.linalg.norm(white, axis=1)
    cosines = answers / lengths[:, None]
    own = cosines.argmax(0)
    np.testing.assert_allclose(cosines.max(0), 1, atol=1e-4)
    np.testing.assert_allclose(cosines, white @ white[own].T / lengths[:, None] / lengths[own], atol=1e-4)
    assert len(set(own.tolist())) == 24, "each filter is another patch"
    again = net.sibling()
    again.start_from(View("image", parts={"pixels": pixels}))
    assert torch.equal(again.conv.weight, net.conv.weight)


def test_a_random_start_leaves_the_filters():
    net = nets.build("resnet-small", start="random")
    before = net.conv.weight.clone()
    net.start_from(View("image", parts={"pixels": torch.rand(50, 3, 8, 8)}))
    assert torch.equal(net.conv.weight, before)
