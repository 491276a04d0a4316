"""Errors say what is wrong, what is accepted, the nearest match, and cross a process border whole."""

import pickle

import pytest

from selftaught.core import AlarmError, DataError, ModelError, RequestError
from selftaught.core.errors import nearest


def test_nearest_names_all_and_the_closest():
    error = nearest("simclar", ["byol", "simclr"], "method")
    assert error.message == "'simclar' is no method."
    assert error.remedy == "Did you mean 'simclr'? Accepted: byol, simclr."


def test_nearest_guesses_nothing_where_nothing_is_near():
    assert nearest("xyz", ["byol", "simclr"], "method").remedy == "Accepted: byol, simclr."


@pytest.mark.parametrize(("kind", "code"), [(RequestError, 2), (DataError, 3), (ModelError, 4), (AlarmError, 5)])
def test_codes_and_pickling(kind, code):
    error = pickle.loads(pickle.dumps(kind("message", "remedy")))
    assert (type(error), error.code, error.message, error.remedy) == (kind, code, "message", "remedy")
    assert str(error) == "message\n  remedy"
