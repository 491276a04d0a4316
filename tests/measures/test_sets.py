import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from selftaught import measures
from selftaught.measures import sets


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 12)).astype(np.float32)
    y = (x @ rng.normal(size=(12, 3)) + rng.normal(size=(240, 3)) > 1).astype(np.int8)
    return x, np.concatenate([y, np.zeros((240, 1), np.int8)], 1)


@pytest.mark.parametrize("weights", [(), (3.0, 1.0, 2.0, 1.0)])
def test_one_fit_of_all_classes_is_scikit_learns_of_each(planted, weights):
    x, y = planted
    ((weight, intercept),) = sets._solved(x[None], y[None], np.array([0.1]), weights)
    for k in range(3):
        model = LogisticRegression(
            C=0.1, tol=1e-8, max_iter=2000, class_weight={0: 1.0, 1: weights[k] if weights else 1.0}
        )
        model.fit(x, y[:, k])
        np.testing.assert_allclose(weight[:, k], model.coef_[0], atol=2e-3)
        assert intercept[k] == pytest.approx(model.intercept_[0], abs=2e-3)
    # the class of no row keeps the rate (0 + 1/2) / (240 + 1), whatever the input
    assert (weight[:, 3] == 0).all()
    assert 1 / (1 + np.exp(-intercept[3])) == pytest.approx(0.5 / 241, rel=1e-3)


def test_the_strength_is_the_best_on_held_rows_and_both_are_fitted_then(planted):
    x, y = planted
    ours = measures.fit_sets(x[:160], y[:160], x[160:], y[160:])

    def held_loss(c: float) -> float:
        scale = measures.Scale.of(x[:160])
        total = 0.0
        for k in range(3):
            p = LogisticRegression(C=c, max_iter=2000).fit(scale(x[:160]), y[:160, k]).predict_proba(scale(x[160:]))
            total -= np.log(p[np.arange(80), y[160:, k]]).sum()
        return total

    losses = {c: held_loss(c) for c in measures.linear.GRID}
    assert losses[ours.strength] <= min(losses.values()) * 1.01
    alone = measures.fit_sets(x[:160], y[:160], x[160:], y[160:], refit=False)
    np.testing.assert_allclose(alone.outputs(x[160:]), alone.held, atol=1e-4)
    assert np.abs(ours.outputs(x[160:]) - ours.held).max() > 1e-2


def test_draws_are_fitted_together_as_alone(planted):
    x, y = planted
    draws, scale = [np.arange(0, 60), np.arange(100, 160)], measures.Scale.of(x)
    together = measures.fit_sets_draws(x, y, draws, scale=scale, key=5)
    (alone,) = measures.fit_sets_draws(x, y, draws[:1], scale=scale, key=5)
    assert together[0].strength == alone.strength
    np.testing.assert_allclose(together[0].weight, alone.weight, atol=5e-3)
    for draw, one in zip(draws, together, strict=True):
        ((weight, _),) = sets._solved(scale(x[draw])[None], y[draw][None], np.array([one.strength]), ())
        np.testing.assert_allclose(one.weight, scale.inverse[:, None] * weight, atol=5e-3)
    few = measures.fit_sets_draws(x, y, [np.array([3])], scale=scale, key=0)
    assert np.isfinite(few[0].outputs(x)).all()
