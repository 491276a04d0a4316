"""Tasks that are no label of a whole row, and who serves them: `finetune`, `load_model` and `predict` ask here.

A module serves a kind of task (`Task.wants`) with a plan, a function that finetunes, one that loads a model folder (None where it is not one of its own) and one that
predicts, all with the arguments that `finetune` and `predict` share.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import tasks
from ..train.finetune import Plan
from . import label_file


@dataclass(frozen=True)
class Service:
    """A module of this room, its functions by name, and the further arguments that its `finetune` takes."""

    module: str
    ending: str
    options: tuple[str, ...] = ()
    predicts: str = ""
    """The module that predicts, where it is another one."""
    also: tuple[str, ...] = ()
    """Of what tasks of whole rows take, what this one takes too."""
    usual: str = "PLAN"
    """The name of its plan."""
    curve: str = ""
    """The module and function that draw a label curve, "module:function"."""

    def _get(self, name: str) -> Any:
        return getattr(importlib.import_module(f".{self.module}", __package__), name)

    @property
    def plan(self) -> Plan:
        """How it trains unless told otherwise."""
        return self._get(self.usual)

    @property
    def finetune(self) -> Callable[..., Any]:
        return self._get(f"finetune_{self.ending}")

    @property
    def load(self) -> Callable[..., Any]:
        return self._get(f"load_{self.ending}")

    @property
    def draw_curve(self) -> Callable[..., Any] | None:
        """The function that finetunes with few labels, pretrained and from scratch; None where there is none."""
        if not self.curve:
            return None
        module, _, name = self.curve.partition(":")
        return getattr(importlib.import_module(f".{module}", __package__), name)

    @property
    def predict(self) -> Callable[..., Any]:
        return getattr(
            importlib.import_module(f".{self.predicts or self.module}", __package__), f"predict_{self.ending}"
        )


_DENSE = Service("dense", "dense", ("boxes", "ignore", "size"))
_SPANS = Service("spans", "spans", predicts="span_predict")
_CLIPS = Service(
    "clips", "clips", ("beams", "upsample", "normaliser"), predicts="clip_predict", also=("pool", "curve", "layer_decay", "views"), curve="clip_curve:clip_curve"
)  # fmt: skip
SERVICES = {
    "boxes": _DENSE,
    "mask": _DENSE,
    "tags": _SPANS,
    "answers": _SPANS,
    "pair": Service("pair_models", "pairs", also=("schedule", "layer_decay")),
    "text": Service("sequences", "sequences", ("beams", "length_penalty", "longest")),
    "transcript": replace(_CLIPS, usual="SPELLING"),
    "frames": replace(_CLIPS, options=()),
    "nothing": Service("cluster_models", "clusters"),
}
"""{what a task wants: who serves it}; other tasks are served by adapt and predict themselves."""


def service(task: str | None) -> Service | None:
    """Who serves the task of this name; None for tasks of whole rows, and where none is named."""
    return None if task is None else SERVICES.get(tasks.find(task).wants)


def tasks_of(option: str) -> list[str]:
    """The tasks whose `finetune` takes `option`."""
    return [name for name in tasks.names() if (own := service(name)) is not None and option in own.options]


def load(folder: str | Path) -> Any:
    """The model in a folder whose task is served elsewhere; None where it is a model of whole rows, or no model."""
    name = label_file.task_name(folder)
    own = service(name) if name in tasks.names() else None
    return None if own is None else own.load(folder)
