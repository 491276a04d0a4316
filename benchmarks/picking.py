"""Does `selftaught compare` pick well?  Eight methods of four minutes each on CIFAR-10, 500 labels to choose with, beside what all labels would say.

    python benchmarks/picking.py [--seeds 0,1,2] [--minutes 4] [--methods simclr,...] [--work FOLDER]

A cell is a seed: `compare` as a user calls it (the field halved at a quarter and at a half) names a method; then the ones that it dropped get their whole time too, and
kNN with all 50,000 labels on the 10,000 test pictures, which the choice never saw, says which would have been best.  "regret" is how many points the named one stays
behind that.  The command goes on where it was cut off, within a seed in its contest's folder.
"""

import argparse
import os
from pathlib import Path

from record import Results

from methods import datasets

METHODS = ("sparse-manifold", "simclr", "barlow-twins", "byol", "rotation", "mae", "lejepa", "deepcluster-v2")
LABELS = 500


def picked(sets: dict, methods: list[str], minutes: float, seed: int, work: Path) -> dict:
    """One seed's choice and what it missed."""
    from selftaught.cli.screen import listener
    from selftaught.evaluation import compare

    asked = {
        "test": sets["test"], "labels": "label", "methods": methods, "minutes": minutes, "seed": seed, "choose_with": LABELS, "all_labels": True,
        "out": work / f"seed{seed}", "listener": listener(quiet=False),
    }  # fmt: skip
    chosen = compare(sets["train"], **asked)
    whole = compare(sets["train"], whole=True, **asked)
    full = {r["features"]: r["mean"] for r in whole["rows"] if r["probe"] == "knn" and r["labels_per_class"] == "all"}
    named = chosen["recommendation"]
    best = max(methods, key=lambda m: full[m])
    return {
        "named": named["method"], "sentence": named["sentence"], "labels": chosen["chosen_with"], "knn": full, "best": best,
        "regret": 100 * (full[best] - full[named["method"]]), "choice": chosen["choice"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--work", default=os.path.expanduser("~/.cache/selftaught-benchmarks/picking"))
    args = parser.parse_args()
    results = Results("picking", labels=LABELS, minutes=args.minutes, data="CIFAR-10, JPEG copies")
    left = [s for s in map(int, args.seeds.split(",")) if not results.has(f"seed {s}")]
    sets = datasets("cifar10") if left else {}
    for seed in left:
        results.put(f"seed {seed}", **picked(sets, args.methods.split(","), args.minutes, seed, Path(args.work)))
        print(seed, {k: results.cells[f"seed {seed}"][k] for k in ("named", "best", "regret", "knn")}, flush=True)


if __name__ == "__main__":
    main()
