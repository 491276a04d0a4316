"""Ten instruments, 200 clips to learn from and 100 to test on: far fewer than pretraining from scratch is known to need.

    python benchmarks/instruments.py [--methods simclr,mae] [--minutes 2] [--work FOLDER]

Made of `selftaught compare`, all methods in one contest folder: the same few-label choice, test clips and controls for all, three seeds.  Where a control wins, the
sentence of the last cell says so.  A cell of benchmarks/results/instruments.json is a method or a control.
"""

import argparse
import os
from pathlib import Path

from record import Results, shared

SEEDS, BUDGET = 3, 5


def names() -> list[str]:
    """Methods that sounds can carry, in alphabetical order, without those that need a teacher or others named."""
    from selftaught import methods
    from selftaught.modalities import find

    unfit = ("distil", "together", "hybrid")
    return [n for n in methods.names() if methods.fits(methods.find(n), find("sound")) is None and n not in unfit]


def entered(results: Results, found: dict, methods: list[str], prefix: str = "") -> None:
    """Writes the cells of a comparison: each method with its paired differences, each control, and the advice."""
    for arm in dict.fromkeys(r["features"] for r in found["rows"]):
        trials = [c for c in found["choice"] if c["arm"] == arm and "mean" in c]
        rows = [{k: v for k, v in r.items() if k not in ("features", "method")} for r in found["rows"] if r["features"] == arm]  # fmt: skip
        more: dict = {"keeps": [k for k in found.get("keeps", []) if k["features"] == arm]}
        if arm in methods:
            more |= {"differences": [d for d in found["differences"] if d["a"] == arm]}
            more |= {k: [c[k] for c in trials] for k in ("seconds", "steps", "examples", "alarms")}
        results.put(f"{prefix}{arm}", rows=rows, few=[c["mean"] for c in trials], **more)
    results.put(f"{prefix}advice", **found["recommendation"])


def main() -> None:
    from selftaught.cli.screen import listener
    from selftaught.evaluation import compare

    parser = argparse.ArgumentParser()
    parser.add_argument("--methods")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--work", type=Path, default=Path(os.path.expanduser("~/.cache/selftaught-benchmarks/instruments"))
    )
    parser.add_argument("--name", default="instruments", help="of the result file")
    args = parser.parse_args()
    asked = args.methods.split(",") if args.methods else names()
    results = Results(args.name, labels_per_class=BUDGET, minutes=args.minutes, seeds=args.seeds)
    found = compare(
        str(shared("instruments") / "train.parquet"), test=str(shared("instruments") / "test.parquet"), labels="label", methods=asked, minutes=args.minutes,
        seeds=args.seeds, budgets=(BUDGET,), all_labels=True, whole=True, out=args.work, listener=listener(quiet=False),
    )  # fmt: skip
    entered(results, found, asked)
    print(found["recommendation"]["sentence"])


if __name__ == "__main__":
    main()
