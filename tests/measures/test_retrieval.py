import numpy as np
import pytest
from sklearn import metrics as sk

from selftaught import measures


def test_figures_of_a_small_case_by_hand():
    angle = lambda *degrees: np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1)  # noqa: E731
    gallery, held = angle(5, 10, 20, 40, 80), np.array([0, 1, 0, 0, 1])
    found, counted = measures.retrieve(angle(0, 90, 0), gallery, np.array([0, 1, 2]), held, at=(1, 2))
    # query 0 of class 0 (R = 3): hits at 1, 3 -> (1 + 2/3) / 3; query 1 of class 1 (R = 2): nearest is row 4, then 3 -> 1/2
    assert found["map@r"] == pytest.approx([(1 + 2 / 3) / 3, 1 / 2, 0])
    assert found["recall@1"].tolist() == [1, 1, 0]
    assert counted.tolist() == [True, True, False]


def test_map_at_r_equals_loops_and_rows_of_one_class_together_score_one():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(30, 4)), rng.normal(size=(300, 4))
    labels, held = rng.integers(0, 3, 30), rng.integers(0, 3, 300)
    found, _ = measures.retrieve(queries, gallery, labels, held)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    for q in range(30):
        order = np.argsort(-unit(gallery) @ unit(queries)[q])
        wanted = int((held == labels[q]).sum())
        hits, total = 0, 0.0
        for place, row in enumerate(order[:wanted], 1):
            if held[row] == labels[q]:
                hits += 1
                total += hits / place
        assert found["map@r"][q] == pytest.approx(total / wanted)
        for k in (1, 5, 10):
            assert found[f"recall@{k}"][q] == float((held[order[:k]] == labels[q]).any())
    centres = np.eye(3)
    perfect, _ = measures.retrieve(centres[labels], centres[held], labels, held)
    assert (perfect["map@r"] == 1).all()


@pytest.mark.parametrize("decimals", [0, 6])
def test_ranking_figures_equal_scikit_learn_ties_included(decimals):
    rng = np.random.default_rng(decimals)
    scores, truth = rng.normal(size=(80, 7)).round(decimals), rng.random((80, 7)) < 0.3
    some = truth.any(1)
    assert measures.label_ranking(scores, truth)[some].mean() == pytest.approx(
        sk.label_ranking_average_precision_score(truth[some], scores[some])
    )
    each = [sk.average_precision_score(truth[:, k], scores[:, k]) for k in range(7)]
    np.testing.assert_allclose(measures.average_precision(scores, truth), each)
    assert (measures.label_ranking(scores, truth)[~some] == 0).all()
    assert np.isnan(measures.average_precision(scores, np.zeros((80, 7), bool))).all()
