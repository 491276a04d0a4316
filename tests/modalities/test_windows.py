"""A long table of measurements in time becomes windows; a table whose rows have no order does not."""

import numpy as np
import pytest

from selftaught import modalities
from selftaught.core import RequestError
from selftaught.data.arrays import of_memory
from selftaught.modalities._windows import windows_of


def table(rows: int = 6400, **columns) -> dict:
    rng = np.random.default_rng(0)
    return {"date": np.arange(rows) * 60, "flow": rng.normal(size=rows), "load": rng.integers(0, 9, rows), **columns}


def test_rows_are_the_table_s_own_measurements_end_to_end():
    held = table()
    held["flow"][70] = np.nan
    source = windows_of(of_memory(held))
    assert source.rows == 200
    windows = list(source.payloads("series", range(3)))
    assert [w.shape for w in windows] == [(32, 2)] * 3
    np.testing.assert_array_equal(np.concatenate(windows)[:, 0], held["flow"][:96].astype(np.float32))
    np.testing.assert_array_equal(windows[2][:, 1], held["load"][64:96])
    assert source.row_name(2) == "data in memory:64-95"
    assert "6400 measurements in time (column 'date') of flow, load" in source.notes[-1]


def test_size_is_the_window_and_the_rest_is_left_out():
    source = windows_of(of_memory(table(rows=1050)), 100)
    assert source.rows == 10
    assert source.fingerprint() != windows_of(of_memory(table(rows=1050)), 50).fingerprint()
    with pytest.raises(RequestError, match="'flow' is no column"):
        source.need("flow")


@pytest.mark.parametrize(
    "change",
    [
        {"date": np.arange(6400)[::-1]}, {"date": np.zeros(6400)}, {"body": [f"a text of some words, number {i}" for i in range(6400)]},
    ],
)  # fmt: skip
def test_other_tables_stay_as_they_are(change):
    source = of_memory(table(**change))
    assert windows_of(source) is source


def test_tables_without_time_or_too_short_stay_as_they_are():
    held = table()
    held.pop("date")
    for source in (of_memory(held), of_memory(table(rows=900))):
        assert windows_of(source) is source


def test_dates_that_are_spelled_out_count_as_time():
    days = [str(np.datetime64("2020-01-01") + i) for i in range(1200)]
    held = table(rows=1200, date=days)
    source = of_memory(held)
    assert windows_of(source).rows == 1200 // 32


def test_it_opens_as_series(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path))
    said = []
    dataset = modalities.open_data(table(), say=said.append)
    assert (dataset.modality.name, dataset.modality.channels, len(dataset)) == ("series", 2, 200)
    assert any("read as 200 series of 32 steps" in line for line in said)
