"""Facts about a dataset for `selftaught look`: plain data in the shape of its `--json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import DataError
from . import corpus, recordings
from .bad import Bad
from .dataset import Dataset
from .duplicates import count_duplicates
from .pictures import picture_size
from .sniff import guess_group, guess_label
from .sounds import facts

_SAMPLE = 1000
"""Rows whose sizes are looked at."""
_SHOWN = 20
"""Rejected rows and classes that are listed."""

Suggest = Callable[[Dataset], dict]
"""suggest(dataset) -> {"command", "seconds"}: comes from above, where methods and the machine's speed are known."""


def look(dataset: Dataset, *, suggest: Suggest | None = None, duplicates: bool = True) -> dict[str, Any]:
    """What the data are and what is wrong with them.

    {"name", "modality", "column", "rows", "labels": {"column", "why", "classes", "counts", "missing"} or None,
    "rejected": count, "rejected_kinds", "rejected_rows", "duplicates": {"exact", "near", "asked"}, "groups": {"column", "why",
    "count"} or None, "sizes": {quantity: {"least", "median", "most"}}, "texts": of texts alone, see corpus.inspect, "sounds": of sounds alone, see recordings.inspect, "columns", "notes", "fingerprint", "suggestion"}.
    Open the dataset with max_bad=1, so that broken data can be looked at.
    """
    counted = count_duplicates(dataset) if duplicates else None
    texts = dataset.source.columns[dataset.column] == "text"
    heard = len(dataset) > 0 and "wave" in dataset.fetch([0]).parts
    copies = (counted.exact, counted.near or 0) if counted else (0, 0)
    return {
        "name": dataset.name,
        "modality": dataset.modality.name,
        "column": dataset.column,
        "rows": len(dataset),
        "labels": _labels(dataset),
        "rejected": len(dataset.rejected),
        "rejected_kinds": dataset.rejected.kinds(),
        "rejected_rows": list(dataset.rejected[:_SHOWN]),
        "duplicates": None
        if counted is None
        else {"exact": counted.exact, "near": counted.near, "asked": counted.asked},
        "groups": _groups(dataset),
        "sizes": sizes(dataset),
        **({"texts": corpus.inspect(dataset, repeated=copies[0], near=copies[1])} if texts else {}),
        **({"sounds": recordings.inspect(dataset)} if heard else {}),
        "columns": dataset.columns,
        "notes": list(dataset.notes),
        "fingerprint": dataset.fingerprint,
        "suggestion": None if suggest is None else suggest(dataset),
    }


def _labels(dataset: Dataset) -> dict | None:
    guess = guess_label(dataset.source)
    if guess is None:
        return None
    column, why = guess
    try:
        labels = dataset.labels(column)
    except DataError as error:
        return {"column": column, "why": why, "problem": error.message}
    counts = dict(sorted(labels.counts().items(), key=lambda item: -item[1])[:_SHOWN])
    return {
        "column": column,
        "why": why,
        "classes": None if labels.classes is None else len(labels.classes),
        "counts": counts,
        "missing": int((~labels.known).sum()),
    }


def _groups(dataset: Dataset) -> dict | None:
    guess = guess_group(dataset.source)
    if guess is None:
        return None
    found = dataset.groups(guess[0])
    return {"column": guess[0], "why": guess[1], "count": 0 if found is None else len(np.unique(found))}


def sizes(dataset: Dataset) -> dict[str, dict[str, float]]:
    """{quantity: {"least", "median", "most"}} of a sample of rows as they lie in the source."""
    source, kind = dataset.source, dataset.source.columns[dataset.column]
    count = min(source.rows, _SAMPLE)
    rows = np.linspace(0, source.rows - 1, count).astype(np.int64) if source.random_access else np.arange(count)
    found: dict[str, list[float]] = {}
    for payload in source.payloads(dataset.column, np.unique(rows)):
        if isinstance(payload, Bad):
            continue
        try:
            for name, value in _measures(payload, kind).items():
                found.setdefault(name, []).append(value)
        except Bad:
            continue  # counted among the rejected
    return {
        name: {"least": float(np.min(v)), "median": float(np.median(v)), "most": float(np.max(v))}
        for name, v in found.items()
    }


def _measures(payload, kind: str) -> dict[str, float]:
    if kind == "image":
        width, height = picture_size(payload)
        return {
            "width": width,
            "height": height,
            "bytes": payload.nbytes if isinstance(payload, np.ndarray) else len(payload),
        }
    if kind == "sound":
        return {"seconds": facts(payload).seconds}
    if kind == "text":
        return {"characters": len(payload), "words": len(str(payload).split())}
    if isinstance(payload, np.ndarray):
        return {"values": payload.size, "longest_axis": max(payload.shape)}
    return {"bytes": len(payload)}
