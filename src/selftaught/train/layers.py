"""An encoder's layers with a head on top: their learning rates by depth, and their unfreezing one after another."""

from __future__ import annotations

import math

import torch.nn as nn

from ..core import Encoder

STATISTICS = "running_mean"


def stack(model: nn.Module) -> list[list[nn.Parameter]]:
    """What trains in `model.encoder` from input to output in groups, that of `model.head` last; each once, at its first place.

    Parameters that `encoder.layers()` leaves out go with the first group.  Groups without parameters that train are left out.
    """
    encoder: Encoder = model.encoder  # type: ignore[assignment]
    layers = encoder.layers()
    listed = {id(p) for layer in layers for p in layer}
    loose = [p for p in encoder.parameters() if id(p) not in listed]
    head = list(model.head.parameters())  # type: ignore[union-attr, operator]
    seen: set[int] = set()
    stacked = []
    for layer in [*([[*loose, *layers[0]], *layers[1:]] if layers else [loose]), head]:
        own = [p for p in layer if p.requires_grad and not (id(p) in seen or seen.add(id(p)))]  # type: ignore[func-returns-value]
        if own:
            stacked.append(own)
    return stacked


def layer_groups(model: nn.Module, decay: float, weight_decay: float) -> list[dict]:
    """Parameter groups with "lr_scale" = decay^(L - i) for layer i of L from the input, 1 for the head; no decay on vectors.

    Source: Clark et al. 2020 (ELECTRA), as BEiT and MAE count it.
    """
    stacked, groups = stack(model), []
    for depth, layer in enumerate(stacked):
        scale = decay ** (len(stacked) - 1 - depth)
        for some, rate in (([p for p in layer if p.ndim > 1], weight_decay), ([p for p in layer if p.ndim <= 1], 0.0)):
            if some:
                groups.append({"params": some, "lr_scale": scale, "weight_decay": rate})
    return groups


def open_layers(epoch: int, epochs: int, layers: int) -> int:
    """How many of an encoder's `layers`, from the top, are trained in `epoch` (from 0) of `epochs`.

    The head alone first, then one layer more each epoch; several at once where all would not be open by half time.
    Source: Howard & Ruder 2018 (ULMFiT, arXiv 1801.06146), section 3.3.
    """
    each = math.ceil(layers / max(1, epochs // 2))
    return min(layers, epoch * each)


def unfreeze(stacked: list[list[nn.Parameter]], encoder: nn.Module, count: int) -> None:
    """Lets the head and the top `count` layers of `stack` train, and stops the rest: no gradient, no new normalisation statistics.

    A normalisation without parameters keeps its statistics until every layer is open.
    """
    closed = len(stacked) - 1 - count
    for depth, layer in enumerate(stacked):
        for p in layer:
            p.requires_grad_(depth >= closed)
    for module in statistics(encoder):
        own = list(module.parameters(recurse=False))
        module.train(all(p.requires_grad for p in own) if own else closed <= 0)


def statistics(encoder: nn.Module) -> list[nn.Module]:
    """The modules that keep running statistics."""
    return [m for m in encoder.modules() if any(name == STATISTICS for name, _ in m.named_buffers(recurse=False))]
