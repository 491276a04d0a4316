import itertools

import numpy as np
import pytest
import torch

from selftaught import measures
from selftaught.core import random


def noise(rows: int, width: int, key: int = 0) -> np.ndarray:
    return random.normal(key, torch.arange(rows), (width,)).numpy()


def test_matching_is_the_best_of_all_permutations():
    clusters = random.integers(1, torch.arange(60), 4).numpy()
    labels = random.integers(2, torch.arange(60), 4).numpy()
    best = max((np.array(p)[clusters] == labels).mean() for p in itertools.permutations(range(4)))
    assert measures.agreement(clusters, labels)["accuracy"] == pytest.approx(best)


def test_renamed_clusters_agree_perfectly():
    labels = np.repeat([3, 7, 40], 10)  # classes need not be 0..K-1
    clusters = np.repeat([2, 0, 1], 10)
    assert measures.agreement(clusters, labels) == {
        "accuracy": 1.0,
        "nmi": pytest.approx(1.0),
        "ari": pytest.approx(1.0),
    }
    assert np.array_equal(measures.matching(clusters, labels), labels)


def test_one_cluster_says_nothing_and_spare_clusters_match_none():
    labels = np.repeat([0, 1], 10)
    one = measures.agreement(np.zeros(20, int), labels)
    assert one["accuracy"] == 0.5
    assert one["nmi"] == pytest.approx(0)
    assert one["ari"] == pytest.approx(0)
    spare = measures.matching(np.repeat([0, 1, 2], [10, 6, 4]), labels)
    assert np.array_equal(spare, np.repeat([0, 1, -1], [10, 6, 4]))


def test_kmeans_finds_planted_clusters_and_repeats_itself():
    labels = np.arange(90) % 3
    features = noise(90, 5) * 0.2 + 3 * noise(3, 5, 9)[labels]
    clusters = measures.kmeans(features, 3, seed=4)
    assert measures.agreement(clusters, labels)["accuracy"] == 1.0
    assert np.array_equal(clusters, measures.kmeans(features, 3, seed=4))


def test_kmeans_of_equal_rows_and_of_too_few():
    assert set(measures.kmeans(np.ones((6, 2)), 3)) == {0}
    with pytest.raises(ValueError, match="5 clusters asked of 4 rows"):
        measures.kmeans(noise(4, 2), 5)


def test_calibration_error_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.35, 0.65], [0.55, 0.45]])
    labels = np.array([0, 1, 1, 1])
    # Bins of width 0.1: at 0.9 half are right (gap 0.4 x 2 rows), at 0.65 all (0.35), at 0.55 none (0.55).
    assert measures.calibration_error(p, labels, bins=10) == pytest.approx((2 * 0.4 + 0.35 + 0.55) / 4)


def test_temperature_calms_over_confident_logits():
    true = 1.5 * noise(4000, 5)
    cumulative = measures.probabilities(true).cumsum(1)
    labels = (cumulative < random.uniform(3, torch.arange(4000)).numpy()[:, None]).sum(1).clip(max=4)
    temperature = measures.fit_temperature(4 * true, labels)
    assert temperature == pytest.approx(4.0, rel=0.1)
    before = measures.calibration_error(measures.probabilities(4 * true), labels)
    after = measures.calibration_error(measures.probabilities(4 * true, temperature), labels)
    assert after < 0.03 < 0.2 < before
    assert np.array_equal(measures.probabilities(true, temperature).argmax(1), true.argmax(1))


def test_temperature_stays_bounded_where_everything_is_right():
    logits = 10 * np.eye(3)
    assert 0.05 <= measures.fit_temperature(logits, np.arange(3)) <= 20


def test_spherical_kmeans_finds_directions_whatever_the_lengths():
    centres = torch.nn.functional.normalize(random.normal(5, torch.arange(4), (12,)), dim=1)
    labels = torch.arange(200) % 4
    lengths = 0.1 + 10 * random.uniform(7, torch.arange(200))[:, None]
    rows = lengths * (centres[labels] + 0.1 * random.normal(6, torch.arange(200), (12,)))
    centroids, clusters = measures.spherical_kmeans(rows, 4, key=0)
    assert measures.agreement(clusters.numpy(), labels.numpy())["accuracy"] == 1
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(4))
    assert (centroids @ centres.T).max(1).values.min() > 0.98
    again = measures.spherical_kmeans(rows, 4, key=0)
    assert torch.equal(centroids, again[0])
    assert torch.equal(clusters, again[1])


def test_spherical_kmeans_gives_each_row_its_most_similar_centroid():
    rows = random.normal(1, torch.arange(300), (8,))
    centroids, clusters = measures.spherical_kmeans(rows, 9, key=3)
    assert torch.equal(clusters, (torch.nn.functional.normalize(rows, dim=1) @ centroids.T).argmax(1))
    means = torch.stack([torch.nn.functional.normalize(rows, dim=1)[clusters == c].sum(0) for c in range(9)])
    fits = (torch.nn.functional.normalize(means, dim=1) * centroids).sum(1)
    assert fits.min() > 0.95, "centroids are the directions of their rows' means"


def test_spherical_kmeans_of_few_rows():
    same = torch.ones(6, 2)
    centroids, clusters = measures.spherical_kmeans(same, 2, key=0)
    assert centroids.isfinite().all()
    assert len(clusters.unique()) == 1
    with pytest.raises(ValueError, match="7 clusters asked of 6 rows"):
        measures.spherical_kmeans(same, 7, key=0)
