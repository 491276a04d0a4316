"""Settings and recipes: what is not understood is refused by name."""

import pytest

from selftaught.core import Recipe
from selftaught.core.errors import RequestError
from selftaught.train.settings import Settings, overridden


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"data": "x", "methd": "simclr"}, "methd.*method"),
        ({}, "No data"),
        ({"data": "x", "steps": 1.5}, "steps"),
        ({"data": "x", "seed": "seven"}, "seed"),
        ({"data": "x", "max_bad": 7.0}, "max-bad"),
        ({"data": "x", "precision": "float8"}, "float8"),
        ({"data": "x", "threads": 0}, "threads"),
    ],
)
def test_bad_settings(values, words):
    with pytest.raises(RequestError, match=f"(?s){words}"):
        Settings.of(values)


def test_settings_come_back_from_their_plain_form():
    settings = Settings.of({"data": "x", "minutes": 3, "options": {"temperature": 0.3}, "recipe": {"lr": 0.1}})
    assert Settings.of(settings.plain()) == settings


def test_recipe_overrides():
    recipe = overridden(Recipe(batch=64), {"lr": 0.5, "betas": [0.8, 0.99]})
    assert (recipe.batch, recipe.lr, recipe.betas) == (64, 0.5, (0.8, 0.99))


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 1.0}, {"lr": "fast"}, {"lr": 0}, {"batch": 0}, {"optimizer": "lion"}, {"betas": [0.9]}],
)
def test_bad_recipes(changes):
    with pytest.raises(RequestError):
        overridden(Recipe(), changes)


def test_two_durations_are_one_too_many():
    with pytest.raises(RequestError, match="--minutes"):
        Settings.of({"data": "x", "minutes": 1.0, "steps": 3}).duration(Recipe().duration)
