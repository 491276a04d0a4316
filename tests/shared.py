"""Where the real data sets for tests and benchmarks lie: SELFTAUGHT_SHARED, else shared/data beside the checkout."""

import os
from pathlib import Path

import pytest


def data_folder(name: str) -> Path:
    """The folder of a real data set; skips the test where it is absent."""
    root = Path(os.environ.get("SELFTAUGHT_SHARED") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not (root / name).is_dir():
        pytest.skip(f"the real data set {name!r} is not here (set SELFTAUGHT_SHARED to the folder that holds it)")
    return root / name
