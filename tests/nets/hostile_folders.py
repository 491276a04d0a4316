"""What hostile model folders are written with (see corpus.py)."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

CASES: dict[str, tuple[str, Callable[[Path, Path], None]]] = {}
"""{name: (library, write(folder, canary))}; library "run" is the project's own format."""
VIT = {
    "model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "image_size": 8, "patch_size": 4,
}  # fmt: skip
OWN = {
    "format": "selftaught", "version": 1, "parts": {}, "ties": {},
    "encoder": {"kind": "resnet-small", "options": {"widths": [4], "blocks": [1], "strides": [2], "stem": 4}},
}  # fmt: skip


class Bomb:
    """Creates the canary when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def case(name: str, library: str = "run"):
    def add(write: Callable[[Path, Path], None]):
        CASES[name] = (library, write)
        return write

    return add


def tensors(header: dict | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def own(folder: Path, change: dict | None = None, weights: bytes | None = None) -> None:
    """A folder of the project's format, complete but for what is changed."""
    from selftaught import nets
    from selftaught.core import Kept
    from selftaught.nets import store

    folder.rmdir()
    store.save(folder, Kept(nets.build("resnet-small", widths=(4,), blocks=(1,), strides=(2,), stem=4)))
    if change:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | change))
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)


def borrowed(folder: Path, change: dict | None = None, weights: bytes | None = None) -> None:
    """A folder in transformers' format; without `weights` they are those of the unchanged config."""
    import torch
    from safetensors.torch import save_file

    from selftaught.nets.architecture import plan

    (folder / "config.json").write_text(json.dumps(VIT | (change or {})))
    if weights is None:
        state = {k: torch.zeros(s) for k, s in plan(json.dumps(VIT)).shapes.items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        (folder / "model.safetensors").write_bytes(weights)


def own_config(name: str, change: dict) -> None:
    CASES[name] = ("run", lambda folder, canary: own(folder, change))


def own_weights(name: str, weights: Callable[[Path], bytes]) -> None:
    CASES[name] = ("run", lambda folder, canary: own(folder, weights=weights(canary)))


def borrowed_config(name: str, change: dict) -> None:
    CASES[name] = ("transformers", lambda folder, canary: borrowed(folder, change))


def encoder(kind: str, **options) -> dict:
    return {"encoder": {"kind": kind, "options": options}}


def archive(canary: Path) -> bytes:
    """What torch.save writes: a zip with a pickle in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Bomb(canary)))
    return out.getvalue()


def zip_bomb(_: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.safetensors", bytes(64 << 20))
    return out.getvalue()
