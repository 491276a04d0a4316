"""`selftaught tasks`"""

import sys
from dataclasses import dataclass

from .. import tasks
from .arguments import Common, parse
from .outcome import emit


@dataclass(kw_only=True)
class Arguments(Common):
    pass


def run(argv: list[str]) -> None:
    arguments = parse(Arguments, argv, "tasks", "The downstream tasks: what finetune, evaluate and predict can do.")
    rows = []
    for name in tasks.names():
        cls = tasks.find(name)
        about = (sys.modules[cls.__module__].__doc__ or "").strip().splitlines()[0]
        rows.append({"name": name, "version": getattr(cls, "version", None), "about": about})
    emit(rows, arguments.json, "\n".join(f"{r['name']:<12}{r['about']}" for r in rows))
