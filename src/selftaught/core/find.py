"""Finding methods, tasks and modalities: by file name in their package, and by entry point from other packages."""

import importlib
import importlib.metadata
import pkgutil
from functools import cache

from .errors import ModelError, nearest


def slug(name: str) -> str:
    return name.replace("_", "-")


@cache
def names(package: str) -> dict[str, str]:
    """{slug: "module" or entry point "module:object"} without importing any of them."""
    folder = importlib.import_module(package)
    found = {slug(m.name): f"{package}.{m.name}" for m in pkgutil.iter_modules(folder.__path__) if m.name[0] != "_"}
    for point in importlib.metadata.entry_points(group=package):
        found.setdefault(slug(point.name), point.value)
    return dict(sorted(found.items()))


def _load(value: str, base: type | tuple[type, ...]) -> type:
    path, _, attribute = value.partition(":")
    module = importlib.import_module(path)
    if attribute:
        return getattr(module, attribute)
    own = [
        c for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, base) and c.__module__ == path and not c.__name__.startswith("_")
    ]  # fmt: skip
    if len(own) != 1:
        raise ModelError(f"{path} defines {len(own)} of {base}; a file holds exactly one.")
    return own[0]


@cache
def everything(package: str, base: type | tuple[type, ...]) -> dict[str, type]:
    """{slug: class} of all that the package and entry points offer."""
    return {name: _load(value, base) for name, value in names(package).items()}


def find(package: str, name: str, base: type | tuple[type, ...], what: str) -> type:
    """The class of `name`: a slug, its spelling with underscores, or one of its `aliases`."""
    wanted = slug(name.lower())
    if wanted in names(package):
        return _load(names(package)[wanted], base)
    aliases = {a: n for n, c in everything(package, base).items() for a in getattr(c, "aliases", ())}
    if wanted in aliases:
        return _load(names(package)[aliases[wanted]], base)
    raise nearest(name, [*names(package), *aliases], what)
