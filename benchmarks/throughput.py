"""Views and training speed beside lightly and beside a bare loop: medians of alternating repeats, as ratios.

    python benchmarks/throughput.py [--repeats 5]        (needs LIGHTLY_PYTHON for lightly's column)

Same encoder, batch, crop (24 pixels) and precision.  `ours`: the product's own loop, seconds between steps from its metrics, of the last part of the
run, where its crops have grown to 24 pixels; `bare`: forward, backward and optimiser on views of 24 pixels made beforehand, no loop around them;
`lightly`: its SimCLR views, loader with two workers, head and loss.  The first steps of each are not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import ROOT, Results, peak_mb

NETS = {
    "resnet-small": ("ours", 256, 12),
    "resnet18": ("resnet18", 64, 8),
}  # peer's name, batch, steps that are counted
CROP, SKIP, LATE = 24, 3, 0.6  # from LATE of a run on, crops have their full side


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4096, 32, 32, 3), dtype=np.uint8)


def ours(net: str, batch: int, steps: int) -> list[float]:
    """Seconds of each step of `pretrain`."""
    from selftaught import train

    with tempfile.TemporaryDirectory() as place:
        done = train.pretrain(
            images(), method="simclr", encoder=net, steps=round((steps + SKIP) / (1 - LATE)), recipe={"batch": batch},
            out=Path(place) / "run",
        )  # fmt: skip
        seconds = [row["seconds"] for row in done.run.metrics()]
    return list(np.diff(seconds)[-steps - SKIP :])


def bare(net: str, batch: int, steps: int) -> list[float]:
    """Forward, backward and optimiser alone, on views made beforehand."""
    import torch

    from selftaught import methods, modalities
    from selftaught.core import Facts
    from selftaught.train import optimizers
    from selftaught.train.step import make_batch

    data = modalities.open_data(images())
    facts = Facts(rows=len(data), modality=data.modality, batch=batch)
    encoder = data.modality.encoder(facts, frozenset(), net)
    method = methods.find("simclr")().setup(encoder, facts).to(memory_format=torch.channels_last)
    optimizer = optimizers.make(method, method.defaults(facts))
    specs, index = method.views(facts), torch.arange(batch)
    made = make_batch(specs, {"one": data.fetch(index)}, index, seed=0, step=0, progress=1.0)
    assert made.views[0]["pixels"].shape[-1] == CROP
    times = []
    for _ in range(steps + SKIP):
        start = time.perf_counter()
        method(made)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    return times


def lightly(net: str, batch: int, steps: int) -> dict:
    python = os.environ["LIGHTLY_PYTHON"]
    with tempfile.TemporaryDirectory() as place:
        np.save(f"{place}/x.npy", images())
        words = [
            python,
            str(ROOT / "benchmarks/peers/lightly_simclr.py"),
            "speed",
            "--net",
            net,
            "--batch",
            str(batch),
            "--crop",
            str(CROP),
        ]
        words += ["--images", f"{place}/x.npy", "--steps", str(steps + SKIP)]
        done = subprocess.run(
            words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def child(way: str, net: str) -> dict:
    """One measurement in a process of its own, for its peak memory."""
    words = [sys.executable, __file__, "--child", way, "--net", net]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", choices=["ours", "bare"])
    parser.add_argument("--net", choices=sorted(NETS))
    args = parser.parse_args()
    if args.child:
        _, batch, steps = NETS[args.net]
        times = {"ours": ours, "bare": bare}[args.child](args.net, batch, steps)
        print(json.dumps({"seconds": times, "batch": batch, "peak_mb": round(peak_mb())}))
        return
    results = Results("throughput", repeats=args.repeats, skipped_steps=SKIP)
    for net, (peer, batch, steps) in NETS.items():
        if results.has(net):
            continue
        rates: dict[str, list[float]] = {"ours": [], "bare": [], "lightly": []}
        peaks: dict[str, float] = {}
        for _ in range(args.repeats):
            for way in rates:
                if way == "lightly" and "LIGHTLY_PYTHON" not in os.environ:
                    continue
                found = lightly(peer, batch, steps) if way == "lightly" else child(way, net)
                rates[way].append(batch / statistics.median(found["seconds"][SKIP:]))
                peaks[way] = max(peaks.get(way, 0.0), found["peak_mb"])
                print(net, way, f"{rates[way][-1]:.0f} images/s", flush=True)
        median = {way: statistics.median(values) for way, values in rates.items() if values}
        ratios = {f"ours / {way}": median["ours"] / value for way, value in median.items() if way != "ours"}
        results.put(net, batch=batch, crop=CROP, images_per_second=rates, median=median, ratios=ratios, peak_mb=peaks)
        print(net, ratios, flush=True)


if __name__ == "__main__":
    main()
