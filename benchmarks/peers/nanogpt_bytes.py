"""nanoGPT's own model and loop on bytes:  python nanogpt_bytes.py NANOGPT DATA --minutes 20 --batch 12 --seed 0

NANOGPT: a checkout (model.py, train.py, configurator.py).  DATA: a folder with train.npy, test-NAME.npy (uint8 bytes of documents one after the other, byte 0
between them) and bounds-NAME.npy (the documents' begins and ends).  Runs its train.py as a process with its settings for a processor (4 layers, 4 heads, 128 wide, rate 1e-3, no
dropout, no compiling) at context 256, as many steps as fit the minutes by timing 60 steps first; prints one JSON line: the validation losses that it printed
itself, in bits, and bits per byte of every test set, each byte scored once with at least half a context before it.
"""

import argparse
import json
import math
import os
import pickle
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

CONTEXT, POINTS = 256, 10


def train(
    code: Path, place: Path, batch: int, steps: int, seed: int, interval: int
) -> tuple[list[tuple[int, float]], float]:
    """([(step, validation nats)], seconds of a step) of its train.py."""
    settings = {
        "device": "cpu", "compile": False, "eval_iters": 20, "log_interval": 10, "block_size": CONTEXT, "batch_size": batch, "n_layer": 4, "n_head": 4,
        "n_embd": 128, "max_iters": steps, "lr_decay_iters": steps, "dropout": 0.0, "learning_rate": 1e-3, "min_lr": 1e-4, "beta2": 0.99,
        "warmup_iters": min(100, steps // 10), "gradient_accumulation_steps": 1, "eval_interval": interval, "dataset": "bytes", "out_dir": str(place / "out"),
        "dtype": "float32", "always_save_checkpoint": True,
    }  # fmt: skip
    text = (
        (code / "train.py").read_text().replace("torch.manual_seed(1337 + seed_offset)", f"torch.manual_seed({seed})")
    )
    (place / "train.py").write_text(text)
    for name in ("model.py", "configurator.py"):
        (place / name).write_text((code / name).read_text())
    words = [sys.executable, "train.py", *(f"--{k}={v}" for k, v in settings.items())]
    said = subprocess.run(words, cwd=place, stdout=subprocess.PIPE, text=True, check=True).stdout
    losses = [(int(s), float(v)) for s, v in re.findall(r"step (\d+): train loss [\d.]+, val loss ([\d.]+)", said)]
    times = [float(t) for t in re.findall(r"time ([\d.]+)ms", said)][1:]
    return losses, float(np.median(times)) / 1000


@torch.no_grad()
def score(model, ids: np.ndarray, bounds: np.ndarray) -> float:
    """Bits per byte of the documents, each on its own behind a 0."""
    nats, half = 0.0, CONTEXT // 2
    for begin, end in bounds:
        document = torch.from_numpy(np.concatenate([[0], ids[begin:end]]).astype(np.int64))
        done = 0
        for first in range(0, len(document) - 1, half):
            piece = document[first : first + CONTEXT + 1]
            if first + len(piece) - 1 <= done:
                break
            logits, _ = model(piece[None, :-1], piece[None, 1:])
            loss = F.cross_entropy(logits[0], piece[1:], reduction="none")
            nats += float(loss[done - first :].double().sum())
            done = first + len(piece) - 1
    return nats / math.log(2) / int((bounds[:, 1] - bounds[:, 0]).sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("code", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "data/bytes").mkdir(parents=True)
        for split, source in (("train", "train"), ("val", "test-imdb")):
            np.load(args.data / f"{source}.npy").astype(np.uint16).tofile(place / f"data/bytes/{split}.bin")
        with open(place / "data/bytes/meta.pkl", "wb") as file:
            pickle.dump({"vocab_size": 256}, file)
        _, seconds = train(args.code, place, args.batch, 60, args.seed, 1000)
        steps = max(20, round(60 * args.minutes / seconds))
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        losses, seconds = train(args.code, place, args.batch, steps, args.seed, max(1, steps // POINTS))
        spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        sys.path.insert(0, str(place))
        from model import GPT, GPTConfig

        held = torch.load(place / "out/ckpt.pt", map_location="cpu", weights_only=False)
        model = GPT(GPTConfig(**held["model_args"]))
        model.load_state_dict(held["model"])
        model.eval()
        found = {
            path.stem.removeprefix("test-"): score(
                model, np.load(path), np.load(args.data / f"bounds-{path.stem.removeprefix('test-')}.npy")
            )
            for path in sorted(args.data.glob("test-*.npy"))
        }
    curve = [{"seconds": step * seconds, "bits": loss / math.log(2)} for step, loss in losses]
    print(json.dumps({"bits_per_byte": found, "steps": steps, "batch": args.batch, "curve": curve, "seconds": steps * seconds, "cpu_seconds": spent,
                      "whole_seconds": time.perf_counter() - began, "threads": torch.get_num_threads(), "env": os.environ.get("OMP_NUM_THREADS")}))  # fmt: skip


if __name__ == "__main__":
    main()
