"""Tiny networks and data in memory, for tests of the protocol alone: a modality of plain vectors."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import torch.nn as nn

from selftaught.core import Encoder, Tokens, View, random
from selftaught.data.labels import Labels


def noise(rows: int, width: int, key: int = 0) -> np.ndarray:
    return random.normal(key, torch.arange(rows), (width,)).numpy()


@dataclass(frozen=True)
class Vectors:
    """Rows are float vectors; a clean view is the vector itself."""

    name: ClassVar[str] = "vectors"
    offers: ClassVar[frozenset] = frozenset()
    width: int = 8

    def plain(self, facts=None):
        return lambda view, draw: view

    def mild(self, facts=None):
        return lambda view, draw: view.with_parts(values=view["values"] + 0.05 * draw.normal("mild", self.width))

    def raw(self, view):
        return view["values"].float()

    def config(self):
        return {"name": self.name, "width": self.width}


@dataclass
class Rows:
    """The part of data.Dataset that evaluation asks for."""

    x: np.ndarray
    y: np.ndarray | None = None
    ids: np.ndarray = None
    group: np.ndarray | None = None
    classes: tuple | None = None
    columns: dict = field(default_factory=dict)
    fingerprint: str = "toy"

    def __post_init__(self):
        self.modality = Vectors(self.x.shape[1])
        self.ids = np.arange(len(self.x)) if self.ids is None else self.ids

    def __len__(self):
        return len(self.x)

    def rows(self, places):
        return self.x[places]

    def fetch(self, places):
        return View("vectors", parts={"values": torch.from_numpy(np.ascontiguousarray(self.x[places]))})

    def names(self, places=None):
        return [f"row {i}" for i in (self.ids if places is None else self.ids[places])]

    def source_rows(self, places=None):
        return self.ids if places is None else self.ids[places]

    def labels(self, column=None, kind=None):
        classes = self.classes or (tuple(map(str, range(int(self.y.max()) + 1))) if self.y.dtype.kind == "i" else None)
        return Labels(self.y, classes, column or "label")

    def groups(self, column=None, *, but=None):
        return self.group

    def values(self, column):
        return np.array([None if g < 0 else f"g{g}" for g in self.group], dtype=object)

    def subset(self, places):
        at = lambda v: None if v is None else v[places]  # noqa: E731
        return Rows(self.x[places], at(self.y), self.ids[places], at(self.group), self.classes, self.columns, self.fingerprint + "part")  # fmt: skip


class Net(Encoder):
    """Two layers with batch norm and dropout between them, so that a forgotten eval() shows."""

    kind: ClassVar[str] = "toy-net"
    modality: ClassVar[str] = "vectors"
    width: int = 8
    hidden: int = 16

    def __post_init__(self):
        self.first = nn.Linear(self.width, self.hidden)
        self.norm = nn.BatchNorm1d(self.hidden)
        self.drop = nn.Dropout(0.3)
        self.second = nn.Linear(self.hidden, self.hidden)

    @property
    def dim(self):
        return self.hidden

    @property
    def can(self):
        return frozenset({"stages"})

    def _stages(self, view):
        first = self.drop(torch.relu(self.norm(self.first(view["values"]))))
        return first, self.second(first)

    def forward(self, view):
        return self._stages(view)[1]

    def features(self, view):
        return [Tokens(x[:, None]) for x in self._stages(view)]

    def layers(self):
        return [list(self.first.parameters()), list(self.norm.parameters()), list(self.second.parameters())]


class Linear(Encoder):
    """A fixed linear map: features whose worth is planted."""

    kind: ClassVar[str] = "toy-linear"
    modality: ClassVar[str] = "vectors"
    width: int = 8
    hidden: int = 8

    def __post_init__(self):
        self.map = nn.Linear(self.width, self.hidden, bias=False)

    @property
    def dim(self):
        return self.hidden

    def forward(self, view):
        return self.map(view["values"])


def net(width: int = 8, hidden: int = 16, seed: int = 0) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(width=width, hidden=hidden)
