"""Seconds of sound a second in training wav2vec 2.0, beside transformers' pretraining example: medians of alternating repeats, as ratios.

    python benchmarks/wav2vec2_speed.py [--repeats 5] [--cells natural,equal]

Cells: `natural`: 1 to 5 s of digits said one after the other (fsdd, 8 kHz), as long as they are; `equal`: the first 2 s of those that have them, so that nothing is padded by
anyone.  Same network (6 x 128 channels, 4 x 128), quantiser (2 x 64), spans, 100 negatives, batch of 16, fp32 and AdamW on either side; ours through `pretrain` with all that it
watches, theirs as benchmarks/peers/transformers_wav2vec2.py has it.  What counts is sound without padding.  Each repeat is a process of its own; its first steps are not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from record import ROOT, Results, shared

CELLS, RATE, ROWS, BATCH, STEPS, SKIP = ("natural", "equal"), 8000, 192, 16, 10, 3


def utterances(cell: str) -> list[np.ndarray]:
    """Digits of one speaker, joined: (L,) int16."""
    import pyarrow.parquet as pq

    from selftaught.data.sounds import read_sound

    table = pq.read_table(shared("fsdd") / "train.parquet", columns=["audio", "speaker"]).to_pylist()
    digits: dict[str, list[np.ndarray]] = {}
    for row in table:
        digits.setdefault(row["speaker"], []).append(read_sound(row["audio"], RATE))
    rng, found = np.random.default_rng(0), []
    while len(found) < ROWS:
        own = digits[sorted(digits)[rng.integers(len(digits))]]
        joined = np.concatenate([own[i] for i in rng.integers(len(own), size=rng.integers(2, 12))])
        joined = joined[: 5 * RATE] if cell == "natural" else joined[: 2 * RATE]
        if len(joined) >= (RATE if cell == "natural" else 2 * RATE):
            found.append(joined)
    return found


def ours(cell: str) -> dict:
    """Seconds of each step of `pretrain`, and seconds of sound in a step on average."""
    from selftaught import modalities, train

    waves = utterances(cell)
    data = modalities.open_data(waves, modality="sound", rate=RATE, size=5000)
    with tempfile.TemporaryDirectory() as place:
        done = train.pretrain(
            data, method="wav2vec2", steps=STEPS + SKIP, recipe={"batch": BATCH}, out=Path(place) / "run"
        )
        seconds = np.diff([row["seconds"] for row in done.run.metrics()])
    sound = sum(map(len, waves)) / len(waves) * BATCH / RATE
    return {"rate": sound / statistics.median(seconds[SKIP - 1 :]), "sound": sound}


def theirs(cell: str) -> dict:
    """The same of transformers."""
    from selftaught import nets
    from selftaught.methods.wav2vec2 import Wav2Vec2
    from selftaught.nets.pretrained_speech import settings

    config, method = settings(nets.build("wav2vec2", rate=RATE)), Wav2Vec2()  # type: ignore[arg-type]
    config |= {
        "num_codevectors_per_group": method.codes, "num_codevector_groups": method.groups, "codevector_dim": method.code_width,
        "proj_codevector_dim": method.code_width, "num_negatives": method.negatives,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        np.savez(f"{place}/waves.npz", *(w.astype(np.float32) / 32768 for w in utterances(cell)))
        Path(place, "config.json").write_text(json.dumps(config))
        words = [
            sys.executable,
            str(ROOT / "benchmarks/peers/transformers_wav2vec2.py"),
            "--waves",
            f"{place}/waves.npz",
            "--config",
            f"{place}/config.json",
        ]
        words += [
            "--batch",
            str(BATCH),
            "--steps",
            str(STEPS + SKIP),
            "--rate",
            str(RATE),
            "--share",
            str(method.share),
            "--span",
            str(method.span),
        ]
        found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])
    rates = [sound / second for sound, second in zip(found["sound"], found["seconds"], strict=True)]
    return {"rate": statistics.median(rates[SKIP:]), "sound": statistics.fmean(found["sound"])}


def child(way: str, cell: str) -> dict:
    words = [sys.executable, __file__, "--child", way, "--cells", cell]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--child", choices=["ours", "theirs"])
    args = parser.parse_args()
    if args.child:
        print(json.dumps({"ours": ours, "theirs": theirs}[args.child](args.cells)))
        return
    results = Results("wav2vec2_speed", repeats=args.repeats, skipped_steps=SKIP)
    for cell in args.cells.split(","):
        if results.has(cell):
            continue
        rates: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(args.repeats):
            for way, held in rates.items():
                held.append(child(way, cell)["rate"])
                print(cell, way, f"{held[-1]:.1f} s of sound a second", flush=True)
        median = {way: statistics.median(held) for way, held in rates.items()}
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates["theirs"], strict=True))
        results.put(cell, sound_seconds_per_second=rates, median=median, ratio=ratio, batch=BATCH, rate=RATE)
        print(cell, f"{ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
