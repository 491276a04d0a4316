"""A bank of filters over time: convolutions that see all bands at once, and a clip as what they heard in its beginning, middle and end."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Encoder, Tokens, View
from .mel import LogMel
from .sound import Hearing, OverTime, within


class SoundBank(Encoder):
    """Log-mel energies through convolutions over time, with bands as channels; (B, dim) are, of every layer, the means of each channel over `pieces`
    equal stretches of the clip, and its maximum.

    For clips of a word or an event on small machines: every product is a large matrix's, few layers learn much in few steps, and even untrained it hears more than a deep
    network without training does, since its filters are random patterns of pitch over time.  A stretch keeps what came when, which a mean over
    time forgets.  Batch norm counts true frames only; what a clip becomes depends on its true length alone.
    """

    kind: ClassVar[str] = "sound-bank"
    modality: ClassVar[str] = "sound"
    reads: ClassVar[str] = "mel"

    rate: int = 16000
    """Samples a second."""
    bands: int = 64
    """Mel bands."""
    window: float = 0.025
    """Seconds of a frame."""
    hop: float = 0.010
    """Seconds between frames."""
    widths: tuple[int, ...] = (256, 256)
    """Filters of each layer."""
    kernels: tuple[int, ...] = (9, 5)
    """Steps that a filter sees, odd."""
    strides: tuple[int, ...] = (1, 2)
    """Of each layer over time."""
    pieces: int = 3
    """Stretches of a clip whose means are kept apart."""
    mean: tuple[float, ...] = (0.0,)
    """Of the data set's log-mel energies: one number, or one a band."""
    std: tuple[float, ...] = (1.0,)
    """Of the data set's log-mel energies: one number, or one a band."""

    def __post_init__(self):
        if not len(self.widths) == len(self.kernels) == len(self.strides) or not self.widths:
            raise ValueError(f"widths {self.widths}, kernels {self.kernels}, strides {self.strides} must be as many")
        if min(*self.widths, *self.kernels, *self.strides, self.pieces) < 1 or any(k % 2 == 0 for k in self.kernels):
            raise ValueError("widths, kernels, strides and pieces are positive, and kernels odd")
        self.hearing = Hearing(LogMel(self.rate, self.bands, window=self.window, hop=self.hop), self.mean, self.std)
        self.convs, self.norms, inputs = nn.ModuleList(), nn.ModuleList(), self.bands
        for width, kernel, stride in zip(self.widths, self.kernels, self.strides):
            conv = nn.Conv1d(inputs, width, kernel, stride, kernel // 2, bias=False)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            self.convs.append(conv)
            self.norms.append(OverTime(width))
            inputs = width

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"stages"})

    @property
    def dim(self) -> int:
        return sum(self.widths) * (self.pieces + 1)

    def _layers(self, view: View) -> list[tuple[Tensor, Tensor]]:
        """[((B, C, T), (B, T) bool) after every layer], 0 behind the end."""
        x, frames = self.hearing(view)
        keep = within(x.shape[1], frames)
        x, out = x.transpose(1, 2).to(self.convs[0].weight.dtype), []
        for conv, norm, stride in zip(self.convs, self.norms, self.strides):
            keep = keep[:, ::stride]
            x = F.relu(norm(conv(x)[..., None], keep)[..., 0])
            out.append((x * keep[:, None].to(x.dtype), keep))
            x = out[-1][0]
        return out

    def forward(self, view: View) -> Tensor:
        """(B, dim): layer by layer the means of the stretches, then the maximum."""
        found = []
        for x, keep in self._layers(view):
            found += [
                by_stretch(x, keep, self.pieces).flatten(1),
                x.amax(2),
            ]  # after a ReLU padding's 0 is no maximum of its own
        return torch.cat(found, 1)

    def features(self, view: View) -> list[Tokens]:
        """After every layer: a token for every step of time."""
        return [Tokens(x.transpose(1, 2), keep, grid=(x.shape[2],)) for x, keep in self._layers(view)]

    def layers(self) -> list[list[nn.Parameter]]:
        return [[*conv.parameters(), *norm.parameters()] for conv, norm in zip(self.convs, self.norms)]


def by_stretch(x: Tensor, keep: Tensor, pieces: int) -> Tensor:
    """(B, pieces, C): the means of (B, C, T) over equal stretches of each row's valid steps (`keep` (B, T) bool); step t of n lies in stretch t x pieces // n,
    and one without any step is 0."""
    step = torch.arange(x.shape[2], device=x.device) * pieces
    piece = torch.div(step, keep.sum(1, keepdim=True).clamp_min(1), rounding_mode="floor")
    share = ((piece[:, None] == torch.arange(pieces, device=x.device)[:, None]) & keep[:, None]).to(x.dtype)
    return share @ x.transpose(1, 2) / share.sum(2, keepdim=True).clamp_min(1)
