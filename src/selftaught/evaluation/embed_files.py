"""Embedding file to file: Parquet parts that resume, and that several machines can share."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..core import DataError, Encoder, RequestError
from ..core.listener import Listener
from ..nets import store
from .embed import Layer, embed

PART_ROWS = 1 << 16
_SETTINGS: dict[str, Any] = {
    "compression": {"name": "zstd", "row": "zstd", "embedding.list.element": "none"},
    "use_dictionary": False,
}


@dataclass(frozen=True)
class Embedded:
    """What `embed_to` wrote: the files in row order, their rows, and how many of them were there already."""

    files: list[Path]
    rows: int
    dim: int
    reused: int


def embed_to(
    out: str | Path, encoder: Encoder, dataset, *, shard: tuple[int, int] = (0, 1), batch: int = 256,
    device: str | torch.device = "cpu", layer: Layer | None = None, dtype: Literal["float32", "float16"] = "float32",
    part_rows: int = PART_ROWS, overwrite: bool = False, listener: Listener | None = None,
) -> Embedded:  # fmt: skip
    """Embeds `dataset` into Parquet with the columns row (int64 id), name and embedding (fixed-size list of `dtype`).

    `out` ending in .parquet, unsharded, becomes one file; otherwise a folder of part-00000-of-00012.parquet, which every Parquet
    reader takes as one table in row order.  Parts are cut by row number alone, so that shard (i, n), which writes every n-th part
    from i on, gives the files that one process would have given.  A part is written beside its place and renamed, then entered
    into the manifest with rows and sha256, along with hashes of model and data; what verifies is not computed again.
    Raises RequestError where `out` holds embeddings of another model, data or setting (unless `overwrite`).
    """
    out, (index, count) = Path(out), shard
    if not 0 <= index < count:
        raise RequestError(f"--shard {index}/{count} does not exist.", f"Shards of {count} are 0/{count} to {count - 1}/{count}.")  # fmt: skip
    single = out.suffix == ".parquet" and count == 1
    job = {
        "format": "selftaught embeddings", "version": 1, "model": store.fingerprint(encoder), "data": dataset.fingerprint,
        "rows": len(dataset), "layer": "last" if layer is None else layer, "dtype": dtype, "batch": batch,
        "part_rows": part_rows, "shard": [index, count],
    }  # fmt: skip
    home = out.with_name(f".{out.name}.parts") if single else out
    if single and _finished(out, job):
        dim = _read_dim(out)
        return Embedded([out], len(dataset), dim, 1)
    ledger = _Ledger(home, job, overwrite)
    files, reused, dim = [], 0, 0
    parts = -(-len(dataset) // part_rows)
    try:
        for part in range(index, parts, count):
            path = home / f"part-{part:05d}-of-{parts:05d}.parquet"
            places = np.arange(part * part_rows, min((part + 1) * part_rows, len(dataset)))
            if ledger.holds(path):
                reused += 1
            else:
                values = embed(encoder, dataset, batch=batch, device=device, layer=layer, dtype=dtype, rows=places, listener=listener)  # fmt: skip
                _write_part(path, values, dataset.ids[places], dataset.names(places))
                ledger.enter(path, len(places))
            files.append(path)
            dim = dim or _read_dim(path)
        if single:
            _join(files, out, job)
            shutil.rmtree(home)
            files = [out]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"The disk that holds {out} is full.", "Free some space and say the same again: finished parts are kept.") from error  # fmt: skip
        raise
    return Embedded(files, len(dataset) if single else sum(ledger.rows(f) for f in files), dim, reused)


class _Ledger:
    """The manifest of a folder of parts: which are whole, by hash.  One a shard, so that shards never write the same file."""

    def __init__(self, home: Path, job: dict, overwrite: bool):
        index, count = job["shard"]
        self.path = home / (f"_manifest-{index:05d}-of-{count:05d}.json" if count > 1 else "_manifest.json")
        self.home, self.job = home, job
        self.done: dict[str, dict[str, Any]] = {}  # by any shard: the number of shards may change between two sittings
        self.own: dict[str, dict[str, Any]] = {}
        home.mkdir(parents=True, exist_ok=True)
        for found in sorted(home.glob("_manifest*.json")):
            held = _read_json(found)
            differs = [k for k in job if k != "shard" and held.get(k) != job[k]]
            if not held or (differs and overwrite):
                found.unlink()
            elif differs:
                raise RequestError(
                    f"{home} holds embeddings of another {', '.join(differs)}.", "Choose another --out, or --overwrite."
                )
            else:
                self.done.update(held["files"])
                if found == self.path:
                    self.own = dict(held["files"])

    def holds(self, path: Path) -> bool:
        entry = self.done.get(path.name)
        return entry is not None and path.is_file() and _sha256(path) == entry["sha256"]

    def rows(self, path: Path) -> int:
        return self.done[path.name]["rows"]

    def enter(self, path: Path, rows: int) -> None:
        self.done[path.name] = self.own[path.name] = {
            "rows": rows,
            "bytes": path.stat().st_size,
            "sha256": _sha256(path),
        }
        _write_json(self.path, {**self.job, "files": self.own})


def _schema(dim: int, dtype: str):
    import pyarrow as pa

    value = pa.float16() if dtype == "float16" else pa.float32()
    return pa.schema([("row", pa.int64()), ("name", pa.string()), ("embedding", pa.list_(value, dim))])


def _write_part(path: Path, values: np.ndarray, ids: np.ndarray, names: list[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(values.shape[1], str(values.dtype))
    held = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    table = pa.table([pa.array(ids), pa.array(names, pa.string()), held], schema=schema)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, beside, **_SETTINGS)
    _settle(beside, path)


def _settle(beside: Path, path: Path) -> None:
    """Has the disk hold the file, then gives it its name."""
    with open(beside, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)


def _join(parts: list[Path], out: Path, job: dict) -> None:
    """The parts as one file, a row group each; one part in memory at a time."""
    import pyarrow.parquet as pq

    beside = out.with_name(f".{out.name}.{os.getpid()}")
    with pq.ParquetWriter(beside, pq.read_schema(parts[0]), **_SETTINGS) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part))
    _settle(beside, out)
    entry = {out.name: {"rows": job["rows"], "bytes": out.stat().st_size, "sha256": _sha256(out)}}
    _write_json(_beside(out), {**job, "files": entry})


def _beside(out: Path) -> Path:
    return out.with_name(f"{out.name}.manifest.json")


def _finished(out: Path, job: dict) -> bool:
    if not (out.is_file() and _beside(out).is_file()):
        return False
    held = _read_json(_beside(out))
    same = all(held.get(k) == v for k, v in job.items())
    return same and held["files"][out.name]["sha256"] == _sha256(out)


def _read_dim(path: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_schema(path).field("embedding").type.list_size


def _read_json(path: Path) -> dict:
    try:
        held = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # cut short: as if it had not been written, so that its parts are computed again
    return held if isinstance(held, dict) else {}


def _write_json(path: Path, value: dict) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    _settle(beside, path)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
