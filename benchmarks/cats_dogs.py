"""600 photographs of cats and dogs, 144 pixels: does pretraining on them help with 10 and 50 labels a class?  The verdict, whichever way it goes.

    python benchmarks/cats_dogs.py [--methods simclr,rotation,sparse-manifold] [--minutes 3] [--work FOLDER]

A cell is a method: three seeds pretrained on the 600 training photographs without their labels, then one `selftaught evaluate` of the three runs
together on the 300 test photographs, which nothing was pretrained on and which choose nothing: linear probe, kNN, and beside them raw pixels, the same network untrained
(three seeds) and the same network trained from scratch on the labels alone.  The command goes on where it was cut off.  A pretrained backbone off the shelf would be
another arm (`evaluate --shelf transformers:FOLDER`): none can be fetched here, so it is not measured.
"""

import argparse
import os
from pathlib import Path

from record import Results, shared

METHODS, SEEDS, BUDGETS = ("simclr", "rotation", "sparse-manifold"), 3, (10, 50)


def pretrained(method: str, seed: int, minutes: float, work: Path) -> Path:
    """The run of a method and seed, gone on with where it lies there unfinished."""
    from selftaught import train
    from selftaught.cli.screen import listener

    out, data = work / f"{method}-{minutes:g}min-seed{seed}", str(shared("cats-dogs") / "train.parquet")
    if (out / "config.toml").exists():
        train.resume(out, data=data, listener=listener(quiet=False))
    else:
        train.pretrain(
            data,
            method=method,
            seed=seed,
            minutes=minutes,
            out=out,
            overwrite=out.exists(),
            listener=listener(quiet=False),
        )
    return out


def main() -> None:
    from selftaught.cli.screen import listener
    from selftaught.evaluation import evaluate

    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--work", default=os.path.expanduser("~/.cache/selftaught-benchmarks/cats-dogs"))
    args = parser.parse_args()
    results = Results("cats_dogs", minutes=args.minutes, seeds=SEEDS, labels_per_class=list(BUDGETS))
    folder = shared("cats-dogs")
    for method in args.methods.split(","):
        if results.has(method):
            continue
        runs = [str(pretrained(method, seed, args.minutes, Path(args.work))) for seed in range(SEEDS)]
        found = evaluate(
            runs, str(folder / "train.parquet"), test=str(folder / "test.parquet"), labels="label", budgets=BUDGETS,
            seeds=SEEDS, listener=listener(quiet=False),
        )  # fmt: skip
        shown = {k: found[k] for k in ("rows", "differences", "verdict", "smallest_visible_difference")}
        results.put(method, **shown, near_copies=found["leakage"]["near"])
        print(method, found["verdict"]["sentence"], flush=True)


if __name__ == "__main__":
    main()
