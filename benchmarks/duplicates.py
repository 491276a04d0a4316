"""Copies of test rows among the training rows: planted ones found, and CIFAR-10's own, with the score without them.

    python benchmarks/duplicates.py

Candidates are looked for by the features of an encoder that was pretrained on the training rows (the sparse manifold transform, preset
quick) and verified on the pixels, as `selftaught evaluate` does it.  A cell is a set; each is written as it comes.
Planted: 1,500 generated pictures (textures, shapes, gradients) and 150 copies of each kind; false alarms are fresh pictures of the same
generators that are called copies.  CIFAR-10 (JPEG copies): about 3 % of its test pictures are known to have a near-duplicate among the
training pictures (Barz & Denzler 2020, "Do we train on test data?", arXiv:1902.00423).
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cifar10_cpu import knn, pictures
from record import ROOT, Results

sys.path.insert(0, str(ROOT))  # the generators of planted copies are the tests'
ROWS, EACH = 1500, 150


def pretrained(images: np.ndarray):
    from selftaught import train

    with tempfile.TemporaryDirectory() as place:
        done = train.pretrain(images, method="sparse-manifold", out=Path(place) / "run", options={"preset": "quick"})
        return done.encoder()


def planted_cell(side: int, seed: int) -> dict:
    """Shares of planted copies that are found, by kind, and of fresh pictures that are called copies."""
    from tests.data import generated

    from selftaught.evaluation import embed, leakage
    from selftaught.modalities import open_data

    made = generated.pictures(2 * ROWS, side, seed)
    base, fresh = made[:ROWS], made[ROWS:]
    encoder, train = pretrained(base), open_data(base)
    features = embed(encoder, train)

    def called(images: np.ndarray) -> float:
        test = open_data(images)
        exact, near = leakage.copies(test, embed(encoder, test), train, features)
        return float((exact | near).mean())

    found = {name: called(copies) for name, (copies, _) in generated.planted(base, EACH).items()}
    return {"found": found, "false_alarms": called(fresh)}


def cifar10_cell() -> dict:
    """Test pictures with a copy among the training pictures, and kNN accuracy (k = 20, T = 0.07) on all, without them, and on them."""
    from selftaught.evaluation import embed, leakage
    from selftaught.modalities import open_data

    (x, y), (test_x, test_y) = (pictures()[split] for split in ("train", "test"))
    encoder = pretrained(x)
    train, test = open_data(x), open_data(test_x)
    bank, queries = embed(encoder, train), embed(encoder, test)
    began = time.perf_counter()
    exact, near = leakage.copies(test, queries, train, bank)
    seconds = time.perf_counter() - began
    clean = ~(exact | near)
    return {
        "exact": int(exact.sum()), "near": int(near.sum()), "test_rows": len(test), "seconds": round(seconds, 1),
        "knn": knn(bank, y, queries, test_y),
        "knn_without": knn(bank, y, queries[clean], test_y[clean]),
        "knn_of_copies": knn(bank, y, queries[~clean], test_y[~clean]) if not clean.all() else None,
    }  # fmt: skip


def main() -> None:
    results = Results("duplicates", rows=ROWS, copies_of_a_kind=EACH)
    for side in (32, 64):
        for seed in (0, 1, 2):
            cell = f"planted, {side} pixels, seed {seed}"
            if not results.has(cell):
                results.put(cell, **planted_cell(side, seed))
                print(cell, results.cells[cell], flush=True)
    if not results.has("CIFAR-10"):
        results.put("CIFAR-10", **cifar10_cell())
        print("CIFAR-10", results.cells["CIFAR-10"])


if __name__ == "__main__":
    main()
