"""What a request names, opened: encoders with the modality beside them, and datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import modalities, nets
from ..core import Encoder, RequestError
from ..core.listener import Listener
from ..train.run import Run


def open_encoders(run) -> tuple[list[Encoder], Any]:
    """Encoders, and the modality that was saved beside the first (None for an Encoder in memory)."""
    several = run if isinstance(run, list | tuple) else [run]
    if not several:
        raise RequestError("There is no run to evaluate.", "Give a run folder, a model folder or an encoder.")
    if isinstance(several[0], Encoder):
        return list(several), None
    folders = [nets.store.find(getattr(one, "folder", one)) for one in several]
    return [nets.store.load_encoder(f) for f in folders], modalities.load(folders[0])


def open_dataset(data, modality, listener: Listener, *, column: str | None = None, max_bad: float = 0.01):
    """A Dataset (or None) as it is; whatever else `modalities.open_data` takes, packed as `modality` has it."""
    if data is None or hasattr(data, "fetch"):
        return data
    return modalities.open_data(
        data, modality=modality, column=column, max_bad=max_bad, say=listener.say,
        progress=lambda done, total, bad: listener.progress("packing", done, total, f"{bad} set apart" if bad else ""),
    )  # fmt: skip


def pretrained_on(run, data) -> bool:
    """Whether `data` are, by fingerprint, what the run was pretrained on."""
    one = run[0] if isinstance(run, list | tuple) else run
    if isinstance(one, Encoder):
        return False
    facts = Path(str(getattr(one, "folder", one))) / "data.json"
    return facts.is_file() and Run(facts.parent).read_json("data.json").get("fingerprint") == data.fingerprint


def first_seed(run) -> int | None:
    """The seed of the (first) run's initial weights; None where there is no run to ask."""
    one = run[0] if isinstance(run, list | tuple) else run
    folder = None if isinstance(one, Encoder) else Path(str(getattr(one, "folder", one)))
    if folder is None or not (folder / "config.toml").is_file():
        return None
    seed = Run(folder).config().get("seed", 0)
    return seed if isinstance(seed, int) else None
