"""Is the verdict calibrated?  40 sets on which pretraining cannot help, and ten on which it does.

    python benchmarks/verdict_calibration.py [--only null|planted] [--limit N]

Null sets (ten of each): noise pictures with random labels after SimCLR; noise series with random labels after masked-token; pictures
of known factors with random labels after rotation; and the same pictures with their true labels, where the "pretrained" network is
one more untrained network.  Planted sets: handwritten digits as they are, and anywhere on a larger canvas, after the sparse manifold
transform.  Every pretraining is real, if tiny; test rows are never among the pretraining rows.  At most five of the 40 may be
called helped, and at least eight of the ten must be.  A cell is a set; each is written as it comes, so the command goes on where
it was cut off.  About five minutes on two cores.
"""

import argparse
import tempfile
import time
from collections.abc import Callable

import numpy as np
from record import Results, commit, machine

TRAIN, TEST, CLASSES, BUDGET = 300, 200, 4, 5


def noise_pictures(seed: int):
    from selftaught.modalities import find

    rng = np.random.default_rng([seed, 1])
    pixels = rng.integers(0, 256, (TRAIN + TEST, 12, 12, 3)).astype(np.uint8)
    return pixels, rng.integers(0, CLASSES, TRAIN + TEST), find("image")(side=12), {"method": "simclr"}


def noise_series(seed: int):
    from selftaught.modalities import find

    rng = np.random.default_rng([seed, 2])
    rows = list(rng.normal(size=(TRAIN + TEST, 2, 32)).astype(np.float32))
    return rows, rng.integers(0, CLASSES, TRAIN + TEST), find("series"), {"method": "masked-token"}


def known_pictures(seed: int):
    from selftaught.modalities import find

    pixels, factors = find("image").toy(TRAIN + TEST, seed)
    return np.stack(pixels)[:, ::2, ::2], factors, find("image")(side=16)


def pictures_without_meaning(seed: int):
    pixels, _, image = known_pictures(seed)
    return pixels, np.random.default_rng([seed, 3]).integers(0, CLASSES, len(pixels)), image, {"method": "rotation"}


def pictures_never_looked_at(seed: int):
    pixels, factors, image = known_pictures(seed)
    return pixels, factors["shape"], image, {"method": "rotation", "steps": 0}


def planted_digits(seed: int):
    from sklearn.datasets import load_digits

    from selftaught.modalities import find

    digits = load_digits()
    some = np.random.default_rng([seed, 4]).permutation(len(digits.target))[:900]
    pixels = (digits.images[some] * (255 / 16)).round().astype(np.uint8)[..., None]
    image = find("image")(side=8, channels=1, mean=(0.3,), std=(0.37,))
    return pixels, digits.target[some], image, {"method": "sparse-manifold"}


def planted_shifts(seed: int):
    """The digits anywhere on a larger canvas, with a little noise: pixels say little, neighbourhoods do."""
    from selftaught.modalities import find

    digits, labels, _, settings = planted_digits(seed + 100)
    rng = np.random.default_rng([seed, 5])
    canvas = rng.normal(0, 10, (len(digits), 12, 12, 1))
    for row, digit, (top, left) in zip(canvas, digits, rng.integers(1, 4, (len(digits), 2)), strict=True):
        row[top : top + 8, left : left + 8] += digit
    image = find("image")(side=12, channels=1, mean=(0.14,), std=(0.29,))
    return canvas.clip(0, 255).astype(np.uint8), labels, image, settings


NULL: dict[str, Callable] = {
    "noise pictures": noise_pictures,
    "noise series": noise_series,
    "random labels": pictures_without_meaning,
    "untrained": pictures_never_looked_at,
}
PLANTED: dict[str, Callable] = {"digits": planted_digits, "shifted digits": planted_shifts}


def measure(make: Callable, seed: int) -> dict:
    """One set: a real pretraining on the training rows, and the verdict on the test rows."""
    import selftaught as st
    from selftaught.data import Dataset

    rows, labels, modality, settings = make(seed)
    began = time.perf_counter()
    if isinstance(modality, type):  # settings are measured on the training rows, as `open_data` does
        whole = st.open_data(rows[: len(rows) - TEST])
        modality = whole.modality
    names = [f"class {v}" for v in labels]
    train = Dataset.from_arrays(rows[: len(rows) - TEST], modality, labels=names[:-TEST])
    test = Dataset.from_arrays(rows[len(rows) - TEST :], modality, labels=names[-TEST:])
    gradient = {} if settings["method"] == "sparse-manifold" else {"steps": 12, "recipe": {"batch": 64}}
    with tempfile.TemporaryDirectory() as folder:
        run = st.pretrain(train, out=f"{folder}/run", seed=seed, **{**gradient, **settings})
        found = st.evaluate(
            run, train, test=test, labels="label", budgets=[BUDGET], seeds=3, seed=seed, controls=("raw", "untrained")
        )
    first = found["differences"][0]
    return {
        "answer": found["verdict"]["answer"], "control": first["b"], "difference": first["mean"], "low": first["low"],
        "high": first["high"], "seed": seed, "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--only", choices=("null", "planted"))
    asked.add_argument("--limit", type=int, help="stop after so many sets")
    arguments = asked.parse_args()
    results = Results("verdict_calibration", rows=TRAIN, test=TEST, labels_per_class=BUDGET)
    cells = [("null", kind, make, seed) for seed in range(10) for kind, make in NULL.items()]
    cells += [("planted", kind, make, seed) for seed in range(5) for kind, make in PLANTED.items()]
    cells = [c for c in cells if arguments.only in (None, c[0]) and not results.has(f"{c[0]}: {c[1]}, seed {c[3]}")]
    for group, kind, make, seed in cells[: arguments.limit]:
        name = f"{group}: {kind}, seed {seed}"
        figures = measure(make, seed)
        results.put(name, **figures)
        print(f"{name}: {figures['answer']} ({figures['difference']:+.3f}, {figures['seconds']} s)", flush=True)
    summarise(results)


def summarise(results: Results) -> None:
    """Counts over all sets that are there; written once all 50 are."""
    answers = {g: [c["answer"] for n, c in results.cells.items() if n.startswith(f"{g}:")] for g in ("null", "planted")}
    counts = {
        f"{g}_{a.replace(' ', '_')}": found.count(a)
        for g, found in answers.items()
        for a in ("helped", "hurt", "cannot tell")
    }
    summary = {"null": len(answers["null"]), "planted": len(answers["planted"]), **counts}
    print(summary)
    if (summary["null"], summary["planted"]) == (40, 10):
        results.cells["summary"] = {**summary, "commit": commit(), "machine": machine()}
        results.save()


if __name__ == "__main__":
    main()
