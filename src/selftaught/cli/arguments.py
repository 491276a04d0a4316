"""Arguments by tyro, from dataclasses: what every command shares, and the chosen method's options as flat flags."""

import dataclasses
import sys
import typing
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import tyro

from ..core import config, module
from ..core.errors import RequestError

T = TypeVar("T")


@dataclass(kw_only=True)
class Common:
    """What every command understands."""

    json: bool = False
    """The result as JSON on stdout, nothing else there."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=("-q",))] = False
    """No progress and no words."""
    verbose: Annotated[bool, tyro.conf.arg(aliases=("-v",))] = False
    """The whole trace where something fails."""


def parse(kind: type[T], argv: list[str], command: str, description: str) -> T:
    """`argv` as a `kind`; flags are spelled with hyphens, booleans have no --no- twin, a wrong flag exits with 2."""
    settings = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
    return tyro.cli(kind, args=argv, prog=f"selftaught {command}", description=description, config=settings)


def with_options(kind: type, method: type) -> type:
    """`kind` with the options of `method` as further flags (those whose names it does not have yet)."""
    taken = {f.name for f in dataclasses.fields(kind)}
    docs, hints = module.option_docs(method), typing.get_type_hints(method)
    fields: list[Any] = []
    for f in dataclasses.fields(method):
        if f.name not in taken:
            text = f"({method.__name__}) {docs.get(f.name, '')}"
            fields.append(
                (
                    f.name,
                    Annotated[hints[f.name], tyro.conf.arg(help=text)],
                    dataclasses.field(default=f.default, kw_only=True),
                )
            )
    return dataclasses.make_dataclass(kind.__name__, fields, bases=(kind,), kw_only=True)


def refuse(arguments, names: tuple[str, ...], served: str) -> None:
    """RequestError where a flag of `names` was given, which is for other tasks than the one that was named."""
    for name in names:
        if getattr(arguments, name):
            raise RequestError(
                f"--{name.replace('_', '-')} is for {served}.", "Leave it out, or name such a task with --task."
            )


def wanted(argv: list[str], flag: str) -> str | None:
    """The value of `--flag VALUE` or `--flag=VALUE` before parsing: the method decides which flags there are."""
    for at, word in enumerate(argv):
        if word == flag and at + 1 < len(argv):
            return argv[at + 1]
        if word.startswith(flag + "="):
            return word.partition("=")[2]
    return None


def from_file(path: str | None, assignments: tuple[str, ...]) -> dict:
    """--config FILE under --set a.b=c."""
    return config.assign(config.load(path) if path else {}, assignments)


def given(argv: list[str] | None = None) -> set[str]:
    """Names of the flags that were typed: only these win over a --config file."""
    words = sys.argv[1:] if argv is None else argv
    return {w[2:].partition("=")[0].replace("-", "_") for w in words if w.startswith("--")}
