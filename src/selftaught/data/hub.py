"""`hf:NAME[:CONFIG][@SPLIT]`: a data set of the Hugging Face hub, through `datasets`; nothing is fetched unless asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pyarrow as pa

from ..core import DataError, RequestError
from . import cells
from .tables import Table

_SPEC = re.compile(r"hf:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.-]+))?")
_BATCH = 256
_OFF = frozenset({"", "0", "false", "no", "off"})


def offline() -> bool:
    """Whether SELFTAUGHT_OFFLINE or HF_HUB_OFFLINE forbids the network."""
    return any(os.environ.get(name, "").lower() not in _OFF for name in ("SELFTAUGHT_OFFLINE", "HF_HUB_OFFLINE"))


class HubShard:
    """One split of a `datasets.Dataset`: memory-mapped Arrow; pictures and sounds stay encoded, classes get their names."""

    def __init__(self, data, name: str):
        self._classes = {n: f.names for n, f in data.features.items() if hasattr(f, "int2str")}
        for column, feature in data.features.items():
            if getattr(feature, "decode", False):
                data = data.cast_column(column, type(feature)(decode=False))
        self._data, self.name = data.with_format("arrow"), name
        self.rows = len(data)
        self.columns: list[str] = []
        self.left_out: list[str] = []
        head = self._data[:1].schema if self.rows else pa.schema([])
        for field in head:
            (self.columns if cells.is_readable(field.type) else self.left_out).append(field.name)

    def cells(self, column: str, start: int = 0) -> Iterator:
        only = self._data.select_columns([column])
        for at in range(start, self.rows, _BATCH):
            for chunk in only[at : min(at + _BATCH, self.rows)].column(0).chunks:
                found = cells.of_arrow(chunk)
                if names := self._classes.get(column):
                    found = (names[code] if code is not None and code >= 0 else None for code in found)
                yield from found


def open_hub(spec: str) -> Table:
    """The data set that `spec` names; all its splits, unless one is named.

    Raises RequestError offline or without the package `datasets`, DataError where the hub does not have it.
    """
    found = _SPEC.fullmatch(spec)
    if not found:
        raise RequestError(
            f"{spec!r} is no name of a data set.", "Write hf:NAME, hf:OWNER/NAME, hf:NAME:CONFIG or hf:NAME@SPLIT."
        )
    if offline():
        raise RequestError(
            f"{spec} would be fetched from the hub, but the network is switched off.",
            "Unset SELFTAUGHT_OFFLINE and HF_HUB_OFFLINE, or give a folder that holds the data.",
        )
    try:
        import datasets
    except ImportError:
        raise RequestError(
            f"{spec} needs the package `datasets`.", "Install it: pip install 'selftaught[hub]'."
        ) from None
    try:
        held = datasets.load_dataset(found["name"], found["config"], split=found["split"])
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{spec} cannot be loaded: {' '.join(str(error).split())[:300]}.",
            "Check the name, the configuration and the split on the hub, and the network.",
        ) from None
    return of_datasets(held if isinstance(held, dict) else {found["split"]: held}, spec)


def of_datasets(splits: dict, title: str) -> Table:
    """A source of {split: datasets.Dataset}."""
    shards = [HubShard(data, str(split)) for split, data in splits.items()]
    key = "/".join(str(data._fingerprint) for data in splits.values())
    return Table(title, None, shards, key)
