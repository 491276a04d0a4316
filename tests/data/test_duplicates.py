"""Duplicates: planted copies are found, pictures that are none are left alone."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from selftaught.data import (
    Dataset,
    Pairs,
    alignment,
    clusters,
    count_duplicates,
    exact_between,
    exact_duplicates,
    near_duplicates,
    near_pictures,
    near_texts,
    picture_verifier,
    split,
    thumbnails,
)
from selftaught.data.shingles import near_rows
from selftaught.data.store import to_ragged
from tests.shared import data_folder

from .generated import cropped, pictures, planted
from .small import Letters, Picture, Waves, pixels

BARS = {"exact": 1.0, "re-encoded": 0.95, "mirrored": 0.95, "cropped": 0.7, "cropped and re-encoded": 0.7}


def thumbs(held: np.ndarray) -> torch.Tensor:
    return alignment.thumbnails(torch.from_numpy(np.ascontiguousarray(held.transpose(0, 3, 1, 2))))


def recall(base: np.ndarray, each: int) -> dict[str, float]:
    copies = planted(base, each)
    found = near_pictures(thumbs(np.concatenate([held for held, _ in copies.values()])), thumbs(base))
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    out = {}
    for number, (name, (_, rows)) in enumerate(copies.items()):
        out[name] = np.mean([(number * each + i, int(row)) in pairs for i, row in enumerate(rows)])
    return out


def false_alarms(base: np.ndarray) -> float:
    """Share of rows that are said to be duplicates."""
    found = near_pictures(thumbs(base))
    return len(set(found.first.tolist()) | set(found.second.tolist())) / len(base)


def test_planted_copies_of_generated_pictures_are_found_and_nothing_else():
    base = pictures(450, 48)
    found = recall(base, 40)
    assert all(found[name] >= bar for name, bar in BARS.items()), found
    assert false_alarms(base) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("side", "seed"), [(32, 5), (64, 0), (96, 7)])
def test_planted_copies_at_larger_scale(side, seed):
    base = pictures(1500, side, seed)
    found = recall(base, 150)
    assert all(found[name] >= bar for name, bar in BARS.items()), found
    assert false_alarms(base) < 0.01


@pytest.mark.slow
def test_planted_copies_of_photographs_are_found():
    table = pq.read_table(data_folder("cifar10") / "train.parquet", columns=["image"])["image"][:3000].to_pylist()
    base = np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in table])
    found = recall(base, 150)
    assert all(found[name] >= bar for name, bar in BARS.items()), found
    assert false_alarms(base) < 0.01


def test_candidates_of_an_encoder_are_verified_by_alignment():
    base = pictures(60, 48, seed=3)
    rng = np.random.default_rng(0)
    copies = np.stack([cropped(base[i], rng, 0.8) for i in range(0, 60, 3)])
    copies[1::2] = copies[1::2, :, ::-1]
    noisy = np.random.default_rng(1).normal(size=(80, 8))  # features that say nothing: everything is a candidate
    a, b = thumbs(copies), thumbs(base)
    found = near_duplicates(noisy[:20], noisy[20:], k=60, threshold=-1.0, verify=picture_verifier(a, b))
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs <= {(i, 3 * i) for i in range(20)}
    assert len(pairs) >= 18
    assert (alignment.same_picture(b, a, np.stack([found.second, found.first], 1)) > 0.5).all()


def test_near_duplicates_by_features_alone():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 32))
    copies = features[:20] + 0.05 * rng.normal(size=(20, 32))
    found = near_duplicates(np.concatenate([features, copies]), threshold=0.95)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(i, 300 + i) for i in range(20)]
    between = near_duplicates(copies, features, threshold=0.95)
    assert between.second.tolist() == list(range(20))
    cosine = (copies * features[:20]).sum(1) / np.linalg.norm(copies, axis=1) / np.linalg.norm(features[:20], axis=1)
    np.testing.assert_allclose(between.score, cosine, rtol=1e-5)


def test_exact_duplicates_are_rows_equal_as_stored():
    held = pixels(20)
    rows = np.concatenate([held, held[[3, 3, 7]]])
    found = exact_duplicates(Dataset.from_arrays(rows, Picture()))
    assert found[3] == found[20] == found[21]
    assert found[7] == found[22]
    assert len(set(found.tolist())) == 20
    pairs = exact_between(Dataset.from_arrays(rows[18:], Picture()), Dataset.from_arrays(held[:10], Picture()))
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(2, 3), (3, 3), (4, 7)]
    texts = Dataset.from_arrays(["one text", "another text", "one text"], Letters())
    assert exact_duplicates(texts).tolist()[0] == exact_duplicates(texts).tolist()[2]


def test_clusters_join_pairs_and_keep_splits_clean():
    pairs = Pairs(np.array([0, 1, 5]), np.array([1, 2, 6]), np.ones(3, np.float32))
    found = clusters(100, pairs)
    assert found[0] == found[1] == found[2]
    assert found[5] == found[6]
    assert len(set(found.tolist())) == 97
    parts = split(100, duplicates=found)
    where = {row: name for name, rows in parts.items() for row in rows.tolist()}
    assert where[0] == where[1] == where[2]
    assert where[5] == where[6]
    assert clusters(3).tolist() == [0, 1, 2]


def words(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(chr(97 + c) for c in rng.integers(0, 26, 6)) for _ in range(count)]


def test_near_texts_share_most_runs_of_tokens():
    texts = [" ".join(words(i, 60)) for i in range(80)]
    edited = [" ".join([*text.split()[:-2], "other", "words"]) for text in texts[:10]]
    halved = [" ".join(text.split()[:30] + words(900 + i, 30)) for i, text in enumerate(texts[10:20])]
    dataset = Dataset.from_arrays([*texts, *edited, *halved], Letters())
    found = near_texts(dataset.rows(np.arange(100)))
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(i, 80 + i) for i in range(10)]
    assert ((found.score >= 0.8) & (found.score < 1)).all()


def test_counts_for_look_leave_exact_ones_out_of_near_ones():
    base = pictures(60, 32, seed=2)
    rng = np.random.default_rng(0)
    crops = np.stack([cropped(base[i], rng, 0.8) for i in range(1, 31, 3)])
    rows = np.concatenate([base, base[:5], crops])
    counted = count_duplicates(Dataset.from_arrays(rows, Picture(32)))
    assert counted.exact == 5
    assert 9 <= counted.near <= 10
    assert counted.asked == 70
    waves = count_duplicates(Dataset.from_arrays([np.arange(5.0), np.arange(5.0), np.arange(6.0)], Waves()))
    assert (waves.exact, waves.near) == (1, None)


def test_thumbnails_of_grey_small_and_large_pictures():
    grey = torch.arange(4 * 64 * 64).reshape(4, 1, 64, 64).remainder(256).to(torch.uint8)
    found = alignment.thumbnails(grey)
    assert found.shape == (4, 3, 32, 32)
    assert torch.equal(found[:, 0], found[:, 2])
    exact = grey.float().reshape(4, 32, 2, 32, 2).mean((2, 4)).round().to(torch.uint8)
    assert torch.equal(found[:, 0], exact)
    assert thumbnails(Dataset.from_arrays(pixels(5), Picture())).shape == (5, 3, 32, 32)


def test_shingles_equal_a_plain_computation():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 3, n) for n in (1, 2, 4, 5, 6, 12, 12, 30, 30)] + [np.empty(0, np.int64)]
    rows[6] = rows[5].copy()
    rows[8] = np.concatenate([rows[7][:-1], [9]])
    ragged = to_ragged([row.astype(np.int64) for row in rows], np.empty(0, np.int64))
    pairs, scores = near_rows(ragged, least=0.5)

    def shingles(row):
        return {tuple(row[i : i + 5]) for i in range(max(1, len(row) - 4))}

    expected = {}
    for i in range(9):
        for j in range(i + 1, 9):
            a, b = shingles(rows[i].tolist()), shingles(rows[j].tolist())
            if len(a & b) / len(a | b) >= 0.5:
                expected[i, j] = len(a & b) / len(a | b)
    assert {tuple(p): pytest.approx(s) for p, s in zip(pairs.tolist(), scores.tolist(), strict=True)} == expected


def test_tiny_pictures_are_not_judged():
    assert count_duplicates(Dataset.from_arrays(pixels(9), Picture())).near is None


def test_sets_of_one_and_two_pictures_can_be_searched():
    one = thumbs(pictures(1, 32))
    assert len(near_pictures(one)) == 0
    assert len(near_pictures(one, thumbs(pictures(1, 32, seed=8)))) == 0
    found = near_pictures(torch.cat([one, one.flip(-1)]))
    assert (found.first.tolist(), found.second.tolist()) == ([0], [1])
    assert count_duplicates(Dataset.from_arrays(pictures(2, 32), Picture(32))).near == 0
