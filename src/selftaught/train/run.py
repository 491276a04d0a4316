"""A run is a folder: configuration, environment, metrics, status with heartbeat, checkpoints, encoder.  Nothing is hidden."""

import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import __version__
from ..core import config
from ..core.errors import ModelError, RequestError


@dataclass(frozen=True)
class Run:
    """The folder of one pretraining; every path in one place.  Only rank 0 writes."""

    folder: Path

    @classmethod
    def create(cls, folder: str | Path, *, overwrite: bool = False) -> "Run":
        """Makes the folder; one that already holds a run is refused unless `overwrite` (then only its known files go)."""
        run = cls(Path(folder))
        if run.config_file.exists() and not overwrite:
            raise RequestError(
                f"{run.folder} already holds a run.",
                f"Go on with --resume {run.folder}, choose another --out, or --overwrite.",
            )
        if run.folder.exists() and not run.folder.is_dir():
            raise RequestError(f"{run.folder} is a file, not a folder.", "Choose another --out.")
        if overwrite:
            run._clear()
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(
                f"{run.folder} cannot be made: {error.strerror}.", "Choose an --out that can be written."
            ) from error
        return run

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        run = cls(Path(folder))
        if not run.config_file.is_file():
            raise ModelError(
                f"{run.folder} holds no run (config.toml is missing).",
                "Give the folder that `selftaught pretrain --out` wrote.",
            )
        return run

    def _clear(self) -> None:
        import shutil

        for name in ("checkpoints", "encoder", "start", "pictures"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in (
            "config.toml",
            "metrics.jsonl",
            "status.json",
            "result.json",
            "rejected.jsonl",
            "log.txt",
            "views.png",
            "evaluation.json",
            "report.html",
            "env.json",
            "data.json",
        ):
            (self.folder / name).unlink(missing_ok=True)

    def discard(self) -> bool:
        """Takes away a run that has not begun to learn, and its folder where nothing else is in it; False, and nothing, where it has."""
        if self.metrics_file.exists() or (self.checkpoints.is_dir() and any(self.checkpoints.iterdir())):
            return False
        self._clear()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
        return True

    @property
    def config_file(self) -> Path:
        return self.folder / "config.toml"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def encoder(self) -> Path:
        return self.folder / "encoder"

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    def config(self) -> dict:
        return config.load(self.config_file)

    def write_config(self, settings: dict) -> None:
        write_text(
            self.config_file, "# Re-run with: selftaught pretrain --config config.toml\n" + config.dumps(settings)
        )

    def write_json(self, name: str, value: dict) -> None:
        write_text(self.folder / name, json.dumps(value, indent=1, default=str) + "\n")

    def read_json(self, name: str) -> dict:
        try:
            return json.loads((self.folder / name).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.folder / name} cannot be read: {error}.") from error

    def status(self, state: str, **facts) -> None:
        """state: running, done, failed or interrupted; the time is the heartbeat."""
        self.write_json("status.json", {"state": state, "pid": os.getpid(), "time": time.time(), **facts})

    def log(self, text: str) -> None:
        with open(self.folder / "log.txt", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def metrics(self) -> list[dict]:
        """The rows of metrics.jsonl; a last line that a kill cut short is left out."""
        if not self.metrics_file.exists():
            return []
        rows = []
        for line in self.metrics_file.read_text("utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def cut_metrics(self, step: int) -> None:
        """Drops rows from `step` on: what a resumed run is going to write again."""
        rows = [json.dumps(r) for r in self.metrics() if r.get("step", 0) <= step]
        write_text(self.metrics_file, "".join(r + "\n" for r in rows))


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: written beside and renamed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def environment() -> dict:
    """What a figure depends on: release, libraries, chip, threads."""
    import numpy
    import transformers

    return {
        "selftaught": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "chip": chip(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def chip() -> dict:
    """The processor's name and the instruction sets that decide speed."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return {
        "name": name,
        "avx2": torch.cpu._is_avx2_supported(),
        "avx512": torch.cpu._is_avx512_supported(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx": torch.cpu._is_amx_tile_supported(),
    }
