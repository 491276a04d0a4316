"""A causal language model on IMDb's reviews for 20 CPU minutes (one core's), beside nanoGPT's model and loop on the same bytes in the same minutes.

    python benchmarks/gpt_imdb.py [--minutes 20] [--seeds 0,1,2] [--draw]        (needs NANOGPT=FOLDER, a checkout, for its rows; NANOGPT_PYTHON)

Trained on the 35,000 reviews without test labels (train and unsup), scored on 300 of IMDb's test reviews, drawn by a seed, and on WikiText-2's validation articles: bits per
byte, each byte or token scored once with at least half a context before it.  Ours: `--method next-token` with its own tokenizer and defaults, context 256.
nanoGPT: bytes, context 256, its settings for a processor, at 12 and at 64 rows a step with seed 0, and at the better of the two with the others.  A cell of
benchmarks/results/gpt_imdb.json is one run; the command goes on where it was cut off.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # CPU minutes are then minutes, and two runs can go side by side

import argparse
import itertools
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from record import ROOT, Results, shared

TESTED, BATCHES, POINTS = 300, (12, 64), 8
SAMPLE = "The movie was"


def texts() -> dict[str, list[str]]:
    """{"train", "imdb", "wikitext2"}: documents."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def read(name: str, split: str) -> list[str]:
        return pq.read_table(shared(name) / f"{split}.parquet", columns=["text"])["text"].to_pylist()

    test = read("imdb", "test")
    chosen = np.random.default_rng(0).permutation(len(test))[:TESTED]
    wiki = articles(pa.input_stream(str(shared("wikitext2") / "valid.txt.zst"), compression="zstd").read().decode())
    return {
        "train": read("imdb", "train") + read("imdb", "unsup"),
        "imdb": [test[i] for i in chosen],
        "wikitext2": wiki,
    }


def articles(text: str) -> list[str]:
    """WikiText's articles: each begins with a line " = Title = "."""
    starts = [m.start() for m in re.finditer(r"^ = [^=]+ = $", text, re.MULTILINE)]
    return [text[a:b].strip() for a, b in itertools.pairwise([*starts, len(text)])]


def as_bytes(documents: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(bytes with a 0 behind each document, begin and end of each (N, 2))."""
    pieces = [np.frombuffer(t.encode() + b"\0", np.uint8) for t in documents]
    ends = np.cumsum([len(p) for p in pieces])
    begins = ends - [len(p) for p in pieces]
    return np.concatenate(pieces), np.stack([begins, ends - 1], 1)


def nanogpt(found: dict[str, list[str]], batch: int, minutes: float, seed: int) -> dict:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        np.save(place / "train.npy", as_bytes(found["train"])[0])
        for test in ("imdb", "wikitext2"):
            ids, bounds = as_bytes(found[test])
            np.save(place / f"test-{test}.npy", ids)
            np.save(place / f"bounds-{test}.npy", bounds)
        words = [
            os.environ.get("NANOGPT_PYTHON", "python"),
            str(ROOT / "benchmarks/peers/nanogpt_bytes.py"),
            os.environ["NANOGPT"],
            str(place),
        ]
        words += ["--minutes", str(minutes), "--batch", str(batch), "--seed", str(seed)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def scored(run: Path, documents: list[str]) -> dict:
    from selftaught import evaluate

    return evaluate(str(run), documents, task="language-model")


def as_encoder(run, modality, place: Path) -> Path:
    """A folder of the encoder and head of a run that was stopped: what its newest checkpoint holds."""
    from selftaught import nets
    from selftaught.core import Kept
    from selftaught.nets import store
    from selftaught.nets.heads import LanguageHead
    from selftaught.train import checkpoint

    state = checkpoint.newest(run.checkpoints)[1]["method"]
    encoder = nets.rebuild(run.config()["resolved"]["encoder"])
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")})
    head = LanguageHead(encoder.dim, encoder.vocabulary, predicts="next")
    head.weight = encoder.embedding.weight
    store.save(place, Kept(encoder, {"head": head}, {"head.weight": "embedding.weight"}), fill=modality.save)
    return place


def ours(found: dict[str, list[str]], minutes: float, seed: int) -> dict:
    """The run is stopped and resumed at points of its way, where it is scored: resuming changes nothing."""
    from selftaught import generate, modalities, train

    data = modalities.open_data(found["train"], size=256)
    few, curve, spent = found["imdb"][:60], [], 0.0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "run"
        settings = {"method": "next-token", "minutes": minutes, "seed": seed, "out": place, "threads": 1}
        begun, count = False, 0
        while True:
            count += 1
            goal = 60 * minutes * count / POINTS
            stop, before = _Until(place, goal), time.process_time()
            done = (
                train.pretrain(data, **settings, stop=stop) if not begun else train.resume(place, data=data, stop=stop)
            )
            begun, spent = True, spent + time.process_time() - before
            run = done.run
            ended = done.result.get("finished", True)
            folder = run.encoder if ended else as_encoder(run, data.modality, Path(name) / f"at-{count}")
            row = scored(folder, few)["rows"][0]
            curve.append({"seconds": run.metrics()[-1]["seconds"], "bits": row["mean"]})
            print("ours", seed, curve[-1], flush=True)
            if ended:
                break
        tests = {test: scored(place, found[test])["rows"][0] for test in ("imdb", "wikitext2")}
        said = [g.text for g in generate(str(place), SAMPLE, tokens=60, count=2, temperature=0.8, top_p=0.9)]
    return {
        "bits_per_byte": {k: v["mean"] for k, v in tests.items()}, "intervals": {k: [v["low"], v["high"]] for k, v in tests.items()}, "curve": curve,
        "steps": done.result["steps"], "seconds": done.result["seconds"], "cpu_seconds": spent, "generated": said,
    }  # fmt: skip


class _Until:
    """Says stop once the run's own clock has passed `goal` seconds."""

    def __init__(self, place: Path, goal: float):
        self.file, self.goal = place / "metrics.jsonl", goal

    def __call__(self) -> bool:
        if not self.file.is_file():
            return False
        lines = self.file.read_text().splitlines()
        return bool(lines) and json.loads(lines[-1])["seconds"] >= self.goal


def draw(results: Results) -> None:
    """docs/pictures/gpt_imdb.svg: bits per byte of IMDb's test text against minutes."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "gpt", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(figsize=(7, 4))
    shown: set[str] = set()
    for cell, held in results.cells.items():
        name = cell.split(", seed")[0]
        style = {"ours": "-", "nanoGPT, 12 rows": "--", "nanoGPT, 64 rows": ":"}[name]
        axes.plot(
            [p["seconds"] / 60 for p in held["curve"]],
            [p["bits"] for p in held["curve"]],
            style,
            color="black",
            label=None if name in shown else name,
        )
        shown.add(name)
    axes.set(xlabel="CPU minutes", ylabel="bits per byte of IMDb's test reviews")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "pictures" / "gpt_imdb.svg", metadata={"Date": None})


def batches(results: Results, seed: int) -> tuple[int, ...]:
    """Both for seed 0, then that which was better there."""
    scored = {batch: results.cells.get(f"nanoGPT, {batch} rows, seed 0") for batch in BATCHES}
    if seed == 0 or None in scored.values():
        return BATCHES
    return (min(BATCHES, key=lambda batch: scored[batch]["bits_per_byte"]["imdb"]),)  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    results = Results("gpt_imdb", minutes=args.minutes, tested=TESTED)
    if args.draw:
        draw(results)
        return
    found = texts()
    for seed in map(int, args.seeds.split(",")):
        if not results.has(f"ours, seed {seed}"):
            results.put(f"ours, seed {seed}", **ours(found, args.minutes, seed))
        for batch in batches(results, seed) if "NANOGPT" in os.environ else ():
            if not results.has(f"nanoGPT, {batch} rows, seed {seed}"):
                results.put(f"nanoGPT, {batch} rows, seed {seed}", **nanogpt(found, batch, args.minutes, seed))
        for name, held in results.cells.items():
            print(name, held["bits_per_byte"], flush=True)


if __name__ == "__main__":
    main()
