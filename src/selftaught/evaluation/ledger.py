"""What a comparison has already done: compare.json and the test scores beside it, so that the same request goes on where it stopped."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..core import DataError, RequestError
from ..train.run import write_text
from .probe import Probed
from .statistics import Scores


def file_name(text: str) -> str:
    """`text` as the name of a file."""
    return re.sub(r"[^A-Za-z0-9.=-]+", "-", text)


class Ledger:
    """compare.json in the contest's folder: the request and a cell for every trial, written as each ends; scores/ holds
    the test scores item by item."""

    def __init__(self, folder: Path, request: dict[str, Any]):
        self.folder, self.file, plain = folder, folder / "compare.json", json.loads(json.dumps(request))
        self.cells: dict[str, dict[str, Any]] = {}
        if self.file.exists():
            try:
                held = json.loads(self.file.read_text("utf-8"))
                self.cells = held["cells"]
                other = [k for k in plain if held["request"].get(k) != plain[k]]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{self.file} is no comparison ({error}).", "Give another --out.") from None
            if other:
                raise RequestError(
                    f"{folder} holds a comparison with another {', '.join(other)}.", "Give another --out, or remove it."
                )
        elif folder.exists() and any(folder.iterdir()):
            raise RequestError(f"{folder} holds other files.", "Give another --out.")
        self.request = plain

    def put(self, name: str, cell: dict[str, Any], **more) -> None:
        self.cells[name] = cell
        self.write(**more)

    def write(self, **more) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.file, json.dumps({"request": self.request, "cells": self.cells, **more}, indent=1) + "\n")

    def keep(self, name: str, probed: Probed) -> None:
        """Writes the test scores of one arm and seed."""
        place = self._scores(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        parts: dict[str, np.ndarray] = {}
        for (probe, budget), held in probed.scores.items():
            parts[f"{probe} {budget}"] = held.numerator
            parts["denominator"] = held.denominator
            parts["range"] = np.array(held.range if held.range is not None else [])
        unfinished = place.with_suffix(".part.npz")
        np.savez_compressed(unfinished, **parts)  # type: ignore[arg-type]
        unfinished.replace(place)

    def kept(self, name: str) -> Probed | None:
        """What `keep` wrote; None where nothing was, or where it is damaged and has to be measured again."""
        try:
            with self._scores(name).open("rb") as file, np.load(file, allow_pickle=False) as parts:
                bounds = tuple(float(x) for x in parts["range"])
                found = Probed()
                for key in parts.files:
                    if key not in ("denominator", "range"):
                        probe, budget = key.rsplit(" ", 1)
                        at = int(budget) if budget.isdigit() else budget
                        found.scores[probe, at] = Scores(parts[key], parts["denominator"], bounds or None)  # type: ignore[arg-type]
                return found
        except (FileNotFoundError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def _scores(self, name: str) -> Path:
        return self.folder / "scores" / f"{file_name(name)}.npz"
