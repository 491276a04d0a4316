"""Spoken digits, one speaker left out: did pretraining on the other five help with the sixth?

    python benchmarks/spoken_digits.py [--methods simclr,mae] [--minutes 5] [--work FOLDER]

fsdd: 3,000 clips of six speakers.  For each method and each speaker a run on the other five (`pretrain --leave-out`), on one thread, so that its minutes are CPU
minutes; then `evaluate --split leave-one-out --group speaker` with 1, 5, 10 and all labels a class, ten draws, beside controls that are tuned as carefully: log-mel
energies in eight stretches of time, their mean and deviation, random filters, the same network untrained, and trained on the labels alone.  Differences are paired by speaker.
The official split (takes 0 to 4 of every speaker) stands beside in every cell, with what it claims.  A cell of benchmarks/results/spoken_digits.json is a method;
the command goes on where it was cut off, pretraining by pretraining.
"""

import argparse
import json
import os
import time
from pathlib import Path

from record import Results, shared

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
METHODS = (
    "simclr",
    "byol",
    "vicreg",
    "mae",
    "data2vec",
    "best-rq",
    "cola",
    "byol-a",
    "apc",
    "cpc",
    "wav2vec2",
    "hubert",
)
BUDGETS = (1, 5, 10)
CONTROLS = ("raw", "log-mel", "random-filters", "untrained")
"""The frozen ones: the best of them is what a method has to beat."""


def pretrained(method: str, speaker: str, minutes: float, work: Path) -> Path:
    """A run on the other five speakers; taken where it is there, gone on with where it was cut off."""
    from selftaught import train
    from selftaught.cli.screen import listener

    out = work / f"{method}-{minutes:g}min-without-{speaker}"
    ears = listener(quiet=False)
    if (out / "config.toml").exists():
        return Path(train.resume(out, listener=ears))
    begun = time.process_time()
    done = train.pretrain(str(shared("fsdd")), method=method, minutes=minutes, leave_out=f"speaker={speaker}", out=out, overwrite=out.exists(), listener=ears)  # fmt: skip
    (out / "cpu.json").write_text(json.dumps({"cpu_minutes": round((time.process_time() - begun) / 60, 2)}))
    return Path(done)


def measured(runs: list[Path], seeds: int) -> dict:
    """What `evaluate` says, and the figures that are asked for: the gain over the best control, and in how many speakers."""
    from selftaught.cli.screen import listener
    from selftaught.evaluation import evaluate

    found = evaluate(
        [str(r) for r in runs], str(shared("fsdd")), labels="label", split="leave-one-out", group="speaker", budgets=BUDGETS, draws=10, seeds=seeds,
        controls=("blind", "scratch", *CONTROLS), listener=listener(quiet=False),
    )  # fmt: skip
    keep = [r for r in found["rows"] if r["probe"] != "knn"]
    return {
        "rows": keep, "differences": [d for d in found["differences"] if d["probe"] != "knn"], "by_rows": found["by_rows"], "verdict": found["verdict"],
        "folds": [c for c in found["folds"] if c["probe"] != "knn"], "leakage": {k: found["leakage"][k] for k in ("exact", "near", "seen_in_pretraining")},
        "over_best": {str(b): over_best(found, b) for b in (*BUDGETS, "all")},
    }  # fmt: skip


def over_best(found: dict, budget) -> dict:
    """The paired difference from the best of the frozen controls (by its mean on the same speakers), and the speakers that gain."""
    scored = {
        r["features"]: r["mean"] for r in found["rows"] if (r["probe"], r["labels_per_class"]) == ("linear", budget)
    }
    best = max(CONTROLS, key=lambda name: scored[name])
    (gap,) = [
        d for d in found["differences"] if (d["b"], d["probe"], d["labels_per_class"]) == (best, "linear", budget)
    ]
    by = {name: {c["fold"]: c["mean"] for c in found["folds"] if (c["features"], c["probe"], c["labels_per_class"]) == (name, "linear", budget)} for name in ("pretrained", best)}  # fmt: skip
    gained = sum(by["pretrained"][s] > by[best][s] for s in by[best])
    return {"control": best, **{k: gap[k] for k in ("mean", "low", "high")}, "gained": gained, "of": len(by[best])}


def main() -> None:
    import torch

    from selftaught import methods

    parser = argparse.ArgumentParser()
    parser.add_argument("--methods")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each pretraining, on one thread; at most 15")
    parser.add_argument("--seeds", type=int, default=3, help="untrained networks")
    parser.add_argument("--work", type=Path, default=Path(os.path.expanduser("~/.cache/selftaught-benchmarks/digits")))
    parser.add_argument("--name", default="spoken_digits", help="of the result file")
    args = parser.parse_args()
    if not 0 < args.minutes <= 15:
        parser.error("the budget is at most 15 minutes")
    torch.set_num_threads(1)
    asked = args.methods.split(",") if args.methods else [m for m in METHODS if m in methods.names()]
    results = Results(args.name, data="fsdd, one of six speakers left out", minutes=args.minutes, seeds=args.seeds)
    for method in asked:
        if results.has(method):
            continue
        runs = [pretrained(method, speaker, args.minutes, args.work) for speaker in SPEAKERS]
        spent = [json.loads((r / "cpu.json").read_text())["cpu_minutes"] for r in runs if (r / "cpu.json").is_file()]
        results.put(method, minutes=args.minutes, cpu_minutes=spent, **measured(runs, args.seeds))
        print(method, json.dumps(results.cells[method]["over_best"], indent=1), flush=True)


if __name__ == "__main__":
    main()
