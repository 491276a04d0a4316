"""For all tests: one thread, since tensors are tiny and suites share the cores; the same examples every time; a cache of their own."""

import os

import hypothesis
import pytest
import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Packed sets of tests neither fill nor find the cache of whoever runs them."""
    if "SELFTAUGHT_CACHE" not in os.environ:
        os.environ["SELFTAUGHT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
