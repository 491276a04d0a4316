"""`Representation` is a scikit-learn transformer: its estimator checks, a Pipeline, GridSearchCV, clone and reproducibility."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from selftaught import Representation

TINY = {"recipe": {"batch": 16}, "steps": 2, "options": {"hidden": 8, "width": 4}}
NOT_FOR_US = {
    "check_transformer_preserve_dtypes": "features are float32 whatever the input is: that is what the networks compute in",
    "check_methods_subset_invariance": "float32 sums differ in the last bits with the batch",
}


@parametrize_with_checks([Representation("simclr", **TINY)], expected_failed_checks=lambda estimator: NOT_FOR_US)
def test_estimator_checks(estimator, check):
    assert check is not None
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:200], y[:200]


SMALL = {"shape": (8, 8), "recipe": {"batch": 64}, "steps": 2}


def test_pipeline_and_grid_search(digits):
    X, y = digits
    model = make_pipeline(Representation("simclr", **SMALL), LogisticRegression(max_iter=500))
    grid = GridSearchCV(model, {"representation__steps": [0, 2]}, cv=2)
    grid.fit(X, y)
    assert set(grid.cv_results_["param_representation__steps"]) == {0, 2}
    assert grid.score(X, y) > 0.3


def test_same_seed_same_features_and_clone_keeps_nothing(digits):
    X, _ = digits
    first = Representation("simclr", **SMALL).fit(X)
    second = clone(first)
    assert not hasattr(second, "encoder_")
    np.testing.assert_array_equal(first.transform(X), second.fit(X).transform(X))
    assert first.transform(X).shape == (200, first.encoder_.dim)
    other = Representation("simclr", random_state=1, **SMALL).fit(X).transform(X)
    assert np.abs(other - first.transform(X)).max() > 1e-3


def test_labels_change_nothing(digits):
    X, y = digits
    np.testing.assert_array_equal(
        Representation("simclr", **SMALL).fit(X, y).transform(X),
        Representation("simclr", **SMALL).fit(X, y[::-1]).transform(X),
    )


def test_texts_and_pictures():
    texts = [
        f"the {a} {b} runs"
        for a in ("small", "large", "red", "blue")
        for b in ("dog", "cat", "fox", "cow")
        for _ in range(3)
    ]
    features = Representation("masked-token", steps=1, recipe={"batch": 8}).fit(texts).transform(texts[:5])
    assert features.shape[0] == 5
    assert np.isfinite(features).all()
    pictures = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    assert Representation("rotation", steps=1, recipe={"batch": 16}).fit(pictures).transform(pictures).shape[0] == 40
