import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Every test packs into a cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(folder))
    return folder
