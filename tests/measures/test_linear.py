import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from selftaught import measures
from selftaught.core import random
from selftaught.measures import linear, softmax
from selftaught.measures.logistic import Problems, solve
from selftaught.measures.ridge import ridge
from selftaught.measures.softmax import Softmax
from selftaught.measures.span import span


def noise(rows: int, width: int, key: int = 0) -> np.ndarray:
    return random.normal(key, torch.arange(rows), (width,)).numpy().astype(np.float64)


def planted(rows: int, width: int, classes: int, key: int = 0, gap: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(rows) % classes
    mixing = noise(width, width, 77) / np.sqrt(width)
    return ((noise(rows, width, key) + gap * noise(classes, width, 99)[labels]) @ mixing).astype(np.float32), labels


def centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(1, keepdims=True)


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_solver_equals_scikit_learn(strength):
    x, y = planted(150, 12, 4)
    x = x.astype(np.float64)
    problems = Problems(torch.from_numpy(x)[None], torch.from_numpy(y)[None], torch.ones(1, 1, 150).double(), 4)
    theta = solve(problems, torch.full((1, 1), strength), tolerance=1e-8)[0, 0].numpy()
    reference = LogisticRegression(C=strength, tol=1e-10, max_iter=5000).fit(x, y)
    ours, theirs = centred(x @ theta[:-1] + theta[-1]), centred(reference.decision_function(x))
    np.testing.assert_allclose(ours, theirs, atol=2e-4 * max(1, strength))


def test_many_problems_at_once_are_each_solved_as_if_alone():
    x = torch.stack([torch.from_numpy(planted(60, 8, 3, key)[0]).double() for key in range(3)])
    y = torch.from_numpy(planted(60, 8, 3)[1]).expand(3, -1)
    weight = torch.ones(3, 2, 60).double()
    weight[:, 1, ::2] = 0
    strength = torch.tensor([[0.01, 1.0], [0.1, 0.1], [10.0, 0.01]])
    together = Problems(x, y, weight, 3)
    theta = solve(together, strength, tolerance=1e-7)
    for p in range(3):
        for f in range(2):
            kept = weight[p, f].bool().numpy()
            one = LogisticRegression(C=float(strength[p, f]), tol=1e-10, max_iter=5000).fit(
                x[p].numpy()[kept], y[p].numpy()[kept]
            )
            logits = together.logits(theta)[p, f].numpy()
            np.testing.assert_allclose(centred(logits), centred(one.decision_function(x[p].numpy())), atol=5e-3)


def test_two_classes_are_the_symmetric_softmax():
    x, y = planted(80, 6, 2)
    x = x.astype(np.float64)
    problems = Problems(torch.from_numpy(x)[None].double(), torch.from_numpy(y)[None], torch.ones(1, 1, 80).double(), 2)
    theta = solve(problems, torch.full((1, 1), 0.5), tolerance=1e-10)[0, 0].numpy()
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(x, y)  # one vector: half the penalty
    np.testing.assert_allclose((theta[:, 1] - theta[:, 0])[:-1], reference.coef_[0], atol=1e-4)


@pytest.mark.parametrize("width", [5, 300])  # wider than there are rows: solved in the rows' span
def test_fit_equals_a_pipeline_of_scikit_learn(width):
    x, y = planted(90, width, 3)
    held, held_y = planted(60, width, 3, key=5)
    model = measures.fit(x, y, held, held_y, classes=3)
    scaler = StandardScaler().fit(x.astype(np.float64))
    assert model.strength in linear.GRID
    both, both_y = np.concatenate([x, held]), np.concatenate([y, held_y])
    reference = LogisticRegression(C=model.strength, tol=1e-8, max_iter=5000).fit(scaler.transform(both), both_y)
    fresh, _ = planted(50, width, 3, key=6)
    expected = reference.predict_proba(scaler.transform(fresh))
    np.testing.assert_allclose(measures.probabilities(model.outputs(fresh)), expected, atol=5e-3)


def test_the_strength_is_the_best_of_the_grid_on_the_held_rows():
    x, y = planted(60, 40, 3, gap=0.3)
    held, held_y = planted(300, 40, 3, key=5, gap=0.3)
    model = measures.fit(x, y, held, held_y, classes=3)
    scaler = StandardScaler().fit(x.astype(np.float64))
    losses = []
    for c in linear.GRID:
        fitted = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(scaler.transform(x), y)
        losses.append(-np.log(fitted.predict_proba(scaler.transform(held))[np.arange(300), held_y]).mean())
    assert model.strength == linear.GRID[int(np.argmin(losses))]


def test_draws_solved_together_equal_draws_solved_alone():
    x, y = planted(300, 20, 4)
    rows = [np.sort(random.permutation(k, 300).numpy()[:40]) for k in range(3)]
    scale = measures.Scale.of(x)
    together = measures.fit_draws(x, y, rows, classes=4, scale=scale, key=1, grid=(1e-3, 1e-2, 1e-1))
    for i, one in enumerate(rows):
        reference = LogisticRegression(C=together[i].strength, tol=1e-8, max_iter=5000).fit(scale(x[one]), y[one])
        probability = measures.probabilities(together[i].outputs(x))
        np.testing.assert_allclose(probability, reference.predict_proba(scale(x)), atol=1e-2)


def test_a_class_without_rows_is_never_predicted():
    x, y = planted(60, 10, 3)
    draw = np.flatnonzero(y != 1)[:30]
    (model,) = measures.fit_draws(x, y, [draw], classes=3, scale=measures.Scale.of(x), key=0)
    assert 1 not in model.outputs(x).argmax(1)
    full = measures.fit(x[draw], y[draw], x, y, classes=4)  # class 3 exists nowhere, class 1 on the held rows only
    assert np.isfinite(full.outputs(x)).all()


def test_one_label_a_class_is_fitted_at_a_fixed_strength():
    x, y = planted(60, 10, 3, gap=3.0)
    (model,) = measures.fit_draws(x, y, [np.arange(3)], classes=3, scale=measures.Scale.of(x), key=0)
    assert model.strength == linear.ALONE
    assert (model.outputs(x).argmax(1) == y).mean() > 0.6


def test_folds_keep_classes_in_proportion_and_groups_together():
    y = np.repeat([0, 1, 2], [20, 20, 10])
    fold = linear.folds(y, 3)
    for c, n in ((0, 20), (1, 20), (2, 10)):
        assert np.array_equal(np.bincount(fold[y == c]), np.full(5, n // 5))
    groups = np.arange(50) // 5
    grouped = linear.folds(y, 3, groups)
    assert all(len(set(grouped[groups == g])) == 1 for g in range(10))
    assert len(set(grouped)) == 5


@pytest.mark.parametrize(("rows", "width"), [(40, 8), (20, 50)])
def test_ridge_equals_scikit_learn(rows, width):
    x, y = noise(rows, width), noise(rows, 1, 5)[:, 0] + 4
    weights, intercepts = ridge(x, y, [0.1, 10.0])
    for weight, intercept, c in zip(weights, intercepts, [0.1, 10.0], strict=True):
        reference = Ridge(alpha=1 / c).fit(x, y)
        np.testing.assert_allclose(weight, reference.coef_, atol=1e-8)
        assert intercept == pytest.approx(reference.intercept_)


def test_regression_finds_a_planted_line():
    x = noise(400, 10).astype(np.float32) * 5 + 3
    y = (x @ np.arange(10)) / 30 + 0.1 * noise(400, 1, 3)[:, 0]
    model = measures.fit(x[:200], y[:200], x[200:300], y[200:300], classes=None)
    error = model.outputs(x[300:])[:, 0] - y[300:]
    assert error.std() < 0.15
    (few,) = measures.fit_draws(x, y, [np.arange(50)], classes=None, scale=measures.Scale.of(x), key=0)
    assert np.corrcoef(few.outputs(x[300:])[:, 0], y[300:])[0, 1] > 0.99


def test_dead_dimensions_get_no_weight():
    x, y = planted(60, 6, 2)
    x[:, 3] = 7.0
    model = measures.fit(x[:40], y[:40], x[40:], y[40:], classes=2)
    assert np.all(model.weight[3] == 0)
    assert np.isfinite(model.outputs(x)).all()


@pytest.mark.parametrize("classes", [2, 4])
def test_draws_solved_together_equal_those_solved_alone(classes, monkeypatch):
    """The same draws by the batched solver and, above `SMALL` rows, by the preconditioned one: one read-out."""
    x, y = planted(200, 15, classes, gap=0.4)
    draws = [np.sort(random.permutation(k, 200).numpy()[:80]) for k in range(3)]
    settings = {"classes": classes, "scale": measures.Scale.of(x), "key": 4, "grid": (1e-3, 1e-2, 1e-1)}
    together = measures.fit_draws(x, y, draws, **settings)
    monkeypatch.setattr(linear, "SMALL", 10)
    alone = measures.fit_draws(x, y, draws, **settings)
    for a, b in zip(together, alone, strict=True):
        assert a.strength == b.strength
        np.testing.assert_allclose(
            measures.probabilities(a.outputs(x)), measures.probabilities(b.outputs(x)), atol=1e-2
        )


def test_folds_of_one_class_are_lived_with():
    """Whole groups in a fold may leave one class to train on: nothing is learned there, and nothing breaks."""
    x, y = planted(60, 8, 2)
    groups = y.copy()  # each group is a class
    for small in (True, False):
        draw = np.arange(20) if small else np.arange(60)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(linear, "SMALL", 30)
            (model,) = measures.fit_draws(x, y, [draw], classes=2, scale=measures.Scale.of(x), key=0, groups=groups)
        assert np.isfinite(model.outputs(x)).all()


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_the_preconditioned_solver_equals_scikit_learn(strength, classes):
    """Unevenly spread features, as photographs have: the optimum is the same, whatever the way there."""
    x, y = planted(400, 30, classes)
    x = (x @ np.diag(np.arange(1, 31.0) ** -1)).astype(np.float32)
    weight, intercept = Softmax(x, y, classes).at(strength, 1e-9)
    two = classes == 2  # one vector for two classes: half the penalty
    reference = LogisticRegression(C=strength * (2 if two else 1), tol=1e-9, max_iter=9000).fit(x.astype(np.float64), y)
    scores = reference.decision_function(x.astype(np.float64))
    ours, theirs = centred(x @ weight + intercept), centred(np.stack([-scores, scores], 1) / 2 if two else scores)
    np.testing.assert_allclose(ours, theirs, atol=3e-3 * np.abs(theirs).max())


def test_the_path_starts_from_the_last_fit_and_ends_where_a_fresh_one_does():
    x, y = planted(300, 20, 4)
    walked, fresh = Softmax(x, y, 4), Softmax(x, y, 4)
    for strength in linear.GRID[:5]:
        found = walked.at(strength, 1e-8)
    np.testing.assert_allclose(found[0], fresh.at(linear.GRID[4], 1e-8)[0], atol=2e-3)


def test_wide_rows_are_curved_by_each_number_alone_to_the_same_end(monkeypatch):
    x, y = planted(200, 40, 3)
    whole, _ = Softmax(x, y, 3).at(0.1, 1e-8)
    monkeypatch.setattr(softmax, "WIDE", 10)
    alone, _ = Softmax(x, y, 3).at(0.1, 1e-8)
    np.testing.assert_allclose(whole, alone, atol=2e-3)


def test_features_that_are_not_finite_are_refused():
    x, y = planted(30, 5, 3)
    x[4, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        Softmax(x, y, 3).at(1.0, 1e-6)


@pytest.mark.parametrize("copies", [False, True])  # copies make the rows depend on one another
def test_the_span_is_an_exact_rotation(copies):
    x = noise(20, 60).astype(np.float32)
    if copies:
        x[10:] = x[:10]
    rows, back = span(x)
    assert rows.shape == (20, 20)
    np.testing.assert_allclose(rows @ rows.T, x @ x.T, atol=2e-3)
    weight = x.T.astype(np.float64) @ noise(20, 3, 4)  # in the span: x w must come back as it was
    inside = np.linalg.lstsq(rows.astype(np.float64), x @ weight, rcond=1e-4)[0]
    np.testing.assert_allclose(x @ back(inside), x @ weight, atol=0.02 * np.abs(x @ weight).max())
    tall, same = span(x.T)
    assert tall is x.T or np.array_equal(tall, x.T)
    assert same(weight) is weight


def test_on_held_out_rows_it_is_as_good_as_scikit_learn():
    """Few labels wide, many labels narrow: accuracies within what chance would do to them."""
    for rows, width in ((300, 500), (3000, 40)):
        x, y = planted(rows, width, 5, gap=0.35)
        fresh, truth = planted(2000, width, 5, key=8, gap=0.35)
        cut = rows * 4 // 5
        model = measures.fit(x[:cut], y[:cut], x[cut:], y[cut:], classes=5)
        scaler = StandardScaler().fit(x[:cut].astype(np.float64))
        reference = LogisticRegression(C=model.strength, max_iter=2000).fit(scaler.transform(x), y)
        ours = (model.outputs(fresh).argmax(1) == truth).mean()
        theirs = (reference.predict(scaler.transform(fresh)) == truth).mean()
        assert abs(ours - theirs) < 0.01
        assert ours > 0.4
