"""labels.json: what a model folder says of its task, written by every model that `finetune` and `cluster` keep."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import nets, tasks
from ..core import Kept, ModelError, module
from ..core.errors import SelftaughtError
from ..core.task import Task
from ..nets import files

NAME = nets.store.LABELS
AGAIN = "Finetune the model again."


@dataclass(frozen=True)
class LabelFile:
    """What was read: the model folder, the task, and all that the file holds."""

    home: Path
    task: Task
    held: dict[str, Any]

    @property
    def result(self) -> dict[str, Any]:
        """What was measured of the model."""
        found = self.held.get("result")
        return found if isinstance(found, dict) else {}


def write(folder: str | Path, kept: Kept, task: Task, result: dict[str, Any], modality, **more: Any) -> Path:
    """Writes a model folder: the weights, the modality's own files, and labels.json with the task, its options, `more` and what was measured."""
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(task).items()}
    held = {"task": tasks.name_of(task), "version": task.version, "options": options, **more, "result": result}
    return nets.store.save(folder, kept, sides={NAME: held}, fill=modality.save)


def task_name(folder: str | Path) -> str | None:
    """The name of the task in a model folder, known here or not; None where the folder holds an encoder alone."""
    home = nets.store.find(folder)
    return str(files.read_json(home, NAME).get("task")) if (home / NAME).is_file() else None


def read(folder: str | Path, wants: Collection[str], remedy: str = AGAIN) -> LabelFile | None:
    """labels.json of a model folder whose task asks for one of `wants` (`Task.wants`); None where it is another task's, or not there.

    ModelError where it is broken or of another version of the task."""
    home, name = nets.store.find(folder), task_name(folder)
    if name not in tasks.names() or (kind := tasks.find(str(name))).wants not in wants:
        return None
    held = files.read_json(home, NAME)
    with checked(folder, remedy):
        task = module.build(kind, dict(held["options"]), f"the task in {NAME}")
        if held.get("version") != kind.version:
            raise ValueError(f"it is of version {held.get('version')!r}; {kind.version} is read here")
    return LabelFile(home, task, held)


@contextmanager
def checked(folder: str | Path, remedy: str = AGAIN) -> Iterator[None]:
    """ModelError, with the folder and the remedy, for what is missing in labels.json or does not fit."""
    try:
        yield
    except (SelftaughtError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{NAME} in {str(folder)!r} is broken: {error}", remedy) from None
