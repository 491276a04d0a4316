"""The runs that README shows: folders of photographs, from `look` to the verdict, as a user starts them.

    python benchmarks/real_run.py

Writes a folder a class and one picture that is cut short: 5,000 pictures of CIFAR-10 (JPEG copies, 500 a class), and 600 photographs of cats and
dogs.  Runs the commands beside them with an empty cache and keeps what they print; `make docs` puts it into README.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import Results, shared

FOLDERS = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cats-dogs": ("cat", "dog"),
}
EACH = 500
COMMANDS = {
    "look": ["look", "photos"],
    "pretrain": ["pretrain", "photos", "--holdout", "0.2", "--out", "run"],
    "evaluate": ["evaluate", "run", "photos", "--labels", "label", "--budgets", "5", "20"],
}


def write(name: str, folder: Path) -> None:
    """The first training pictures of every class as files, `EACH` at most."""
    import pyarrow.parquet as pq

    classes = FOLDERS[name]
    table = pq.read_table(shared(name) / "train.parquet")
    count = dict.fromkeys(range(len(classes)), 0)
    for data, label in zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True):
        if count[label] < EACH:
            place = folder / classes[label] / f"{count[label]:04}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            count[label] += 1
    (folder / "cat" / "cut.jpg").write_bytes((folder / "cat" / "0000.jpg").read_bytes()[:400])


def run(name: str) -> dict:
    said, seconds = {}, {}
    with tempfile.TemporaryDirectory() as place:
        write(name, Path(place) / "photos")
        for command, words in COMMANDS.items():
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "selftaught", *words], cwd=place, env={**os.environ, "SELFTAUGHT_CACHE": f"{place}/cache"},
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            seconds[command], said[command] = round(time.perf_counter() - began), done.stdout
        verdict = json.loads(Path(place, "run", "evaluation.json").read_text())["verdict"]
    commands = {k: " ".join(["selftaught", *words]) for k, words in COMMANDS.items()}
    return {"commands": commands, "said": said, "seconds": seconds, "verdict": verdict}


def main() -> None:
    results = Results("real_run", pictures_of_a_class=EACH)
    for name in FOLDERS:
        if not results.has(name):
            results.put(name, **run(name))
            print(results.cells[name]["said"]["evaluate"], results.cells[name]["seconds"])


if __name__ == "__main__":
    main()
