"""Series: orientation, what is set apart, ragged rows, missing values, targets, the raw control, saving and loading."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.core import DataError, Draw, Facts, ModelError, Ragged, RequestError, View
from selftaught.data.arrays import of_memory
from selftaught.data.bad import Bad
from selftaught.modalities.series import Series, as_array, layout, patch_for

ROWS, FACTORS = Series.toy(200, 0)


@pytest.fixture(scope="module")
def series() -> Series:
    return Series.fit(of_memory(ROWS), "series")


def batch(series: Series, rows: list) -> View:
    stored = [torch.from_numpy(series.decode(r)) for r in rows]
    return series.collate(Ragged(torch.cat(stored), torch.tensor([0, *map(len, stored)]).cumsum(0)))


def many(channels: int, length: int, first: bool, rows: int = 20) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = [rng.normal(size=(length + (i % 3), channels)).astype(np.float32) for i in range(rows)]
    return [m.T if first else m for m in made]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(8, 40), st.booleans())
def test_the_constant_axis_is_the_channels_and_rows_are_stored_steps_first(channels, length, first):
    rows = many(channels, length, first)
    fitted = Series.fit(of_memory(rows), "series")
    assert (fitted.channels, fitted.channels_first) == (channels, first)
    stored = fitted.decode(rows[1])
    assert stored.shape == (length + 1, channels)
    assert np.array_equal(stored, rows[1].T if first else rows[1])
    assert fitted.collate(stored[None])["values"].shape == (1, channels, length + 1)
    assert channels == 1 or ("channels x steps" in fitted.describe()) is first


def test_where_both_axes_are_constant_the_shorter_is_the_channels():
    assert layout([(3, 50)] * 5, "x") == (3, True)
    assert layout([(50, 3)] * 5, "x") == (3, False)
    assert layout([(7, 7)] * 5, "x") == (7, False)
    assert layout([(50,)] * 5, "x") == (1, False)
    assert layout([(3, n) for n in range(19)] + [(2, 5)], "x") == (3, True)  # one stray row in twenty
    with pytest.raises(DataError, match="differ in both axes"):
        layout([(i, i + 1) for i in range(2, 9)], "x")


def test_lists_and_arrays_are_read_alike_and_none_is_missing():
    fitted = Series(channels=2)
    wanted = np.array([[1, 2], [np.nan, 4], [5, 6]], np.float32)
    for payload in (
        [[1, 2], [None, 4], [5, 6]],
        wanted,
        wanted.astype(np.float64),
        [[1.0, 2.0], [float("nan"), 4.0], [5, 6]],
    ):
        np.testing.assert_array_equal(fitted.decode(payload), wanted)
    assert fitted.decode(wanted).dtype == np.dtype(fitted.dtype)
    flat = Series(channels=1).decode([1, None, 3])
    np.testing.assert_array_equal(flat, np.array([[1], [np.nan], [3]], np.float32))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ([[1, float("inf")], [2, 3]], "infinite"), ([[1e300, 0], [2, 3]], "infinite"), ([], "empty"), (np.zeros((0, 2)), "empty"),
        ([[None, None], [None, None]], "every value is missing"), ([[1, 2], [3]], "not a series"), (["a", "b"], "not a series"),
        (np.zeros((2, 2, 2)), "not a series"), ([[1, 2, 3], [4, 5, 6]], "other channels"), ([1, 2, 3], "other channels"),
        ({"a": 1}, "not a series"), (5.0, "not a series"), (10**400, "not a series"),
    ],
)  # fmt: skip
def test_what_is_no_series_is_set_apart(payload, reason):
    with pytest.raises(Bad, match=reason):
        Series(channels=2).decode(payload)


def test_a_row_without_end_keeps_its_beginning_and_is_counted():
    fitted = Series(channels=4, context=100, mean=(0.0,) * 4, std=(1.0,) * 4)
    assert len(fitted.decode(np.zeros((1 << 17, 4)))) == fitted.longest == 1 << 16
    said = fitted.notes(np.array([5, 100, 101, 1 << 16]))
    assert said[0].startswith("1 of 4 series reach 65536 steps")
    assert said[1].startswith("2 of 4 series are longer than the context of 100 steps")


def test_fit_measures_the_observed_values_and_chooses_context_and_patch(series):
    whole = np.concatenate(ROWS).astype(np.float64)
    np.testing.assert_allclose(series.mean, np.nanmean(whole, 0), atol=1e-6)
    np.testing.assert_allclose(series.std, np.nanstd(whole, 0), atol=1e-6)
    lengths = [len(r) for r in ROWS]
    assert series.context == max(lengths)
    assert series.typical == int(np.median(lengths))
    assert [patch_for(n) for n in (1, 24, 40, 150, 427, 1460, 2048)] == [1, 1, 1, 4, 8, 32, 64]
    assert Series.fit(of_memory(ROWS), "series", size=64).context == 64
    outlier = [np.zeros(50) + i for i in range(99)] + [np.arange(5000.0)]
    assert Series.fit(of_memory(outlier), "series").context < 60
    with pytest.raises(RequestError, match="--size 1"):
        Series.fit(of_memory(ROWS), "series", size=1)


def test_flat_and_missing_channels_do_not_break_the_statistics():
    rows = [np.stack([np.full(20, 1e6), np.full(20, np.nan), np.arange(20.0)], 1) for _ in range(10)]
    fitted = Series.fit(of_memory(rows), "series")
    assert fitted.std[:2] == (1.0, 1.0)
    assert fitted.mean[1] == 0.0
    view = batch(fitted, rows[:3])
    net = fitted.encoder(Facts(rows=10, modality=fitted), frozenset())
    assert net(view).isfinite().all()
    assert fitted.raw(view).isfinite().all()


def test_sniff_leaves_other_data_alone():
    assert Series.sniff(of_memory(ROWS)).column == "series"
    assert Series.sniff(of_memory(["some text here", "and some there"] * 9)) is None


def test_collate_pads_shorter_rows_and_keeps_missing_values(series):
    view = batch(series, ROWS[:5])
    assert view["values"].dtype == torch.float32
    for i, row in enumerate(ROWS[:5]):
        np.testing.assert_array_equal(view["values"][i, :, : len(row)].numpy().T, row)
        assert view["valid"][i].sum() == len(row)
        assert (view["values"][i, :, len(row) :] == 0).all()


@pytest.mark.parametrize("name", ["plain", "mild", "augment", "local"])
@pytest.mark.parametrize("needs", [frozenset(), frozenset({"tokens", "mask", "causal"})])
def test_every_view_goes_through_the_encoder_made_for_it(series, name, needs):
    facts = Facts(rows=200, modality=series)
    net = series.encoder(facts, needs)
    view = getattr(series, name)(facts)(batch(series, ROWS[:6]), Draw(torch.arange(6)))
    out = net(view)
    assert needs <= net.can
    assert out.shape == (6, net.dim)
    assert out.isfinite().all()
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_plain_has_no_randomness_and_local_shows_less_than_augment(series):
    raw = batch(series, ROWS[:50])
    a, b = (series.plain()(raw, Draw(torch.arange(50), seed=s))["values"] for s in (0, 1))
    assert torch.equal(a.nan_to_num(9), b.nan_to_num(9))
    length = {
        n: getattr(series, n)()(raw, Draw(torch.arange(50)))["valid"].sum(1).float().mean()
        for n in ("plain", "augment", "local")
    }
    assert length["local"] < 0.7 * length["augment"] < 0.7 * length["plain"]


def test_targets_are_the_patches_of_each_row_normalised_by_its_observed_values():
    fitted = Series(channels=2, patch=4, mean=(5.0, -1.0), std=(2.0, 3.0))
    rng = np.random.default_rng(0)
    row = rng.normal(size=(11, 2)) * [4, 0.5] + [7, 3]
    row[2, 0] = np.nan
    row[4:8] = np.nan
    view = batch(fitted, [row, rng.normal(size=(16, 2))])
    target = fitted.target(view, (4,))
    assert (target.kind, target.outputs, target.values.shape) == ("value", 8, (2, 4, 8))
    assert target.valid.tolist() == [[True, False, True, False], [True] * 4]
    z = (row - np.nanmean(row, 0)) / np.sqrt(np.nanvar(row, 0) + 1e-5 * np.array([2.0, 3.0]) ** 2)
    got = target.values[0].view(4, 2, 4).numpy()
    np.testing.assert_allclose(got[0, 1], z[:4, 1], atol=1e-4)
    np.testing.assert_allclose(got[0, 0, [0, 1, 3]], z[[0, 1, 3], 0], atol=1e-4)
    np.testing.assert_allclose(got[0, 0, 2], (z[1, 0] + z[3, 0]) / 2, atol=1e-4)  # the missing one, on the line between
    assert target.values.isfinite().all()
    with pytest.raises(ValueError, match="into 4 patches"):
        fitted.target(view, (5,))


def test_targets_of_a_row_do_not_depend_on_the_rows_beside_it(series):
    together = series.target(batch(series, ROWS[:4]), None)
    for i in range(4):
        own = series.target(batch(series, ROWS[i : i + 1]), None)
        count = own.valid.shape[1]
        assert torch.equal(together.valid[i, :count], own.valid[0])
        assert not together.valid[i, count:].any()
        assert torch.allclose(together.values[i, :count][own.valid[0]], own.values[0][own.valid[0]], atol=1e-5)


def test_corruption_hides_the_chosen_patches_from_the_encoder(series):
    net = series.encoder(Facts(rows=200, modality=series), frozenset({"tokens"}), depth=1)
    view = batch(series, ROWS[:2])
    tokens = net.tokenize(view)
    chosen = torch.zeros(tokens.values.shape[:2], dtype=torch.bool)
    chosen[:, 3] = True
    hidden = net.tokenize(series.corrupt(view, chosen, tokens.grid, Draw(torch.arange(2))))
    assert torch.equal(hidden.values[:, 3], net.mask_token.expand(2, -1))
    assert torch.equal(hidden.values[:, 4], tokens.values[:, 4])


def test_encoders_reach_over_the_whole_context_and_are_found_by_name(series):
    for context in (20, 160, 300, 1000, 5000):
        fitted = Series(channels=1, context=context, patch=patch_for(context))
        net = fitted.encoder(Facts(rows=9, modality=fitted), frozenset())
        assert 1 + 4 * (2**net.depth - 1) >= context / net.stride
        assert context / net.stride <= 120
    assert series.encoder(Facts(rows=9, modality=series), frozenset(), "series-transformer").patch == series.patch
    assert series.encoder(Facts(rows=9, modality=series), frozenset(), width=16).dim == 32
    with pytest.raises(RequestError, match="takes image, not series"):
        series.encoder(Facts(rows=9, modality=series), frozenset(), "vit")


def test_the_raw_control_holds_shape_level_scale_and_missing_share():
    fitted = Series(channels=1, typical=4, mean=(10.0,), std=(2.0,))
    raw = fitted.raw(batch(fitted, [[8.0, 8, 12, 12, 8, 8, 12, 12], [14.0, None, None, 14.0]]))
    assert raw.shape == (2, 4 + 3)
    np.testing.assert_allclose(raw[0].numpy(), [-1, 1, -1, 1, 0, 1, 0], atol=1e-4)
    np.testing.assert_allclose(raw[1].numpy(), [0, 0, 0, 0, 2, 0, 0.5], atol=0.01)
    wide = Series(channels=100, typical=500, mean=(0.0,) * 100, std=(1.0,) * 100)
    assert wide.raw(batch(wide, [np.ones((30, 100))])).shape == (1, 100 * (40 + 3))


def test_saved_and_loaded_it_is_the_same(series, tmp_path):
    series.save(tmp_path)
    assert Series.load(tmp_path) == series
    assert json.loads(json.dumps(series.config())) == series.config()


@pytest.mark.parametrize(
    "change",
    [{"channels": 3}, {"channels": 0}, {"patch": "4"}, {"std": [0.0, 1.0]}, {"context": 10**9}, {"name": "image"}, {"more": 1}, {"mean": [[1], 2]}],
)  # fmt: skip
def test_broken_settings_are_refused(series, tmp_path, change):
    (tmp_path / "preprocessor.json").write_text(json.dumps({**series.config(), **change}))
    with pytest.raises(ModelError):
        Series.load(tmp_path)


def test_toy_factors_are_known_even_and_show():
    rows, factors = Series.toy(600, 1)
    again, _ = Series.toy(600, 1)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(rows, again, strict=True))
    assert {k: len(set(v)) for k, v in factors.items()} == {"frequency": 4, "shape": 3, "trend": 3, "noise": 3}
    slope = np.array([np.polyfit(np.arange(len(r))[~np.isnan(r[:, 0])], r[~np.isnan(r[:, 0]), 0], 1)[0] for r in rows])
    by_trend = [slope[factors["trend"] == k].mean() for k in range(3)]
    assert by_trend[0] < -0.01 < by_trend[1] < 0.01 < by_trend[2]
    rough = np.array([np.nanstd(np.diff(r[:, 1], n=3)) for r in rows])
    assert np.all(np.diff([np.median(rough[factors["noise"] == k]) for k in range(3)]) > 0)
    assert 0.2 < np.mean([np.isnan(r).any() for r in rows]) < 0.45
    assert len({len(r) for r in rows}) > 40


def test_as_array_takes_numbers_only():
    assert as_array([[1, 2], [3, None]]).dtype == np.float32
    with pytest.raises(Bad):
        as_array([object()])
