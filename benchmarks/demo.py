"""`selftaught demo` as a user starts it: wall-clock, and what pretraining adds at 5 labels a class.

    python benchmarks/demo.py [--seeds 0,1,2]

Every run is a process of its own in an empty folder with an empty cache of packed data; seconds count from its start.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from record import Results


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0,1,2")
    results = Results("demo", what="selftaught demo --json")
    for seed in map(int, parser.parse_args().seeds.split(",")):
        if results.has(f"seed {seed}"):
            continue
        with tempfile.TemporaryDirectory() as place:
            begin = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "selftaught", "demo", "--json", "-q", "--seed", str(seed)],
                cwd=place, env={**os.environ, "SELFTAUGHT_CACHE": f"{place}/cache"}, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            seconds = time.perf_counter() - begin
        found = json.loads(done.stdout)
        better = max(
            (
                r
                for r in found["rows"]
                if r["probe"] == "linear" and r["labels_per_class"] == 5 and r["features"] in ("raw", "untrained")
            ),
            key=lambda r: r["mean"],
        )
        pairs = {(d["a"], d["b"], d["probe"], d["labels_per_class"]): d for d in found["differences"]}
        difference = pairs["pretrained", better["features"], "linear", 5]
        scores = {
            r["features"]: r["mean"] for r in found["rows"] if r["probe"] == "linear" and r["labels_per_class"] == 5
        }
        results.put(
            f"seed {seed}", seconds=seconds, difference=difference, scores=scores, verdict=found["verdict"]["answer"]
        )
        print(seed, f"{seconds:.0f} s", difference, flush=True)


if __name__ == "__main__":
    main()
