import pytest

from selftaught.cli import main

from .shell import TINY


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run folder: three steps of SimCLR on digits."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["pretrain", "digits", *TINY, "--steps", "3", "--out", str(folder), "-q"]) == 0
    return folder
