"""A ring of old rows: MoCo's keys, NNCLR's support set."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class Queue(nn.Module):
    """The last `size` rows (size, width) that were pushed; random unit vectors before, so that it is never empty.

    Buffers, so that a checkpoint holds them.  `push` belongs into `after_step` and takes the rows of all ranks, in rank
    order, so that every rank keeps the same queue.
    """

    rows: Tensor
    oldest: Tensor

    def __init__(self, size: int, width: int):
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, rows: Tensor | None) -> None:
        """The oldest rows make room; of more rows than fit, the last stay."""
        if rows is None:
            return
        size = len(self.rows)
        new = rows[-size:].to(self.rows.dtype)
        places = (self.oldest + torch.arange(len(new), device=new.device)) % size
        self.rows[places] = new
        self.oldest.copy_((self.oldest + len(new)) % size)
