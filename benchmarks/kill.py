"""kill -9 at random instants, some of them inside a save: every run resumes and ends in the uninterrupted run's bytes.

    python benchmarks/kill.py [--kills 8]        about a minute a method on two cores; goes on where it stood

Result: benchmarks/results/kill.json, a cell a method: kills, kills inside a save, resumes, steps lost, whether the final weights
are byte-equal.  The kills' moments are random between the first step and a third of an uninterrupted run; every second one waits for the
next save and strikes inside it.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import Results

STEPS = 60
BATCH = {"image": 128, "text": 32, "sound": 32}
PRETRAIN = (sys.executable, "-m", "selftaught", "pretrain")
SPECIAL = {  # method: (modality, options)
    "simclr": ("image", ["--encoder", "resnet-small"]),
    "next-token": ("text", []),
    "masked-token": ("text", []),
    "cbow": (
        "text",
        ["--workers", "1", "--epochs", "2000"],
    ),  # exact on one thread alone, and so quick that one pass is no target
    "skip-gram": ("text", ["--workers", "1", "--epochs", "1200"]),
    "fasttext": ("text", ["--workers", "1", "--epochs", "1000", "--buckets", "4096"]),
    "distil": ("image", ["--teacher", "TEACHER"]),
}
SOUND_TOO = ("simclr", "mae", "data2vec")


def runs() -> dict[str, tuple[str, str, list[str]]]:
    """{cell: (method, modality, options)}: every method there is on the first kind of data that it takes, and some on sound too."""
    from selftaught import methods

    fits = {n: [k for k in BATCH if methods.fits(methods.find(n), k) is None] for n in methods.names()}
    found = {name: (name, *SPECIAL.get(name, (kinds[0], []))) for name, kinds in fits.items()}
    return {**found, **{f"{name}, sound": (name, "sound", []) for name in SOUND_TOO}}


def with_teacher(data: Path, options: list[str], place: Path) -> list[str]:
    """The options with an untrained run in the place of TEACHER."""
    if "TEACHER" not in options:
        return options
    teacher = place / "teacher"
    words = [*PRETRAIN, str(data), "--method", "simclr", "--steps", "0", "--out", str(teacher)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [str(teacher) if o == "TEACHER" else o for o in options]


def write_data(folder: Path) -> dict[str, Path]:
    """Small sets of every modality, from the toy sets with known factors."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from selftaught.modalities import find

    pictures, _ = find("image").toy(600, 0)
    np.save(folder / "pictures.npy", np.stack([np.asarray(p) for p in pictures]))
    texts, _ = find("text").toy(600, 0)
    pq.write_table(pa.table({"text": texts}), folder / "texts.parquet")
    sounds, _ = find("sound").toy(300, 0)
    (folder / "sounds").mkdir()
    for number, content in enumerate(sounds):
        (folder / "sounds" / f"{number:03d}.wav").write_bytes(content)
    return {"image": folder / "pictures.npy", "text": folder / "texts.parquet", "sound": folder / "sounds"}


def command(data: Path, out: Path, method: str, modality: str, options: list[str]) -> list[str]:
    from selftaught import methods

    closed = methods.find(method).closed_form
    length = [] if closed else ["--steps", str(STEPS), "--set", f"recipe.batch={BATCH[modality]}"]
    every = ["--save-every", "2"]
    return [*PRETRAIN, str(data), "--method", method, "--out", str(out), "--json", *length, *every, *options]


def digest(out: Path) -> str:
    return hashlib.sha256((out / "encoder" / "model.safetensors").read_bytes()).hexdigest()


def finished(out: Path) -> bool:
    status = out / "status.json"
    return status.exists() and json.loads(status.read_text())["state"] == "done"


def started(out: Path) -> bool:
    return (out / "checkpoints").is_dir()


def wait_for_a_save(process: subprocess.Popen, out: Path) -> None:
    """Until a checkpoint is being written, or the run has ended."""
    while process.poll() is None and not any(out.glob("checkpoints/.writing-*")):
        pass


def killed_run(words: list[str], out: Path, kills: int, span: float, dice: random.Random) -> dict:
    """Runs, kills and resumes until `kills` kills have landed, then lets the run end."""
    landed, inside, passes, lost = 0, 0, 0, 0
    while not finished(out):
        again = [*PRETRAIN, "--resume", str(out), "--save-every", "2", "--json"]
        process = subprocess.Popen(
            again if (out / "config.toml").exists() else words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        passes += 1
        if landed < kills:
            reached = time.monotonic()
            while not started(out) and process.poll() is None:
                time.sleep(0.01)
            time.sleep(
                max(0.0, 2.5 - (time.monotonic() - reached)) if passes > 1 else 0.0
            )  # a resumed run imports first
            time.sleep(dice.uniform(0, span / 3))
            if landed % 2:
                wait_for_a_save(process, out)
            if process.poll() is None:
                before = {p.name for p in out.glob("checkpoints/step-*")}
                process.send_signal(signal.SIGKILL)
                process.wait()
                landed += 1
                inside += bool(list(out.glob("checkpoints/.writing-*")))
                lost += not before
        output = process.communicate()[0]
        if process.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(f"a resumed run failed with {process.returncode}: {output.decode()[-2000:]}")
        if passes > 6 * kills:
            break
        if finished(out) and landed < kills:  # it ended before the dice came: begin anew
            shutil.rmtree(out)
    return {"kills": landed, "inside_a_save": inside, "passes": passes, "before_first_checkpoint": lost}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--only", default="", help="cells, by their names")
    args = parser.parse_args()
    kills, only = args.kills, set(filter(None, args.only.split(",")))
    results = Results("kill", steps=STEPS)
    for cell, (method, modality, options) in runs().items():
        if results.has(cell) or (only and cell not in only):
            continue
        with tempfile.TemporaryDirectory() as place:
            data = write_data(Path(place))[modality]
            whole, cut = Path(place) / "whole", Path(place) / "cut"
            options = with_teacher(data, options, Path(place))
            begin = time.monotonic()
            words = command(data, whole, method, modality, options)
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            span = time.monotonic() - begin
            words = command(data, cut, method, modality, options)
            figures = killed_run(words, cut, kills, span, random.Random(cell))
            equal = digest(whole) == digest(cut)
            results.put(cell, modality=modality, byte_equal=equal, **figures)
            print(cell, "byte-equal" if equal else "DIFFERENT", figures, flush=True)


if __name__ == "__main__":
    main()
