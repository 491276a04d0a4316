"""CIFAR-10 on two CPU cores: kNN accuracy against wall-clock, for every method, beside lightly.

    python benchmarks/cifar10_cpu.py [--methods simclr,sparse-manifold] [--seeds 0,1,2] [--minutes 10]
    python benchmarks/cifar10_cpu.py --lightly documented --minutes 20        (needs LIGHTLY_PYTHON, an environment with lightly 1.6)
    python benchmarks/cifar10_cpu.py --draw

A cell is a method x seed; each is written as it comes, so that the command goes on where it was cut off.  kNN: cosine, k = 20, T = 0.07, all
50,000 training pictures as bank, the 10,000 test pictures as queries, at fixed times; the clock stands still while it is measured.  Nothing is chosen on the
test pictures.  The pictures are JPEG copies of CIFAR-10: published figures do not carry over.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import ROOT, Results, peak_mb, shared

GRADIENT = ("simclr", "byol", "swav", "mae", "rotation")


def pictures() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{"train", "test"}: (N, 32, 32, 3) uint8 and labels."""
    import io

    import pyarrow.parquet as pq
    from PIL import Image

    out = {}
    for split in ("train", "test"):
        table = pq.read_table(shared("cifar10") / f"{split}.parquet")
        images = np.stack([np.asarray(Image.open(io.BytesIO(b)).convert("RGB")) for b in table["image"].to_pylist()])
        out[split] = (images, np.asarray(table["label"]))
    return out


def knn(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray, answers: np.ndarray) -> float:
    """Share of queries whose weighted vote is right."""
    import torch

    from selftaught.measures import knn_classify

    votes = knn_classify(
        torch.from_numpy(queries), torch.from_numpy(bank), torch.from_numpy(labels).long(), 10, k=20, temperature=0.07
    )
    return float((votes.argmax(1).numpy() == answers).mean())


def accuracy(encoder, data) -> float:
    from selftaught.evaluation import embed
    from selftaught.modalities import open_data

    bank, test = (embed(encoder, open_data(data[split][0])) for split in ("train", "test"))
    return knn(bank, data["train"][1], test, data["test"][1])


def gradient_cell(method: str, seed: int, minutes: float, data, marks: list[float]) -> dict:
    """One run of `minutes`, stopped at each mark, measured, and resumed: resuming is exact, so it is one run."""
    from selftaught import train
    from selftaught.train import checkpoint

    curve = []
    with tempfile.TemporaryDirectory() as place:
        out, done = Path(place) / "run", None
        for mark in marks:
            began = time.perf_counter()
            before = curve[-1]["seconds"] if curve else 0.0
            stop = (lambda: time.perf_counter() - began + before >= 60 * mark) if mark < marks[-1] else (lambda: False)  # noqa: B023
            if done is None:
                done = train.pretrain(data["train"][0], method=method, seed=seed, minutes=minutes, out=out, stop=stop)
            else:
                done = train.resume(out, data=data["train"][0], stop=stop)
            step, state = checkpoint.newest(out / "checkpoints")
            encoder = encoder_of(out, state)
            curve.append(
                {
                    "seconds": before + time.perf_counter() - began,
                    "steps": step,
                    "images": step * batch_of(out),
                    "knn": accuracy(encoder, data),
                }
            )
            print(method, seed, curve[-1], flush=True)
    return {"curve": curve, "knn": curve[-1]["knn"], "result": {k: v for k, v in done.result.items() if k != "run"}}


def encoder_of(out: Path, state: dict):
    """The encoder as it stands in a checkpoint."""
    from selftaught import nets
    from selftaught.core import config

    found = config.load(out / "config.toml")["resolved"]["encoder"]
    encoder = nets.build(found["kind"], **found["options"])
    encoder.load_state_dict(
        {k.removeprefix("encoder."): v for k, v in state["method"].items() if k.startswith("encoder.")}
    )
    return encoder


def batch_of(out: Path) -> int:
    from selftaught.core import config

    return config.load(out / "config.toml")["recipe"]["batch"]


def closed_form_cell(preset: str, data) -> dict:
    """Fit and embedding of all 60,000 pictures, in a process of its own for its peak memory."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); import cifar10_cpu; cifar10_cpu.closed_form_child({preset!r})"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def closed_form_child(preset: str) -> None:
    from selftaught import train
    from selftaught.evaluation import embed
    from selftaught.modalities import open_data

    data = pictures()
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as place:
        done = train.pretrain(
            data["train"][0], method="sparse-manifold", out=Path(place) / "run", options={"preset": preset}
        )
        fitted = time.perf_counter() - start
        encoder = done.encoder()
        bank, test = (embed(encoder, open_data(data[split][0])) for split in ("train", "test"))
        seconds, used = time.perf_counter() - start, time.process_time() - cpu
    score = knn(bank, data["train"][1], test, data["test"][1])
    figures = {
        "knn": score,
        "fit_seconds": fitted,
        "seconds": seconds,
        "cpu_seconds": used,
        "peak_mb": round(peak_mb()),
        "dimensions": bank.shape[1],
    }
    print(json.dumps(figures))


def baselines(data) -> dict:
    """The small encoder untrained (three seeds) and raw pixels."""
    import torch

    from selftaught import nets

    flat = {s: data[s][0].reshape(len(data[s][0]), -1).astype(np.float32) / 255 for s in data}
    raw = knn(flat["train"], data["train"][1], flat["test"], data["test"][1])
    scores = []
    for seed in range(3):
        torch.manual_seed(seed)
        scores.append(accuracy(nets.build("resnet-small"), data))
    return {"raw": raw, "untrained": scores}


def lightly_cell(which: str, minutes: float, data) -> dict:
    """lightly's SimCLR in its own environment: its documented setting, or ours (encoder, crop, batch, temperature)."""
    python = os.environ.get("LIGHTLY_PYTHON")
    if not python:
        sys.exit(
            "set LIGHTLY_PYTHON to the python of an environment that has lightly 1.6 (and CPU_TORCHVISION, see benchmarks/peers)"
        )
    extra = ["--net", "resnet18", "--batch", "512", "--temperature", "0.5", "--crop", "32"]
    extra += ["--every", str(minutes / 2)]  # a measurement takes a ResNet-18 six minutes
    if which == "ours":
        extra = ["--net", "ours", "--batch", "256", "--temperature", "0.1", "--crop", "24", "--every", "2"]
    with tempfile.TemporaryDirectory() as place:
        for split in data:
            np.save(f"{place}/{split}_x.npy", data[split][0])
            np.save(f"{place}/{split}_y.npy", data[split][1])
        words = [python, str(ROOT / "benchmarks/peers/lightly_simclr.py"), "knn", *extra, "--minutes", str(minutes)]
        files = ["--images", "train_x", "--labels", "train_y", "--test-images", "test_x", "--test-labels", "test_y"]
        words += [w if w.startswith("--") else f"{place}/{w}.npy" for w in files]
        done = subprocess.run(
            words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=True
        )
    curve = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {"curve": curve, "knn": curve[-1]["knn"], "settings": " ".join(extra)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", default=",".join(("sparse-manifold", *GRADIENT, "baselines")))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--lightly", choices=["documented", "ours"])
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    results = Results("cifar10_cpu", data="CIFAR-10, JPEG copies", knn="cosine, k = 20, T = 0.07")
    if args.draw:
        from cifar10_picture import draw

        draw(results)
        return
    data = pictures()
    if args.lightly:
        if not results.has(f"lightly {args.lightly}"):
            results.put(f"lightly {args.lightly}", **lightly_cell(args.lightly, args.minutes, data))
        return
    marks = sorted({m for m in (2, 5, 10, 15) if m < args.minutes} | {args.minutes})
    for method in args.methods.split(","):
        if method == "baselines":
            if not results.has(method):
                results.put(method, **baselines(data))
            continue
        if method == "sparse-manifold":
            for preset in ("quick", "full", "best"):
                if not results.has(f"{method} {preset}"):
                    results.put(f"{method} {preset}", **closed_form_cell(preset, data))
                    print(method, preset, results.cells[f"{method} {preset}"], flush=True)
            continue
        for seed in map(int, args.seeds.split(",")):
            cell = f"{method} {args.minutes:g} min, seed {seed}"
            if not results.has(cell):
                results.put(cell, **gradient_cell(method, seed, args.minutes, data, marks))


if __name__ == "__main__":
    main()
