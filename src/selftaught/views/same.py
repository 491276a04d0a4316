"""Which rows of a view are the same: one number a row, equal for equal content."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import Ragged, View, random


def row_keys(view: View) -> Tensor:
    """(B,) int64: a hash of what a row holds, whatever stands beside it and however far it is padded.

    Rows of equal content have equal keys on every rank; others differ but for one in 2^64 pairs.  Zeros and numbers that are not there (NaN)
    count as nothing, as padding does.  Cost: a pass over the parts.
    """
    device = view.device
    total = torch.zeros(len(view), dtype=torch.int64, device=device)
    for name, part in sorted(view.parts.items()):
        if isinstance(part, Ragged):
            raise ValueError(f"the part {name!r} is ragged: its rows cannot be told apart here")
        values = part.double().nan_to_num()
        if "length" in view.parts and part.ndim > 1:  # padding of sounds need not be 0
            behind = torch.arange(part.shape[1], device=device) >= view["length"][:, None]
            values = values.masked_fill(behind.view(*behind.shape, *[1] * (part.ndim - 2)), 0)
        place = torch.zeros((), dtype=torch.int64, device=device)
        for axis in range(1, part.ndim):  # by coordinates, so that a longer axis changes no place
            count = torch.arange(part.shape[axis], device=device)
            place = random.bits(axis, place.unsqueeze(-1) + count) if axis > 1 else random.bits(axis, count)
        mixed = random.bits(random.key("row keys", name), values.contiguous().view(torch.int64) ^ place)
        total = total + torch.where(values == 0, 0, mixed).reshape(len(part), -1).sum(1)
    return total
