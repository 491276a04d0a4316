"""Configuration <-> TOML, assignments and merging."""

import math
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.core import RequestError, config

words = st.text(st.characters(codec="utf-8"), max_size=12)
plain = st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | words
values = plain | st.lists(plain, max_size=4) | st.lists(st.lists(plain, max_size=2), max_size=3)
tables = st.recursive(
    st.dictionaries(words, values, max_size=4),
    lambda inner: st.dictionaries(words, values | inner, max_size=4),
    max_leaves=8,
)


def same(a, b) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


@given(tables)
def test_round_trip(table):
    assert same(tomllib.loads(config.dumps(table)), table)


def test_round_trip_through_a_file(tmp_path):
    table = {"seed": 3, "recipe": {"lr": 1e-16, "betas": (0.9, 0.95), "name": 'a "b"\n\\c\x7f', "none": None, "é 𝄞": 1}}
    (tmp_path / "c.toml").write_text(config.dumps(table), "utf-8")
    assert config.load(tmp_path / "c.toml") == {
        "seed": 3,
        "recipe": {"lr": 1e-16, "betas": [0.9, 0.95], "name": 'a "b"\n\\c\x7f', "é 𝄞": 1},
    }


def test_what_has_no_toml_form_is_refused():
    with pytest.raises(TypeError, match="object"):
        config.dumps({"a": object()})


def test_load_names_the_file(tmp_path):
    with pytest.raises(RequestError, match="no file"):
        config.load(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(RequestError, match="not TOML"):
        config.load(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="not TOML"):
        config.load(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=3", {"a": {"b": 3, "c": 1}, "d": 2}),
        ("d=0.5", {"a": {"c": 1}, "d": 0.5}),
        ("d=plain words", {"a": {"c": 1}, "d": "plain words"}),
        ("d=[1, 2]", {"a": {"c": 1}, "d": [1, 2]}),
        ("d=true", {"a": {"c": 1}, "d": True}),
        ("e.f.g=x=y", {"a": {"c": 1}, "d": 2, "e": {"f": {"g": "x=y"}}}),
    ],
)
def test_assign(text, expected):
    before = {"a": {"c": 1}, "d": 2}
    assert config.assign(before, [text]) == expected
    assert before == {"a": {"c": 1}, "d": 2}


@pytest.mark.parametrize("text", ["nothing", "=3", "d.e=1"])
def test_assign_refuses(text):
    with pytest.raises(RequestError):
        config.assign({"d": 2}, [text])


def test_merge_later_wins_and_none_never_does():
    merged = config.merge({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}, "b": None, "c": [1]}, {"c": [2]})
    assert merged == {"a": {"x": 1, "y": 3}, "b": 1, "c": [2]}
