"""Does a closed-form start help a gradient method?  SimCLR with a stem that starts at random, as whitened principal directions, or as whitened patches.

    python benchmarks/closed_form_start.py [--rows 10000] [--steps 400] [--seeds 0,1,2] [--starts random,principal,atoms] [--methods simclr]

A cell is a method x start x seed x rows x steps, written as it comes, so that the command goes on where it was cut off.  CIFAR-10's training pictures alone:
the first `rows` to train on and as bank, rows 45,000 to 47,000 to be told (kNN: cosine, k = 20, T = 0.07); the test pictures take no part.  Equal steps, so that the
load of the machine takes no part either.  Differences are paired by seed.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from cifar10_cpu import knn, pictures
from record import Results

STARTS = ("random", "principal", "atoms")


def cell(method: str, start: str, seed: int, steps: int, rows: int, images: np.ndarray, labels: np.ndarray) -> dict:
    """One run and its kNN on validation rows; `steps` 0 is the untrained network."""
    from selftaught import train
    from selftaught.evaluation import embed
    from selftaught.modalities import open_data

    with tempfile.TemporaryDirectory() as place:
        done = train.pretrain(
            images[:rows], method=method, encoder="resnet-small", encoder_options={"start": start}, steps=steps, seed=seed,
            out=Path(place) / "run",
        )  # fmt: skip
        bank, told = (embed(done.encoder(), open_data(x)) for x in (images[:rows], images[45_000:47_000]))
    return {"knn": knn(bank, labels[:rows], told, labels[45_000:47_000]), "seconds": done.result["seconds"]}


def said(results: Results, method: str, steps: int, rows: int) -> list[str]:
    """Mean of each start, and its difference from a random one with a t-interval over the seeds that both have."""
    from scipy.stats import t

    name = lambda start, seed: f"{method}, {start}, {rows} rows, {steps} steps, seed {seed}"  # noqa: E731
    found = {s: {n: results.cells[name(s, n)]["knn"] for n in range(100) if results.has(name(s, n))} for s in STARTS}
    out = []
    for start, scores in found.items():
        if not scores:
            continue
        text = f"{method} {steps} steps {start}: {100 * np.mean(list(scores.values())):.1f} % ({len(scores)} seeds)"
        pairs = [100 * (v - found["random"][n]) for n, v in scores.items() if n in found["random"]]
        if start != "random" and len(pairs) > 1:
            half = t.ppf(0.975, len(pairs) - 1) * np.std(pairs, ddof=1) / len(pairs) ** 0.5
            text += (
                f", {np.mean(pairs):+.1f} [{np.mean(pairs) - half:+.1f}, {np.mean(pairs) + half:+.1f}] against random"
            )
        out.append(text)
    return out


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--starts", default=",".join(STARTS))
    parser.add_argument("--methods", default="simclr")
    args = parser.parse_args()
    results = Results(
        "closed_form_start", data="CIFAR-10, JPEG copies, training pictures alone", knn="cosine, k = 20, T = 0.07"
    )
    images, labels = pictures()["train"]
    for seed in map(int, args.seeds.split(",")):
        for method in args.methods.split(","):
            for start in args.starts.split(","):
                for steps in (0, args.steps):
                    name = f"{method}, {start}, {args.rows} rows, {steps} steps, seed {seed}"
                    if not results.has(name):
                        results.put(name, **cell(method, start, seed, steps, args.rows, images, labels))
                        print(name, results.cells[name]["knn"], flush=True)
    for method in args.methods.split(","):
        for steps in (0, args.steps):
            print(*said(results, method, steps, args.rows), sep="\n")


if __name__ == "__main__":
    main()
