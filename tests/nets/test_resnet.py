import pytest
import torch
import torch.nn.functional as F

from selftaught import nets
from selftaught.core import RequestError, View, module
from selftaught.nets.resnet import ResNet

LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def torchvision_names(depth: int) -> dict[str, tuple[int, ...]]:
    """{name: shape} of torchvision.models.resnetDEPTH().state_dict() without fc, written down from its published layout."""
    out: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}

    def norm(name: str, width: int) -> None:
        out.update({f"{name}.{n}": () if n == "num_batches_tracked" else (width,) for n in NORM})

    norm("bn1", 64)
    inputs = 64
    for i, count in enumerate(LAYERS[depth]):
        width = 64 << i
        for j in range(count):
            at = f"layer{i + 1}.{j}"
            if depth == 50:
                shapes, outputs = [(width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)], 4 * width
            else:
                shapes, outputs = [(width, inputs, 3, 3), (width, width, 3, 3)], width
            for k, shape in enumerate(shapes, 1):
                out[f"{at}.conv{k}.weight"] = shape
                norm(f"{at}.bn{k}", shape[0])
            if j == 0 and (i > 0 or outputs != inputs):
                out[f"{at}.downsample.0.weight"] = (outputs, inputs, 1, 1)
                norm(f"{at}.downsample.1", outputs)
            inputs = outputs
    return out


def functional(state: dict[str, torch.Tensor], x: torch.Tensor, depth: int) -> torch.Tensor:
    """torchvision's forward in eval mode (strides of v1.5), from names alone."""

    def norm(name: str, h: torch.Tensor) -> torch.Tensor:
        w, b, m, v = (state[f"{name}.{n}"] for n in NORM[:4])
        return F.batch_norm(h, m, v, w, b)

    def conv(name: str, h: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(h, weight, stride=stride, padding=weight.shape[-1] // 2)

    h = F.max_pool2d(norm("bn1", conv("conv1", x, 2)).relu(), 3, 2, 1)
    for i, count in enumerate(LAYERS[depth]):
        for j in range(count):
            at, stride = f"layer{i + 1}.{j}", 2 if i > 0 and j == 0 else 1
            last = 3 if depth == 50 else 2
            y = h
            for k in range(1, last + 1):
                y = norm(f"{at}.bn{k}", conv(f"{at}.conv{k}", y, stride if k == last - 1 else 1))
                y = y.relu() if k < last else y
            if f"{at}.downsample.0.weight" in state:
                h = norm(f"{at}.downsample.1", conv(f"{at}.downsample.0", h, stride))
            h = (h + y).relu()
    return h.mean((2, 3))


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_names_and_shapes_are_torchvisions(depth):
    with torch.device("meta"):
        net = ResNet(depth=depth)
    assert {k: tuple(v.shape) for k, v in net.state_dict().items()} == torchvision_names(depth)
    assert list(net.state_dict()) == list(torchvision_names(depth))


@pytest.mark.parametrize("depth", [18, 50])
def test_numbers_are_torchvisions(depth):
    torch.manual_seed(0)
    net = ResNet(depth=depth, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)).double()
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    pixels = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    x = (pixels - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 0.6, 0.7])[:, None, None]
    with torch.no_grad():
        got = net.eval()(View("image", parts={"pixels": pixels}))
        wanted = functional(net.state_dict(), x, depth)
    assert (got - wanted).abs().max() < 1e-6 * wanted.abs().max()
    assert got.shape == (2, net.dim)


def test_the_stem_follows_the_size():
    assert ResNet(image_size=32, width=4).conv1.weight.shape[-1] == 3
    assert ResNet(image_size=64, width=4).conv1.weight.shape[-1] == 3
    assert ResNet(image_size=96, width=4).conv1.weight.shape[-1] == 7
    assert ResNet(image_size=224, width=4, stem="small").conv1.weight.shape[-1] == 3
    view = View("image", parts={"pixels": torch.zeros(1, 3, 32, 32, dtype=torch.uint8)})
    assert [t.grid for t in ResNet(image_size=32, width=4).eval().features(view)] == [
        (32, 32),
        (16, 16),
        (8, 8),
        (4, 4),
    ]
    assert [t.grid for t in ResNet(stem="large", width=4).eval().features(view)] == [(8, 8), (4, 4), (2, 2), (1, 1)]


@pytest.mark.parametrize("kind", ["resnet", "resnet-small"])
def test_bytes_and_fractions_are_the_same_image(kind):
    torch.manual_seed(0)
    net = nets.build(kind, mean=(0.3,), std=(0.2, 0.3, 0.4)).eval()
    raw = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        a = net(View("image", parts={"pixels": raw}))
        b = net(View("image", parts={"pixels": raw.float() / 255}))
        stages = net.features(View("image", parts={"pixels": raw}))
    assert (a - b).abs().max() < 1e-4
    assert (stages[-1].values.mean(1) - a).abs().max() < 1e-5
    assert "stages" in net.can


@pytest.mark.parametrize("kind", ["resnet", "resnet-small"])
def test_channels_last_changes_nothing(kind):
    torch.manual_seed(0)
    net = nets.build(kind).eval()
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        a = net(View("image", parts={"pixels": pixels}))
        net = net.to(memory_format=torch.channels_last)
        b = net(View("image", parts={"pixels": pixels.contiguous(memory_format=torch.channels_last)}))
    assert (a - b).abs().max() < 1e-4


def test_zero_init_makes_blocks_their_shortcut():
    net = ResNet(width=4, image_size=32, zero_init=True)
    x = torch.rand(2, 4, 8, 8)
    assert torch.equal(net.layer1[1](x), x)
    assert not torch.equal(ResNet(width=4, image_size=32).layer1[1](x), x)


def test_every_parameter_is_in_one_group_of_layers():
    for net in (ResNet(width=4), nets.build("resnet-small")):
        grouped = [id(p) for group in net.layers() for p in group]
        assert sorted(grouped) == sorted(id(p) for p in net.parameters())
    assert len(ResNet(width=4).layers()) == 9


def test_config_builds_the_same_network():
    net = ResNet(depth=34, width=8, image_size=32, mean=(0.5,), std=(0.25,))
    again = nets.rebuild(net.config())
    assert module.options(again) == module.options(net)
    assert net.sibling(width=4).dim == 32


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("resnet", {"depth": 19}, "depth"),
        ("resnet", {"deepth": 18}, "'depth'"),
        ("resnet", {"width": "64"}, "width"),
        ("resent", {}, "'resnet'"),
        ("transformers", {"source": "x", "downlod": True}, "'download'"),
    ],
)
def test_wrong_requests_name_what_is_accepted(kind, options, said):
    with pytest.raises(RequestError, match=said):
        nets.build(kind, **options)


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="positive"):
        nets.build("resnet", std=(0.0,))
    with pytest.raises(ValueError, match="channels"):
        nets.build("resnet", channels=2)
    with pytest.raises(ValueError, match="as many"):
        nets.build("resnet-small", widths=(8, 8), blocks=(1,))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("resnet50", ("resnet", {"depth": 50})),
        ("resnet-small", ("resnet-small", {})),
        ("transformers:some/folder", ("transformers", {"source": "some/folder"})),
        ("timm:vit_tiny_patch16_224", ("timm", {"source": "vit_tiny_patch16_224"})),
        ("runs/one", ("run", {"folder": "runs/one"})),
    ],
)
def test_names_are_parsed(name, wanted):
    assert nets.parse(name) == wanted


@pytest.mark.parametrize(
    ("name", "said"), [("resnet19", "'resnet18'"), ("timm:", "names no model"), ("borrowed", "encoder")]
)
def test_names_that_are_none_are_refused(name, said):
    with pytest.raises(RequestError, match=said):
        nets.parse(name)
