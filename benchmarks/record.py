"""What every benchmark shares: where results lie, what machine and commit they come from, and how they are kept as they come."""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def shared(name: str) -> Path:
    """The folder of a real data set (SELFTAUGHT_SHARED, else shared/data beside the checkout)."""
    root = Path(os.environ.get("SELFTAUGHT_SHARED") or ROOT.parent / "shared" / "data")
    if not (root / name).is_dir():
        sys.exit(f"the data set {name!r} is not here: set SELFTAUGHT_SHARED to the folder that holds it")
    return root / name


def commit() -> str:
    """The commit, with + where the tree differs from it."""
    git = lambda *a: subprocess.run(["git", "-C", str(ROOT), *a], capture_output=True, text=True).stdout.strip()  # noqa: E731
    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "src") else "")


def machine() -> dict:
    from selftaught.train import environment

    facts = environment()
    return {k: facts[k] for k in ("chip", "cores", "threads", "torch", "python", "platform", "gpu")}


def peak_mb() -> float:
    """The most memory this process has held; ru_maxrss would count the process that started it too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class Results:
    """A JSON file of cells, written after each, so that a benchmark that is cut off goes on where it stood.

    Several processes may write to one file: what the others have put there since is kept."""

    def __init__(self, name: str, **about):
        self.path = RESULTS / f"{name}.json"
        old = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.cells: dict[str, dict] = old.get("cells", {})
        self.about = {**old.get("about", {}), **about}

    def has(self, cell: str) -> bool:
        return cell in self.cells

    def put(self, cell: str, **figures) -> None:
        self.cells[cell] = {**figures, "commit": commit(), "machine": machine()}
        self.save()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(Path(tempfile.gettempdir()) / f"selftaught-{self.path.stem}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            old = json.loads(self.path.read_text()).get("cells", {}) if self.path.exists() else {}
            self.cells = {**old, **self.cells}
            beside = self.path.with_suffix(".tmp")
            beside.write_text(json.dumps({"about": self.about, "cells": self.cells}, indent=1) + "\n")
            os.replace(beside, self.path)
