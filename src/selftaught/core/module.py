"""Dataclass modules: an nn.Module whose constructor arguments are documented, plain-data fields.

`Encoder` and `Method` use `adopt` (from `__init_subclass__`) and `begin` (from `__new__`); nothing else needs to know.
Proven under deepcopy, pickle, torch.compile and DDP in tests/core/test_module.py.
"""

import ast
import dataclasses
import inspect
import itertools
import textwrap
import types
import typing

import torch.nn as nn

from .errors import RequestError, nearest

_PLAIN = (bool, int, float, str, type(None))
_OWNED = frozenset(dir(nn.Module)) | {"training"}


def _is_plain(annotation) -> bool:
    origin = typing.get_origin(annotation)
    if origin in (tuple, typing.Union, types.UnionType):
        return all(a is Ellipsis or _is_plain(a) for a in typing.get_args(annotation))
    if origin is typing.Literal:
        return all(isinstance(a, _PLAIN) for a in typing.get_args(annotation))
    return annotation in _PLAIN


def adopt(cls: type) -> None:
    """Makes `cls` a keyword-only dataclass and refuses options that are not plain data or that nn.Module owns."""
    own = inspect.get_annotations(cls, eval_str=True)
    for name, annotation in own.items():
        if typing.get_origin(annotation) is typing.ClassVar or annotation is typing.ClassVar:
            continue
        if name in _OWNED:
            raise TypeError(f"{cls.__name__}.{name}: nn.Module owns this name; call the option something else")
        if not _is_plain(annotation):
            raise TypeError(
                f"{cls.__name__}.{name}: {annotation} is not plain data (bool, int, float, str, None, Literal, tuples "
                "and unions of these); build modules in setup()"
            )
    dataclasses.dataclass(kw_only=True, eq=False, repr=False)(cls)


def begin(cls: type):
    """`__new__` of a dataclass module: nn.Module must be initialised before the generated __init__ assigns fields."""
    self: typing.Any = object.__new__(cls)
    nn.Module.__init__(self)
    return self


def options(module) -> dict:
    """The option values of a dataclass module, in order of declaration."""
    return {f.name: getattr(module, f.name) for f in dataclasses.fields(module)}


def option_docs(cls: type) -> dict[str, str]:
    """{field: the string literal that follows it in the source}: what the command line prints as its help."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        except (OSError, TypeError, SyntaxError):
            continue
        for node, after in itertools.pairwise(body):
            literal = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(node, ast.AnnAssign) and literal and isinstance(after.value.value, str):  # type: ignore[attr-defined]
                docs[node.target.id] = " ".join(after.value.value.split())  # type: ignore[attr-defined, union-attr]
    return docs


def build(cls: type, settings: dict, what: str, **rest):
    """`cls(**settings, **rest)` with an error that names the nearest option, and tuples restored from lists.

    `settings` is checked against the annotations; `rest` is taken as it is."""
    names = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for name, value in settings.items():
        if name not in names:
            raise nearest(name, names, f"option of {what}")
        if not _fits(value, hints[name]):
            raise RequestError(f"{what}: {name} = {value!r} is not {_say(hints[name])}.")
    return cls(**{k: _restore(v) for k, v in settings.items()}, **rest)


def _restore(value):
    return tuple(_restore(v) for v in value) if isinstance(value, list | tuple) else value


def _fits(value, hint) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, a) for a in args)
    if origin is typing.Literal:
        return value in args
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        if len(args) == 2 and args[1] is Ellipsis:
            return all(_fits(v, args[0]) for v in value)
        return len(value) == len(args) and all(_fits(v, a) for v, a in zip(value, args, strict=True))
    if hint is typing.Any:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (None, type(None)):
        return value is None
    return isinstance(value, hint)


def _say(hint) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    return getattr(hint, "__name__", str(hint))
