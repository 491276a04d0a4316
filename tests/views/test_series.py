"""Views of series: windows, scale, noise, missing channels and gaps, judged on what they did to each row."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from selftaught.core import Draw, View
from selftaught.views.series import Window, fill_gaps, resample, with_gap, without_channels


def raw(lengths: list[int], channels: int = 2, extra: int = 0, missing: float = 0.1, seed: int = 0) -> View:
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths) + extra
    values = torch.zeros(len(lengths), channels, width)
    for i, length in enumerate(lengths):
        row = torch.randn(channels, length, generator=generator) * 3 + 10
        row[torch.rand(channels, length, generator=generator) < missing] = torch.nan
        values[i, :, :length] = row
    return View("series", parts={"values": values, "valid": torch.arange(width) < torch.tensor(lengths)[:, None]})


def same(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-5) -> bool:
    return torch.allclose(a, b, atol=atol, equal_nan=True)


windows = st.builds(
    Window, st.integers(2, 40), st.sampled_from([(1.0, 1.0), (0.5, 1.0), (0.1, 0.3)]), head=st.booleans(),
    scale=st.sampled_from([0.0, 0.3]), jitter=st.sampled_from([0.0, 0.2]), drop=st.sampled_from([0.0, 0.9]),
    gaps=st.integers(0, 3), gap=st.sampled_from([0.1, 0.9]), least=st.integers(1, 8),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), windows, st.integers(0, 99), st.integers(0, 5))
def test_a_row_is_seen_the_same_whatever_stands_beside_it(lengths, window, seed, extra):
    index = torch.arange(len(lengths)) * 5 + 2
    view = raw(lengths, extra=extra)
    together = window(view, Draw(index, seed, 3, 1))
    for i, length in enumerate(lengths):
        own = View("series", parts={k: v[i : i + 1, ..., :length] for k, v in view.parts.items()})
        alone = window(own, Draw(index[i : i + 1], seed, 3, 1))
        span = int(alone["valid"].sum())
        assert together["valid"][i].tolist() == [j < span for j in range(together["valid"].shape[1])]
        assert same(together["values"][i, :, :span], alone["values"][0])
        assert (together["values"][i, :, span:] == 0).all()
        assert 1 <= span <= min(length, window.context)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), windows, st.integers(0, 99))
def test_something_observed_is_always_left_where_there_was(lengths, window, seed):
    out = window(raw(lengths, missing=0.0), Draw(torch.arange(len(lengths)), seed))
    assert (~out["values"].isnan() & out["valid"][:, None]).flatten(1).any(1).all()
    assert out["values"].isfinite().any()


def test_a_bare_window_is_a_stretch_of_the_row_and_missing_stays_missing():
    view = raw([30, 12, 7], missing=0.3)
    out = Window(9, (0.4, 0.8))(view, Draw(torch.arange(3)))
    for i in range(3):
        start, span = int(out.params["start"][i]), int(out.params["span"][i])
        assert same(out["values"][i, :, :span], view["values"][i, :, start : start + span], 0)
        assert span <= 9
    head = Window(9, head=True)(view, Draw(torch.arange(3)))
    assert same(head["values"][0], view["values"][0, :, :9], 0)
    assert head.params["span"].tolist() == [9, 9, 7]


def test_scale_has_mean_one_is_each_channel_s_own_and_keeps_the_level():
    view = raw([64] * 3000, missing=0.1)
    out = Window(64, scale=0.3)(view, Draw(torch.arange(3000)))["values"]
    before, after = view["values"].nanmean(2), out.nanmean(2)
    assert same(before, after, 1e-3)
    old, new = view["values"] - before[..., None], out - after[..., None]
    factor = (new / old).nanmedian(2).values
    assert same(new, factor[..., None] * old, 1e-3)
    assert factor.mean() == pytest.approx(1.0, abs=5 * 0.3 / np.sqrt(6000))
    assert factor.log().std() == pytest.approx(0.3, rel=0.05)
    assert abs(torch.corrcoef(factor.T)[0, 1]) < 0.1


def test_noise_is_white_of_the_share_of_each_channel_s_deviation_and_differs_between_channels():
    view = raw([100] * 200, missing=0.1)
    view["values"][:, 1] *= 20
    out = Window(100, jitter=0.1)(view, Draw(torch.arange(200)))["values"]
    noise = out - view["values"]
    own = torch.stack([noise[:, c][~noise[:, c].isnan()].std() for c in range(2)])
    assert torch.allclose(own / torch.tensor([3.0, 60.0]), torch.tensor(0.1), rtol=0.05)
    flat = noise.nan_to_num(0).permute(1, 0, 2)
    assert abs(torch.corrcoef(flat.flatten(1))[0, 1]) < 0.03  # not one channel's noise in all channels
    assert abs(torch.corrcoef(torch.stack([flat[0, :, 1:].flatten(), flat[0, :, :-1].flatten()]))[0, 1]) < 0.03
    assert torch.equal(out.isnan(), view["values"].isnan())


def test_dropped_channels_are_whole_as_frequent_as_asked_and_never_all():
    view = raw([20] * 2000, channels=4, missing=0.0)
    gone = Window(20, drop=0.3)(view, Draw(torch.arange(2000)))["values"].isnan()
    assert torch.equal(gone.all(2), gone.any(2))
    assert not gone.all((1, 2)).any()
    low, high = stats.binom.interval(1 - 1e-6, 8000, 0.3 - 0.3**4 / 4)
    assert low <= int(gone.all(2).sum()) <= high
    single = Window(20, drop=1.0)(raw([20] * 50, channels=1, missing=0.0), Draw(torch.arange(50)))["values"]
    assert not single.isnan().any()


def test_the_channel_that_stays_is_one_that_was_observed():
    values = torch.ones(64, 3, 10)
    values[:, :2] = torch.nan
    number = torch.rand(64, 3, generator=torch.Generator().manual_seed(0))
    left = without_channels(values, torch.ones(64, 10, dtype=torch.bool), number, 1.0)
    assert (left[:, 2] == 1).all()


def test_gaps_are_runs_in_all_channels_of_up_to_the_share_asked_for():
    view = raw([80] * 500, missing=0.0)
    gone = Window(80, gaps=1, gap=0.25)(view, Draw(torch.arange(500)))["values"].isnan()
    assert torch.equal(gone[:, 0], gone[:, 1])
    wide = gone[:, 0].sum(1)
    edges = (gone[:, 0, 1:] & ~gone[:, 0, :-1]).sum(1) + gone[:, 0, 0]
    assert edges.max() <= 1
    assert wide.max() == 20
    assert abs(float(wide.float().mean()) - 10) < 5 * 5.8 / 500**0.5
    everything = with_gap(
        torch.ones(1, 1, 5), torch.ones(1, 5, dtype=torch.bool), torch.tensor([5]), torch.tensor([[1.0, 0.0]]), 1.0
    )
    assert not everything.isnan().any()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.one_of(st.none(), st.floats(-5, 5, width=32)), min_size=6, max_size=6), min_size=1, max_size=4)
)
def test_filled_gaps_are_numpy_s_interpolation(rows):
    values = torch.tensor([[np.nan if v is None else v for v in r] for r in rows], dtype=torch.float64)[:, None]
    filled = fill_gaps(values, ~values.isnan())[:, 0].numpy()
    for row, got in zip(values[:, 0].numpy(), filled, strict=True):
        seen = np.flatnonzero(~np.isnan(row))
        wanted = np.interp(np.arange(6), seen, row[seen]) if len(seen) else np.zeros(6)
        np.testing.assert_allclose(got, wanted, atol=1e-12)
        assert np.isfinite(got).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 5))
def test_resampling_takes_exact_means(length, count, extra):
    x = torch.randn(1, 2, length + extra, dtype=torch.float64, generator=torch.Generator().manual_seed(length))
    got = resample(x, torch.tensor([length]), count)
    fine = x[..., :length].repeat_interleave(count, 2)  # length x count cells, each stretch holds `length` of them
    wanted = fine.view(1, 2, count, length).mean(3)
    assert torch.allclose(got, wanted, atol=1e-12)
