"""Configuration as nested plain data <-> TOML, and `a.b=c` assignments.  Reading is tomllib; writing is 30 lines."""

import json
import math
import tomllib
from collections.abc import Iterable
from pathlib import Path

from .errors import RequestError


def _value(value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    raise TypeError(f"{type(value).__name__} has no TOML form")


def _key(key: str) -> str:
    return key if key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key) else _value(key)


def dumps(config: dict, path: tuple[str, ...] = ()) -> str:
    """TOML text of nested dicts of plain data; None is left out (absent means the default)."""
    lines = [f"{_key(k)} = {_value(v)}" for k, v in config.items() if not isinstance(v, dict) and v is not None]
    head = [f"[{'.'.join(map(_key, path))}]"] if path and (lines or not config) else []
    tables = [dumps(v, (*path, k)) for k, v in config.items() if isinstance(v, dict)]
    return "\n".join(["\n".join(head + lines), *tables]).strip("\n") + "\n"


def load(path: str | Path) -> dict:
    """A TOML file as nested dicts."""
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise RequestError(f"There is no file {str(path)!r}.", "Give the path of a TOML file to --config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{str(path)!r} is not TOML: {error}.") from None


def assign(config: dict, assignments: Iterable[str]) -> dict:
    """A copy of `config` with every "a.b=value" set; values are TOML, and text that is not TOML is a string."""
    out = json.loads(json.dumps(config))
    for text in assignments:
        name, equals, raw = text.partition("=")
        if not equals or not name.strip():
            raise RequestError(
                f"--set {text!r} is no assignment.", "Write --set name=value, for example --set recipe.lr=0.003."
            )
        try:
            value = tomllib.loads(f"x = {raw}")["x"]
        except tomllib.TOMLDecodeError:
            value = raw
        *parents, last = name.strip().split(".")
        table = out
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise RequestError(f"--set {text!r}: {parent!r} is a value, not a table.")
        table[last] = value
    return out


def merge(*configs: dict) -> dict:
    """Nested dicts over one another; the later wins, None never does."""
    out: dict = {}
    for config in configs:
        for key, value in config.items():
            if isinstance(value, dict):
                out[key] = merge(out.get(key) if isinstance(out.get(key), dict) else {}, value)  # type: ignore[arg-type]
            elif value is not None:
                out[key] = value
    return out
