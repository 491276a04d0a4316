"""The exponential moving average of a network: BYOL's target, DINO's and data2vec's teacher."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm


class Teacher(nn.Module):
    """A copy of `student` that follows it: teacher = m teacher + (1 - m) student, m rising from `start` to `end`.

    Parameters are kept in fp32 (fp64 where the student's are) and take no gradient.  The policy for buffers: they are copied
    from the student at each update (an average of a variance is not a variance, and counters cannot be averaged), and the
    teacher runs in eval mode, so without dropout.  With `statistics="batch"` its batch norms use the statistics of the
    batch before them, as in BYOL's paper; everything else stays in eval mode.

    Source: Grill et al. 2020 (arXiv:2006.07733), section 3 for the cosine schedule of m.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        start: float = 0.996,
        end: float = 1.0,
        statistics: Literal["copied", "batch"] = "copied",
    ):
        super().__init__()
        if not 0 <= start <= end <= 1:
            raise ValueError(f"momentum runs from {start} to {end}: it must rise and stay within 0-1")
        self.start, self.end, self.statistics = start, end, statistics
        self.net = copy.deepcopy(student).requires_grad_(False)
        for tensor in [*self.net.parameters(), *self.net.buffers()]:
            if tensor.dtype in (torch.float16, torch.bfloat16):
                tensor.data = tensor.data.float()
        self.train(False)

    def train(self, mode: bool = True) -> Teacher:
        """Stays in eval mode whatever is asked, but for batch norms where `statistics` is "batch" and `mode` holds."""
        super().train(False)
        for module in self.net.modules():
            if isinstance(module, _BatchNorm):
                module.train(mode and self.statistics == "batch")
        return self

    def momentum(self, progress: float) -> float:
        """m at `progress` in 0-1: end - (end - start) (cos(pi progress) + 1) / 2."""
        return self.end - (self.end - self.start) * (math.cos(math.pi * min(max(progress, 0.0), 1.0)) + 1) / 2

    @torch.no_grad()
    def forward(self, *args, **kwargs):
        return self.net(*args, **kwargs)

    @torch.no_grad()
    def update(self, student: nn.Module, progress: float) -> float:
        """Moves towards `student` (after a step that was applied); returns the momentum used."""
        m = self.momentum(progress)
        for mine, theirs in zip(self.net.parameters(), student.parameters(), strict=True):
            mine.lerp_(theirs.detach().to(mine.dtype), 1 - m)
        for own, copied in zip(self.net.buffers(), student.buffers(), strict=True):
            own.copy_(copied)
        return m
