"""`selftaught methods`"""

import textwrap
from dataclasses import dataclass
from typing import Annotated

import tyro

from .. import methods
from .arguments import Common, parse
from .outcome import emit


@dataclass(kw_only=True)
class Arguments(Common):
    name: Annotated[str | None, tyro.conf.Positional] = None
    """Tell all about one method."""


def run(argv: list[str]) -> None:
    arguments = parse(
        Arguments, argv, "methods", "The pretext tasks, and which kinds of data each can carry: printed from the code."
    )
    if arguments.name:
        cls = methods.find(arguments.name)
        emit(methods.describe(cls), arguments.json, methods.page(cls))
        return
    grid = methods.grid()
    modalities = sorted({m for row in grid for m in row["modalities"]} | {"image", "text", "series"})
    lines = [f"{'method':<18}{'family':<15}" + "".join(f"{m:<9}" for m in modalities) + "paper"]
    for row in grid:
        marks = "".join(f"{'yes' if m in row['modalities'] else '-':<9}" for m in modalities)
        lines.append(f"{row['name']:<18}{row['family']:<15}{marks}{textwrap.shorten(row['paper'], 60)}")
    emit(grid, arguments.json, "\n".join(lines))
