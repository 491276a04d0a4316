"""Two players in one backward pass: a critic's scores as the critic learns from them, and as its opponents do.

Let C be the critic, p its parameters and a what an opponent made.  The critic's loss is taken of C(p, sg a), the opponent's of C(sg p, a), with sg the
stopped gradient.  The gradient of their sum is then, exactly, the critic's own loss by p and the opponent's own loss by whatever made a; neither
contains a term of the other, whatever the two losses are and whatever rows share inside the critic (batch statistics).  So one optimiser moves both sides at
once, as Donahue et al. 2017 do, and the loop needs to know of no game.
"""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor
from torch.func import functional_call

from ..core import Encoder, View


def frozen(net: nn.Module, *arguments):
    """net(*arguments) with its parameters as constants: gradients reach the arguments alone.  Statistics move as ever."""
    return functional_call(net, {name: p.detach() for name, p in net.named_parameters()}, arguments)


def judged(
    trunk: Encoder, head: nn.Module, view: View, code: Tensor | None = None, *, learns: bool
) -> tuple[Tensor, Tensor]:
    """(B,) scores, log-odds of being real, of pictures (with their codes (B, K)) and (B, D) the trunk's features.

    learns: with gradient to `trunk` and `head` alone; else to the pixels and codes alone.
    """
    if learns:
        view = view.with_parts(**{name: part.detach() for name, part in view.parts.items()})  # type: ignore[union-attr]
        features = trunk(view)
        told = features if code is None else torch.cat([features, code.detach()], 1)
        return head(told).squeeze(1), features
    features = frozen(trunk, view)
    told = features if code is None else torch.cat([features, code], 1)
    return frozen(head, told).squeeze(1), features
