"""What a request names, opened: encoders with the modality beside them, and datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import modalities, nets
from ..core import DataError, Encoder, RequestError
from ..core.listener import Listener
from ..data import Dataset, splits
from ..train.run import Run


def open_encoders(run) -> tuple[list[Encoder], Any]:
    """Encoders, and the modality that was saved beside the first (None for an Encoder in memory)."""
    several = run if isinstance(run, list | tuple) else [run]
    if not several:
        raise RequestError("There is no run to evaluate.", "Give a run folder, a model folder or an encoder.")
    if isinstance(several[0], Encoder):
        return list(several), None
    folders = [nets.store.find(str(getattr(one, "folder", one))) for one in several]
    return [nets.store.load_encoder(f) for f in folders], modalities.load(folders[0])


def open_dataset(data, modality, listener: Listener, *, column: str | None = None, max_bad: float = 0.01, names: str | None = None):
    """A Dataset (or None) as it is; whatever else `modalities.open_data` takes, packed as `modality` has it."""
    if data is None or hasattr(data, "fetch"):
        return data
    return modalities.open_data(
        data, modality=modality, column=column, max_bad=max_bad, names=names, say=listener.say,
        progress=lambda done, total, bad: listener.progress("packing", done, total, f"{bad} set apart" if bad else ""),
    )  # fmt: skip


def read_again(dataset, modality):
    """The same rows as another `modality` of the same kind packs them (a text with another tokenizer); `dataset` itself where it is None or no other."""
    if modality is None or modality.config() == dataset.modality.config():
        return dataset
    if modality.name != dataset.modality.name:
        raise RequestError(
            f"An encoder off the shelf reads {modality.name}, the data are {dataset.modality.name}.",
            "Leave it out of --shelf.",
        )
    again = Dataset.open(dataset.source, dataset.column, modality, max_bad=1.0)
    rows, wanted = again.source_rows(), dataset.source_rows()
    places = np.searchsorted(rows, wanted).clip(max=max(0, len(rows) - 1))
    if not len(rows) or not np.array_equal(rows[places], wanted):
        raise DataError(
            f"Some rows of {dataset.name} cannot be read by an encoder off the shelf.", "Leave it out of --shelf."
        )
    return again.subset(places)


def pretrained_on(run, data) -> bool:
    """Whether `data` are, by fingerprint, what the run was pretrained on."""
    return _data_facts(run[0] if isinstance(run, list | tuple) else run).get("fingerprint") == data.fingerprint


def held_out(run, data, listener: Listener) -> np.ndarray | None:
    """Places of `data` that none of the runs saw (`pretrain --holdout`); None where these are other data, or nothing was held out."""
    found = [_data_facts(one).get("holdout") for one in (run if isinstance(run, list | tuple) else [run])]
    first = found[0]
    if not first or any(other != first for other in found) or first.get("of") != data.fingerprint:
        return None
    held = splits.hold_out(data, float(first["share"]), group=first.get("group"))[1]
    listener.say(f"test rows: the {len(held)} that pretraining left out (--holdout {first['share']:g}).")
    return held


def folder_of(one) -> Path | None:
    """The folder of a run or model that is named by its path, by a Run or by what `pretrain` returned; None of an Encoder in memory."""
    if isinstance(one, Encoder):
        return None
    return Path(getattr(one, "folder", one))


def _data_facts(one) -> dict[str, Any]:
    """data.json of a run; empty where there is no run to ask."""
    folder = folder_of(one)
    if folder is None or not (folder / "data.json").is_file():
        return {}
    return Run(folder).read_json("data.json")


def first_seed(run) -> int | None:
    """The seed of the (first) run's initial weights; None where there is no run to ask."""
    config = _config(run)
    seed = config.get("seed", 0) if config else None
    return seed if isinstance(seed, int) else None


def method_of(run) -> str | None:
    """The method of the (first) run, as its configuration names it; None where there is no run to ask."""
    return _config(run).get("method")


def _config(run) -> dict[str, Any]:
    """config.toml of the (first) run; empty where there is no run to ask."""
    folder = folder_of(run[0] if isinstance(run, list | tuple) else run)
    return Run(folder).config() if folder is not None and (folder / "config.toml").is_file() else {}
