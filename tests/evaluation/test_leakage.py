"""Copies of test rows: found by their coarse look too, where an encoder's features cannot see them."""

import numpy as np
import pytest

from selftaught.evaluation import leakage
from selftaught.modalities import open_data

from ..data import generated

ROWS, EACH = 400, 60


@pytest.fixture(scope="module")
def made():
    pictures = generated.pictures(2 * ROWS, 32, 5)
    return pictures[:ROWS], pictures[ROWS:]


def called(images: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Which of `images` are called copies of `base`, with features that say nothing."""
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(len(x), 16)).astype(np.float32) for x in (images, base)]
    exact, near = leakage.copies(open_data(images), noise[0], open_data(base), noise[1])
    return exact | near


@pytest.mark.parametrize(("kind", "least"), [("exact", 1.0), ("re-encoded", 0.95), ("mirrored", 0.95)])
def test_copies_are_found_whatever_the_features(made, kind, least):
    copies, _ = generated.planted(made[0], EACH)[kind]
    assert called(copies, made[0]).mean() >= least


def test_fresh_pictures_of_the_same_kind_are_no_copies(made):
    assert called(made[1], made[0]).mean() < 0.01


def test_copies_within_a_set_share_a_cluster(made):
    base = made[0][:200]
    both = np.concatenate([base, base[:20, :, ::-1]])
    found = leakage.clusters(open_data(np.ascontiguousarray(both)))
    together = found[:20] == found[200:]
    assert together.mean() >= 0.9
    assert len(np.unique(found[:200])) > 190
