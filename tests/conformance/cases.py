"""Every method x modality that fits: the real modalities on their own toy sets, with encoders of width 16, in float64."""

import atexit
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selftaught import methods, modalities
from selftaught.core import Batch, Draw, Encoder, Facts, Kept, Method, View
from selftaught.data.dataset import Dataset
from selftaught.data.opening import open_source
from selftaught.nets import dropout, store

ROWS, SEED, STEP, PROGRESS = 8, 3, 5, 0.5
SIZES = {"image": 16, "text": 16, "series": 48, "sound": 240}  # side, tokens, steps, milliseconds
TINY = {
    "image": {
        "tokens": {"width": 16, "depth": 1, "heads": 2},
        "plain": {"widths": (8, 16), "blocks": (1, 1), "strides": (1, 2), "stem": 8},
    },
    "text": {"tokens": {"width": 16, "depth": 1, "heads": 2}, "plain": {"width": 16, "depth": 1, "heads": 2}},
    "sound": {
        "tokens": {"width": 16, "depth": 1, "heads": 2},
        "plain": {"widths": (6, 5), "kernels": (5, 3)},
        "stem": {"channels": (8,), "width": 16, "depth": 2, "heads": 2, "position_kernel": 4, "position_groups": 2},
    },
    "series": {"tokens": {"width": 16, "depth": 1, "heads": 2}, "plain": {"width": 8, "depth": 2}},
}
"""Encoder options by modality, where a method needs tokens and where it does not.  A new modality adds a line here and in SIZES."""


@dataclass(frozen=True)
class Case:
    method: str
    modality: str
    given: tuple[tuple[str, Any], ...] = ()
    """Options other than the defaults."""
    network: tuple[tuple[str, Any], ...] = ()
    """Options of the encoder other than TINY's."""

    @property
    def name(self) -> str:
        return "-".join([self.method, self.modality, *(f"{k}={v}" for k, v in (*self.given, *self.network))])

    def make(self, rows: int = ROWS, dtype: torch.dtype = torch.float64, **options) -> tuple[Method, Batch]:
        """A fresh method, set up and in train mode, and its views of the first rows of the toy set."""
        options = {**required(self.method, self.modality), **dict(self.given), **options}
        modality, view = toy(self.modality, rows)
        cls = methods.find(self.method)
        facts = Facts(rows=rows, modality=modality, sample=view)
        torch.manual_seed(1)
        method = cls(**options).setup(encoder(facts, cls.needs, **dict(self.network)), facts).to(dtype)
        dropout.switch_on(method, 0.0)  # processes and micro-batches drop different numbers: they are compared without
        index = torch.arange(rows)
        views = [
            replace(lifted(spec.transform(view, Draw(index, SEED, STEP, n, PROGRESS)), dtype), role=spec.role)
            for n, spec in enumerate(method.views(facts))
        ]
        return method.train(), Batch(views, index, SEED, STEP, PROGRESS)


def required(method: str, modality: str) -> dict[str, Any]:
    """Options without which a method does nothing, or its loss is too steep for a toy's steps."""
    given = {"distil": lambda: {"teacher": teacher(modality)}, "simcse": lambda: {"temperature": 0.5}}
    return given.get(method, dict)()


@cache
def teacher(modality: str) -> str:
    """The folder of an encoder for the toy set of `modality`; removed when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="selftaught-teacher-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    kind, view = toy(modality, ROWS)
    torch.manual_seed(7)
    network = encoder(Facts(rows=ROWS, modality=kind, sample=view), frozenset())
    return str(store.save(folder / "encoder", Kept(network), fill=kind.save))


@cache
def toy(name: str, rows: int) -> tuple[Any, View]:
    """The modality fitted to its toy set, and the raw view of the first rows."""
    cls = modalities.find(name)
    payloads, _ = cls.toy(64, 0)
    source = open_source(payloads)
    (column,) = source.columns
    modality = cls.fit(source, column, size=SIZES[name])
    return modality, Dataset.from_arrays(payloads, modality).fetch(np.arange(rows))


def encoder(facts: Facts, needs: frozenset[str], **options) -> Encoder:
    kind = "tokens" if needs & {"tokens", "mask", "causal"} else "stem" if "stem" in needs else "plain"
    return facts.modality.encoder(facts, needs, None, **TINY[facts.modality.name][kind], **options)


def lifted(view: View, dtype: torch.dtype) -> View:
    """The view with its floating-point parts in `dtype`."""
    return view.with_parts(**{k: v.to(dtype) for k, v in view.parts.items() if v.is_floating_point()})


def cases() -> list[Case]:
    """The gradient methods' part of the grid."""
    return [Case(row["name"], name) for row in methods.grid() if not row["closed_form"] for name in row["modalities"]]
