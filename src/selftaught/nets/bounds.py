"""Bounds on the numbers of a config that nobody vouches for, before anything is built from it."""

import re

from ..core import ModelError

DEEPEST = 400
"""Layers of the deepest network that is built from a folder."""
LARGEST = 10**8
LONGEST = 4096
_DEEP = re.compile(r"depth|layers|blocks|stages|repeats")


def check(value: object, where: str = "config") -> None:
    """ModelError where an option would cost time or memory before the first tensor: too deep, too large, too long."""
    depth = _walk(value, where)
    if depth > DEEPEST:
        raise ModelError(f"The config asks for {depth:,} layers; {DEEPEST:,} are the most that is built here.")


def _walk(value: object, where: str) -> int:
    if isinstance(value, dict):
        depth = sum(_walk(child, f"{where}.{key}") for key, child in value.items())
        factor = value.get("depth_coefficient", 1)  # EfficientNet multiplies its repeats by it
        return int(depth * max(1, factor)) if isinstance(factor, int | float) else depth
    if isinstance(value, list | tuple):
        if len(value) > LONGEST:
            raise ModelError(f"The setting {where} holds {len(value):,} values; {LONGEST:,} are the most.")
        return sum(_walk(child, where) for child in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) > LARGEST:
            raise ModelError(f"The setting {where} = {str(value)[:20]} is more than any network here has.")
        return int(value) if _DEEP.search(where.rpartition(".")[2]) and value > 0 else 0
    return 0
