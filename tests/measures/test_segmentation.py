import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from selftaught.measures.segmentation import IGNORED, Overlaps, confusion


def masks(seed: int, count: int = 5, classes: int = 4):
    rng = np.random.default_rng(seed)
    truth = [rng.integers(0, classes, (6, 7)).astype(np.uint8) for _ in range(count)]
    guess = [np.where(rng.random(t.shape) < 0.6, t, rng.integers(0, classes, t.shape)).astype(np.uint8) for t in truth]
    for t in truth:
        t[rng.random(t.shape) < 0.2] = IGNORED
    return guess, truth


def test_the_matrix_and_the_mean_are_those_of_scikit_learn():
    guess, truth = masks(0)
    matrices = [confusion(g, t, 4) for g, t in zip(guess, truth, strict=True)]
    known = [t != IGNORED for t in truth]
    flat = [np.concatenate([a[k] for a, k in zip(some, known, strict=True)]) for some in (truth, guess)]
    np.testing.assert_array_equal(sum(matrices), confusion_matrix(*flat, labels=range(4)))
    figures = Overlaps.of(matrices).figures("abcd")
    assert figures["mIoU"] == pytest.approx(jaccard_score(*flat, average="macro"))
    assert figures["IoU c"] == pytest.approx(jaccard_score(*flat, average=None)[2])
    assert figures["pixel accuracy"] == pytest.approx((flat[0] == flat[1]).mean())


def test_a_class_that_is_nowhere_true_is_left_out_but_saying_it_costs_the_others():
    truth, guess = np.array([[0, 0, 1, 1]]), np.array([[0, 2, 1, 1]])
    figures = Overlaps.of([confusion(guess, truth, 3)]).figures("abc")
    assert figures == {"mIoU": 0.75, "pixel accuracy": 0.75, "IoU a": 0.5, "IoU b": 1.0}


def test_weights_count_pictures_as_if_they_lay_there_again():
    guess, truth = masks(1)
    matrices = [confusion(g, t, 4) for g, t in zip(guess, truth, strict=True)]
    weights = np.array([[1, 1, 1, 1, 1], [0, 2, 0, 1, 2]])
    got = Overlaps.of(matrices).value(weights)
    for value, often in zip(got, weights, strict=True):
        assert value == pytest.approx(Overlaps.of([matrices[i] for i in np.repeat(np.arange(5), often)]).value()[0])


def test_other_shapes_and_values_are_refused():
    with pytest.raises(ValueError, match="guess of"):
        confusion(np.zeros((2, 2)), np.zeros((2, 3)), 2)
    with pytest.raises(ValueError, match="none of 2"):
        confusion(np.full((1, 1), 2), np.zeros((1, 1)), 2)
    assert confusion(np.zeros((2, 2)), np.full((2, 2), IGNORED), 3).sum() == 0
