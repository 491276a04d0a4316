"""Finding by file name, by alias and by entry point of another distribution; unknown names tell the nearest."""

import sys

import pytest

from selftaught.core import ClosedForm, Method, ModelError, RequestError
from selftaught.core import find as finder

PACKAGE, KINDS = "selftaught.methods", (Method, ClosedForm)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed distribution with one good and one broken method."""
    (tmp_path / "plugged.py").write_text(
        "from selftaught.core import Method\n\nclass Plugged(Method):\n    aliases = ('plug',)\n    size: int = 3\n"
    )
    info = tmp_path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[selftaught.methods]\nplugged_in = plugged:Plugged\nsimclr = plugged:Plugged\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    finder.names.cache_clear()
    finder.everything.cache_clear()
    yield
    sys.modules.pop("plugged", None)
    finder.names.cache_clear()
    finder.everything.cache_clear()


@pytest.mark.parametrize("name", ["next-token", "next_token", "gpt", "Next-Token"])
def test_by_slug_underscores_alias_and_case(name):
    assert finder.find(PACKAGE, name, KINDS, "method").__name__ == "NextToken"


def test_unknown_names_tell_the_nearest():
    with pytest.raises(RequestError) as error:
        finder.find(PACKAGE, "simclar", KINDS, "method")
    assert "Did you mean 'simclr'?" in error.value.remedy
    assert "gpt" in error.value.remedy


def test_entry_points_add_and_never_replace(plugin):
    assert finder.find(PACKAGE, "plugged-in", KINDS, "method").__module__ == "plugged"
    assert finder.find(PACKAGE, "plug", KINDS, "method").__module__ == "plugged"
    assert finder.find(PACKAGE, "simclr", KINDS, "method").__module__ == "selftaught.methods.simclr"


def test_names_import_no_method():
    finder.names.cache_clear()
    before = set(sys.modules)
    assert "simclr" in finder.names(PACKAGE)
    assert {m for m in set(sys.modules) - before if m.startswith(PACKAGE)} == set()


def test_a_file_holds_exactly_one(tmp_path, monkeypatch):
    package = tmp_path / "twofold"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "both.py").write_text(
        "from selftaught.core import Method\nclass A(Method): pass\nclass B(Method): pass\nclass _Hidden(Method): pass\n"
    )
    (package / "_helper.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(finder.names("twofold")) == ["both"]
    with pytest.raises(ModelError, match="defines 2"):
        finder.find("twofold", "both", Method, "method")
