"""The places of a network where numbers are dropped while it trains, and how many are."""

from __future__ import annotations

import dataclasses

import torch.nn as nn


def places(network: nn.Module) -> list[nn.Dropout]:
    """The dropout layers, those at 0 included."""
    return [m for m in network.modules() if isinstance(m, nn.Dropout)]


def strongest(network: nn.Module) -> float:
    """The largest share that any place drops; 0 where there is none."""
    return max((place.p for place in places(network)), default=0.0)


def switch_on(network: nn.Module, share: float) -> int:
    """Sets every place to `share`, and the option `dropout` of the networks that have one, so that a saved config says it; how many places."""
    for module in network.modules():
        if dataclasses.is_dataclass(module) and any(f.name == "dropout" for f in dataclasses.fields(module)):
            module.dropout = share  # type: ignore[assignment, union-attr]
    found = places(network)
    for place in found:
        place.p = share
    return len(found)
