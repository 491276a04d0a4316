"""Series encoders: padding, missing values, levels and scales, and no look into the future."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import RequestError, View
from selftaught.nets.series import SeriesConv, SeriesTransformer, past_level, row_level, to_patches


def transformer(**options) -> SeriesTransformer:
    torch.manual_seed(0)
    return SeriesTransformer(**{"channels": 2, "patch": 4, "width": 16, "depth": 2, "heads": 2, **options}).double().eval()  # fmt: skip


def conv(**options) -> SeriesConv:
    torch.manual_seed(0)
    return SeriesConv(**{"channels": 2, "width": 8, "depth": 3, **options}).double().eval()


ENCODERS = [transformer, lambda: transformer(causal=True), conv, lambda: conv(stride=3)]


def series(*lengths: int, extra: int = 0, missing: float = 0.2, fill: float = 0.0, seed: int = 0) -> View:
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths) + extra
    values = torch.full((len(lengths), 2, longest), fill, dtype=torch.float64)
    for i, length in enumerate(lengths):
        row = torch.randn(2, length, dtype=torch.float64, generator=generator).cumsum(1)
        row[torch.rand(2, length, generator=generator) < missing] = torch.nan
        values[i, :, :length] = row
    valid = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return View("series", parts={"values": values, "valid": valid})


@pytest.mark.parametrize("make", ENCODERS)
@settings(deadline=None, max_examples=8)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=3), st.integers(0, 9), st.sampled_from([0.0, 1e6, float("nan")])
)
def test_a_row_is_the_same_whatever_stands_beside_it(make, lengths, extra, fill):
    net, view = make(), series(*lengths, extra=extra, fill=fill)
    together = net(view)
    for i, length in enumerate(lengths):
        alone = View("series", parts={"values": view["values"][i : i + 1, :, :length]})
        assert torch.allclose(net(alone)[0], together[i], atol=1e-9)
        stage, own = net.features(view)[-1], net.features(alone)[-1]
        count = len(own)
        assert torch.allclose(stage.values[i, :count], own.values[0], atol=1e-9)
        assert not stage.valid[i, count:].any()


@pytest.mark.parametrize("make", ENCODERS)
def test_missing_values_give_no_nan_forward_or_backward(make):
    net = make().train()
    view = series(20, 7, 12)
    view["values"][0, 1] = torch.nan  # a channel that is missing altogether
    view["values"][1] = torch.nan  # a row that is
    view["values"][2, 0] = 3.5  # a flat channel
    values = view["values"].requires_grad_()
    out = net(view)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert values.grad.isfinite().all()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("make", ENCODERS)
def test_missing_is_told_apart_from_zero_and_from_the_mean(make):
    net, view = make(), series(20, missing=0.0)
    values = view["values"]
    values[0, 0] -= values[0, 0].mean()
    values[0, 0, 9] = 0.0
    hole = values.clone()
    hole[0, 0, 9] = torch.nan
    assert not torch.allclose(net(view), net(view.with_parts(values=hole)), atol=1e-4)


@pytest.mark.parametrize("make", ENCODERS)
def test_level_and_scale_of_a_row_are_known_but_the_data_set_s_units_are_not(make):
    net, view = make(), series(24)
    shifted, scaled = (view.with_parts(values=v) for v in (view["values"] + 5, 7 * view["values"]))
    assert not torch.allclose(net(view), net(shifted), atol=1e-4)
    assert not torch.allclose(net(view), net(scaled), atol=1e-4)
    other = net.sibling(mean=(100.0, -3.0), std=(20.0, 0.5)).double().eval()
    other.load_state_dict(net.state_dict())
    units = view["values"] * torch.tensor([20.0, 0.5]).view(1, 2, 1) + torch.tensor([100.0, -3.0]).view(1, 2, 1)
    assert torch.allclose(other(view.with_parts(values=units)), net(view), atol=1e-8)


def test_statistics_are_those_of_the_observed_values():
    x = torch.tensor([[[1.0, 2.0, 99.0, 6.0], [5.0, 5.0, 5.0, 5.0]]])
    seen = torch.tensor([[[True, True, False, True], [False] * 4]])
    mean, deviation = row_level(x, seen)
    assert mean.flatten().tolist() == pytest.approx([3.0, 0.0])
    assert deviation.flatten().tolist() == pytest.approx([(14 / 3 + 1e-5) ** 0.5, 1.0])
    mean, deviation = past_level(to_patches(x, 2), to_patches(seen, 2))
    assert mean[0].tolist() == [pytest.approx([1.5, 3.0]), pytest.approx([0.0, 0.0])]
    assert deviation[0].tolist() == [pytest.approx([0.5, (14 / 3) ** 0.5], abs=1e-4), pytest.approx([1.0, 1.0])]


def test_a_causal_encoder_normalises_without_the_future_and_another_does_not():
    view = series(24, missing=0.1)
    changed = view["values"].clone()
    changed[:, :, 16:] = 50.0
    changed = view.with_parts(values=changed)
    for causal, hidden in ((True, True), (False, False)):
        net = transformer(causal=causal)
        a, b = (net.trunk(net.tokenize(v), causal=True).values for v in (view, changed))
        assert torch.allclose(a[:, :4], b[:, :4], atol=1e-9) is hidden
        assert not torch.allclose(a[:, 4:], b[:, 4:], atol=1e-3)


def test_masked_patches_hide_their_values_but_for_the_row_s_level():
    net, view = transformer(), series(24, missing=0.0)
    view["values"][0, :, 8:12] = torch.tensor([1.0, -1.0, 2.0, -2.0])
    other = view["values"].clone()
    other[0, :, 8:12] = torch.tensor([-2.0, 2.0, -1.0, 1.0])  # the same mean and deviation
    masked = torch.zeros(1, 6, dtype=torch.bool)
    masked[0, 2] = True
    a, b = (net(view.with_parts(values=v, masked=masked)) for v in (view["values"], other))
    assert torch.allclose(a, b, atol=1e-9)
    assert not torch.allclose(net(view), net(view.with_parts(values=other)), atol=1e-4)


def test_all_tokens_kept_is_the_plain_forward():
    net, view = transformer(), series(24, 13)
    tokens = net.tokenize(view)
    order = torch.stack([torch.randperm(6), torch.randperm(6)])
    assert torch.allclose(net.pool(net.trunk(tokens.take(order))), net(view), atol=1e-9)


def test_channels_are_not_interchangeable_and_order_in_time_counts():
    for make in ENCODERS:
        net, view = make(), series(24)
        assert not torch.allclose(net(view), net(view.with_parts(values=view["values"].flip(1))), atol=1e-4)
        assert not torch.allclose(net(view), net(view.with_parts(values=view["values"].flip(2))), atol=1e-4)


def test_stages_shapes_config_and_layers():
    for make, count, tokens, dim in ((transformer, 2, 6, 16), (conv, 3, 24, 16), (lambda: conv(stride=3), 3, 8, 16)):
        net, view = make(), series(24, 10)
        stages = net.features(view)
        assert [s.values.shape[1] for s in stages] == [tokens] * count
        assert stages[0].grid == (tokens,)
        assert net(view).shape == (2, dim)
        assert net.dim == dim
        again = type(net)(**net.config()["options"]).double().eval()
        again.load_state_dict(net.state_dict())
        assert torch.equal(again(view), net(view))
        assert sorted(id(p) for g in net.layers() for p in g) == sorted(id(p) for p in net.parameters())


def test_the_conv_s_representation_is_mean_and_maximum_of_its_last_stage():
    net, view = conv(), series(24, 10)
    last = net.features(view)[-1]
    for i, length in enumerate((24, 10)):
        own = last.values[i, :length]
        assert torch.allclose(net(view)[i], torch.cat([own.mean(0), own.amax(0)]), atol=1e-12)


def test_the_conv_s_reach_is_as_stated():
    net = conv(depth=3)
    values = torch.zeros(1, 2, 101, dtype=torch.float64)
    values[0, :, 0], values[0, :, -1] = 1.0, -1.0
    moved = values.clone()
    values[0, :, 50], values[0, :, 51] = 0.5, -0.5
    moved[0, :, 50], moved[0, :, 51] = -0.5, 0.5  # the same level and scale
    a, b = (net.features(View("series", parts={"values": v}))[-1].values for v in (values, moved))
    touched = ((a - b).abs().amax(-1)[0] > 1e-12).nonzero().flatten()
    half = 2 * (2**3 - 1) + 1  # and one more for the stem's kernel of three
    assert 50 - half <= touched.min() < 50 - half // 2
    assert 51 + half // 2 < touched.max() <= 51 + half


@pytest.mark.parametrize("kind", [SeriesTransformer, SeriesConv])
def test_what_does_not_fit_is_refused(kind):
    with pytest.raises(RequestError, match="do not fit 3 channels"):
        kind(channels=3, mean=(0.0, 1.0))
    with pytest.raises(RequestError, match="every std is above 0"):
        kind(channels=1, std=(0.0,))
    with pytest.raises(RequestError, match="2 channels meet an encoder of 3"):
        kind(channels=3)(series(5))
