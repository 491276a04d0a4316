"""Seven methods beside lightly 1.6's at equal pictures seen: same small encoder, batch and crop on CIFAR-10; kNN and wall-clock.

    LIGHTLY_PYTHON=... python benchmarks/same_compute.py [--methods simclr,byol] [--seeds 0,1,2] [--examples 100000]

A cell is a method x seed and holds both runs, one after the other on the same machine; the command goes on where it was cut off.  Ours runs with its
defaults, lightly's as benchmarks/peers/lightly_methods.py says.  kNN: cosine, k = 20, T = 0.07, bank of all training pictures, last step, test pictures
choose nothing.  Both clocks hold the views, the loop and the start of the loader, not the embedding of the test.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from cifar10_cpu import accuracy, pictures
from record import ROOT, Results

METHODS = ("simclr", "byol", "simsiam", "barlow-twins", "vicreg", "nnclr", "moco-v2")
BATCH = 256


def ours(method: str, seed: int, examples: int, data) -> dict:
    from selftaught import train

    with tempfile.TemporaryDirectory() as place:
        done = train.pretrain(
            data["train"][0], method=method, seed=seed, steps=examples // BATCH, recipe={"batch": BATCH}, out=Path(place) / "run",
        )  # fmt: skip
        score = accuracy(done.encoder(), data)
    return {"seconds": done.result["seconds"], "examples": examples // BATCH * BATCH, "knn": score}


def theirs(method: str, seed: int, examples: int, folder: str) -> dict:
    python = os.environ.get("LIGHTLY_PYTHON")
    if not python:
        sys.exit(
            "set LIGHTLY_PYTHON to the python of an environment that has lightly 1.6 (and CPU_TORCHVISION, see benchmarks/peers)"
        )
    words = [
        python,
        str(ROOT / "benchmarks/peers/lightly_methods.py"),
        method,
        "--examples",
        str(examples),
        "--seed",
        str(seed),
    ]
    for name in ("images", "labels", "test-images", "test-labels"):
        words += [f"--{name}", f"{folder}/{name}.npy"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=env, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--examples", type=int, default=100_000)
    args = parser.parse_args()
    results = Results("same_compute", data="CIFAR-10, JPEG copies", batch=BATCH, knn="cosine, k = 20, T = 0.07")
    data = pictures()
    with tempfile.TemporaryDirectory() as folder:
        for split, names in (("train", ("images", "labels")), ("test", ("test-images", "test-labels"))):
            for name, held in zip(names, data[split], strict=True):
                np.save(f"{folder}/{name}.npy", held)
        for seed in map(int, args.seeds.split(",")):
            for method in args.methods.split(","):
                cell = f"{method}, {args.examples} pictures, seed {seed}"
                if not results.has(cell):
                    results.put(
                        cell,
                        ours=ours(method, seed, args.examples, data),
                        lightly=theirs(method, seed, args.examples, folder),
                    )
                    print(cell, results.cells[cell]["ours"], results.cells[cell]["lightly"], flush=True)


if __name__ == "__main__":
    main()
