"""Every image method for the same wall-clock on two CPU cores: CIFAR-10, then Fashion-MNIST, three seeds, beside untrained and raw.

    python benchmarks/methods.py [--methods simclr,dino] [--data cifar10] [--minutes 2] [--work FOLDER]

Made of `selftaught compare`: a call a method, all in one contest folder a data set, so that splits, few-label draws and controls are the same for all.  A cell of
benchmarks/results/methods.json is a method (three seeds) or a control; the command goes on where it was cut off, in the contest's folder within a method and
in the result file between methods, and Fashion-MNIST begins when every method has its CIFAR-10 cell.  Nothing is chosen on test pictures: each method runs
with its defaults.  `docs/methods/measured.md` is generated from the file.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from cifar10_cpu import pictures
from record import Results, shared

DATA = ("cifar10", "fashion-mnist")
SEEDS, BUDGET = 3, 10
UNFIT = ("masked-token", "next-token", "hybrid", "simcse", "distil", "together")
"""Not in the field: text's own, and what needs a teacher or other methods named."""


def names() -> list[str]:
    """Methods that pictures can carry, the quick and the strong first."""
    from selftaught import methods
    from selftaught.modalities import find

    fit = [n for n in methods.names() if methods.fits(methods.find(n), find("image")) is None and n not in UNFIT]
    first = ["sparse-manifold", "simclr", "rotation"]
    return first + [n for n in fit if n not in first]


def arrays(name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{"train", "test"}: pictures and labels."""
    if name == "cifar10":
        return pictures()
    import pyarrow.parquet as pq

    out = {}
    for split in ("train", "test"):
        table = pq.read_table(shared(name) / f"{split}.parquet")
        images = np.stack([np.frombuffer(b, np.uint8).reshape(28, 28) for b in table["image"].to_pylist()])
        out[split] = (images, np.asarray(table["label"]))
    return out


def datasets(name: str) -> dict:
    from selftaught.data import Dataset
    from selftaught.modalities import open_data

    found = arrays(name)
    modality = open_data(found["train"][0]).modality
    return {split: Dataset.from_arrays(x, modality, labels=y.astype(str)) for split, (x, y) in found.items()}


def run(name: str, method: str, sets: dict, minutes: float, work: Path, results: Results) -> None:
    """One method's cell, and those of the controls that are not there yet."""
    from selftaught.cli.screen import listener
    from selftaught.evaluation import compare

    found = compare(
        sets["train"], test=sets["test"], labels="label", methods=[method], minutes=minutes, seeds=SEEDS, budgets=(BUDGET,), all_labels=True,
        whole=True, out=work / name, listener=listener(quiet=False),
    )  # fmt: skip
    trials = [c for c in found["choice"] if c["arm"] == method and c["budget"] == minutes]
    failed = [c["failed"] for c in trials if "failed" in c]
    if failed:
        raise SystemExit(f"{method}: {failed[0]}")
    kind = trials[0]["encoder"]
    for arm in dict.fromkeys(r["features"] for r in found["rows"]):
        shown = f"untrained {kind}" if arm == "untrained" and kind != "patch-code" else arm
        cell = f"{name} {shown}"
        rows = [
            {k: v for k, v in r.items() if k not in ("features", "method", "layer")}
            for r in found["rows"]
            if r["features"] == arm
        ]
        if arm == method:
            gaps = [d for d in found["differences"] if d["a"] == method]
            more = {k: [c[k] for c in trials] for k in ("seconds", "steps", "examples", "alarms")}
            results.put(cell, rows=rows, differences=gaps, encoder=kind, minutes=minutes, **more)
        elif not results.has(cell):
            results.put(cell, rows=rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--methods")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--work", default=os.path.expanduser("~/.cache/selftaught-benchmarks/methods"))
    args = parser.parse_args()
    results = Results("methods", labels_per_class=BUDGET, minutes=args.minutes, seeds=SEEDS)
    asked = args.methods.split(",") if args.methods else names()
    for name in args.data.split(","):
        left = [m for m in asked if not results.has(f"{name} {m}")]
        sets = datasets(name) if left else {}
        for method in left:
            run(name, method, sets, args.minutes, Path(args.work), results)
            print(name, method, [r["mean"] for r in results.cells[f"{name} {method}"]["rows"]], flush=True)


if __name__ == "__main__":
    main()
