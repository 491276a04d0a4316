"""Encoders of sound on log-mel energies: a transformer over stretches of frames, and a small residual network over time and pitch.

Both take waves (and make the energies themselves) or energies that a view has changed already.  A clip's representation depends on its
true length alone: padding is silenced before every operation that reaches across time.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Encoder, RequestError, Tokens, View
from .mel import LogMel
from .norm import BatchNorm1d
from .trunk import Blocks, part, replace_masked


def heard(view: View, front: LogMel) -> tuple[Tensor, Tensor]:
    """(B, T, bands) log-mel energies and (B,) frames of a view that holds "mel", or a "wave" that goes through `front`."""
    if "mel" in view.parts:
        return view["mel"], view["length"]
    if "wave" not in view.parts:
        raise RequestError("An encoder of sound meets data of another kind.", "Give sounds: WAV, FLAC, OGG, MP3.")
    return front(view["wave"], view["length"])


def within(count: int, length: Tensor) -> Tensor:
    """(B, count) bool, True in front of each row's `length`."""
    return torch.arange(count, device=length.device) < length[:, None]


class Hearing(nn.Module):
    """A view -> (B, T, bands) energies normalised by the data set's mean and deviation of each band, 0 behind the end, and (B,) frames."""

    shift: Tensor
    scale: Tensor

    def __init__(self, front: LogMel, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        if any(len(v) not in (1, front.bands) for v in (mean, std)) or not all(s > 0 for s in std):
            raise RequestError(
                f"{len(mean)} means and {len(std)} deviations do not fit {front.bands} bands.",
                "Give one number, or one a band; every deviation is above 0.",
            )
        self.front = front
        self.register_buffer("shift", torch.tensor(mean), persistent=False)
        self.register_buffer("scale", torch.tensor(std), persistent=False)

    def forward(self, view: View) -> tuple[Tensor, Tensor]:
        mel, frames = heard(view, self.front)
        if mel.shape[-1] != self.front.bands:
            raise RequestError(
                f"Energies of {mel.shape[-1]} bands meet an encoder of {self.front.bands}.",
                "Give the modality and the encoder the same bands.",
            )
        x = (mel.to(self.shift.dtype) - self.shift) / self.scale
        return x.masked_fill(~within(x.shape[1], frames)[..., None], 0.0), frames


def stacked(x: Tensor, frames: Tensor, stack: int) -> tuple[Tensor, Tensor]:
    """(B, T, bands) -> (B, ceil(T / stack), stack x bands), zeros behind the end, and (B,) how many of them reach into each row."""
    x = F.pad(x, (0, 0, 0, -x.shape[1] % stack))
    return x.unflatten(1, (-1, stack)).flatten(2), torch.div(frames + stack - 1, stack, rounding_mode="floor")


class OverTime(BatchNorm1d):
    """Batch norm of (B, C, T, F) over the frames that are there (`keep` (B, T)); 0 where there is none."""

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:  # type: ignore[override]
        rows, channels, time, bands = x.shape
        if not self.training or (keep.device.type == "cpu" and bool(keep.all())):
            y = super().forward(x.reshape(rows, channels, time * bands)).view_as(x)
            return y * keep[:, None, :, None].to(y.dtype)
        there = keep.flatten().nonzero()[:, 0]
        flat = x.permute(0, 2, 1, 3).reshape(rows * time, channels, bands)
        y = torch.zeros_like(flat).index_copy(0, there, super().forward(flat[there]))
        return y.view(rows, time, channels, bands).permute(0, 2, 1, 3)


class Widen(nn.Conv2d):
    """A 1 x 1 convolution with a stride that is safe with few channels: the backward pass of torch 2.13 on a processor writes beyond its memory where fewer than
    8 channels are read by weights in channels-last order."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.in_channels >= 8 else self.weight.clone(memory_format=torch.contiguous_format)
        return self._conv_forward(x, weight, self.bias)


class SoundBlock(nn.Module):
    """Two 3 x 3 convolutions over time and pitch beside a shortcut; `stride` of (time, pitch)."""

    def __init__(self, inputs: int, width: int, stride: tuple[int, int]):
        super().__init__()
        self.stride = stride
        self.conv1, self.norm1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), OverTime(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), OverTime(width)
        self.widen = Widen(inputs, width, 1, stride, bias=False)

    def forward(self, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        keep = keep[:, :: self.stride[0]]
        y = F.relu(self.norm1(self.conv1(x), keep))
        y = self.norm2(self.conv2(y), keep) + self.widen(x)
        return F.relu(y) * keep[:, None, :, None].to(y.dtype), keep


class Subsampling(nn.Module):
    """(B, T, bands) energies and (B,) frames -> (B, ceil(T / stack), width) and how many of these are each row's: a convolution over time and pitch, then residual
    blocks that halve both, as often as `stack` says (after the convolutional subsampling of Conformer, Gulati et al. 2020).  Batch norm counts true frames only."""

    def __init__(self, bands: int, stack: int, width: int, channels: int = 32):
        super().__init__()
        halvings = stack.bit_length() - 1
        if 2**halvings != stack or halvings < 1:
            raise ValueError(f"stem = conv halves time again and again: stack is 2, 4 or 8, not {stack}")
        self.conv, self.norm = nn.Conv2d(1, channels, 5, (1, 2), 2, bias=False), OverTime(channels)
        widths = [channels * 2 ** max(0, k) for k in range(-1, halvings)]
        self.blocks = nn.ModuleList(SoundBlock(one, two, (2, 2)) for one, two in pairwise(widths))
        for _ in range(1 + halvings):
            bands = -(-bands // 2)
        self.project = nn.Linear(widths[-1] * bands, width)
        start(self)

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        keep = within(x.shape[1], frames)
        x = F.relu(self.norm(self.conv(x[:, None].to(self.conv.weight.dtype)), keep))
        for block in self.blocks:
            x, keep = block(x, keep)
        return self.project(x.permute(0, 2, 1, 3).flatten(2)), keep.sum(1)


def start(net: nn.Module) -> None:
    """Fresh weights of residual networks over time and pitch."""
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(m, SoundBlock):
            nn.init.constant_(m.norm2.weight, 0.5)


class SoundTransformer(Encoder):
    """Stretches of `stack` frames of log-mel energies through pre-norm blocks; (B, width) is the mean of the valid ones.

    Positions are sines and cosines, so any length goes.  `stem` "conv" looks over time and pitch before (Subsampling): of what a view hides it sees nothing, since energies
    under the mask are replaced by their mean; but a token then knows its neighbours' frames, so methods that drop tokens or predict the next refuse it.  (The shape of BEST-RQ's and of the keyword transformer's input: Chiu et al. 2022, Berg et al. 2021.)
    """

    kind: ClassVar[str] = "sound-transformer"
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
    stack: int = 4
    """Frames in a token."""
    width: int = 128
    """Width of a token."""
    depth: int = 4
    """Number of blocks."""
    heads: int = 4
    """Attention heads; they divide the width."""
    mlp: float = 4.0
    """Hidden width of a block's two-layer network, in widths."""
    mean: tuple[float, ...] = (0.0,)
    """Of the data set's log-mel energies: one number, or one a band."""
    std: tuple[float, ...] = (1.0,)
    """Of the data set's log-mel energies: one number, or one a band."""
    causal: bool = False
    """Whether a token sees only what came before it, in the representation too: set by methods that train so."""
    stem: Literal["stack", "conv"] = "stack"
    """stack: a linear layer over the frames of a token; conv: convolutions over time and pitch, for speech that is to be written down."""
    eps: float = 1e-6
    """Of the layer norms."""
    dropout: float = 0.0
    """On embedded tokens and residual branches."""

    def __post_init__(self):
        if self.stack < 1:
            raise ValueError(f"{self.stack} frames in a token: at least 1")
        self.hearing = Hearing(LogMel(self.rate, self.bands, window=self.window, hop=self.hop), self.mean, self.std)
        if self.stem == "conv":
            if self.causal:
                raise ValueError("stem = conv hears a little of what comes: causal needs stem = stack")
            self.project: nn.Module = Subsampling(self.bands, self.stack, self.width)
        else:
            self.project = nn.Linear(self.stack * self.bands, self.width)
            nn.init.xavier_uniform_(self.project.weight)
            nn.init.zeros_(self.project.bias)
        self.mask_token = nn.Parameter(0.02 * torch.randn(self.width))
        self.blocks = Blocks(
            self.width, self.depth, self.heads, grid=(64,), mlp=self.mlp, eps=self.eps, dropout=self.dropout
        )

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"tokens", "stages"} | ({"mask", "causal"} if self.stem == "stack" else set()))

    @property
    def dim(self) -> int:
        return self.width

    def tokenize(self, view: View) -> Tokens:
        """(B, t, width), t = ceil(frames / stack), valid where the token reaches into the row; "masked" (B, t) puts the mask token in."""
        x, frames = self.hearing(view)
        hidden = part(view, "masked")
        if isinstance(self.project, Subsampling):
            if hidden is not None:
                x = x.masked_fill(hidden.repeat_interleave(self.stack, 1)[:, : x.shape[1], None], 0.0)
            tokens, count = self.project(x, frames)
        else:
            x, count = stacked(x, frames, self.stack)
            tokens = self.project(x)
        tokens = replace_masked(tokens, self.mask_token, hidden)
        return Tokens(tokens, within(tokens.shape[1], count), grid=(tokens.shape[1],))

    def trunk(self, tokens: Tokens, causal: bool = False) -> Tokens:
        return self.blocks(tokens, causal or self.causal)

    def features(self, view: View) -> list[Tokens]:
        """The tokens after every block: `depth` stages of one length and width."""
        return self.blocks.stages(self.tokenize(view), self.causal)

    def pool(self, tokens: Tokens) -> Tensor:
        """(B, width): the mean of the valid tokens."""
        return tokens.mean()

    def layers(self) -> list[list[nn.Parameter]]:
        positions, *blocks = self.blocks.layers()
        stem = [p for name, p in self.named_parameters() if not name.startswith("blocks.")]
        return [stem + positions, *blocks]


class SoundConv(Encoder):
    """A residual network over log-mel energies; (B, dim) are mean and maximum over time of every channel in every band that is left.

    Time is at first 20 ms a step, then 40; pitch is halved by every stage and never pooled away, since a formant's place says which vowel it is
    (after BYOL-A, Niizumi et al. 2021, whose pooling this is).  Batch norm counts true frames only.
    """

    kind: ClassVar[str] = "sound-conv"
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
    stem: int = 32
    """Channels of the first convolution, 5 x 5, which halves the bands."""
    widths: tuple[int, ...] = (32, 64, 128)
    """Channels of each stage."""
    blocks: tuple[int, ...] = (1, 1, 1)
    """Residual blocks in each stage."""
    strides: tuple[int, ...] = (2, 2, 1)
    """Of each stage over time; over pitch each halves."""
    mean: tuple[float, ...] = (0.0,)
    """Of the data set's log-mel energies: one number, or one a band."""
    std: tuple[float, ...] = (1.0,)
    """Of the data set's log-mel energies: one number, or one a band."""

    def __post_init__(self):
        if not len(self.widths) == len(self.blocks) == len(self.strides) or not self.widths:
            raise ValueError(f"widths {self.widths}, blocks {self.blocks}, strides {self.strides} must be as many")
        if min(*self.widths, *self.blocks, *self.strides, self.stem, self.bands) < 1:
            raise ValueError("widths, blocks, strides, stem and bands are positive")
        self.hearing = Hearing(LogMel(self.rate, self.bands, window=self.window, hop=self.hop), self.mean, self.std)
        self.conv, self.norm = nn.Conv2d(1, self.stem, 5, (1, 2), 2, bias=False), OverTime(self.stem)
        self.stages, inputs = nn.ModuleList(), self.stem
        for width, count, stride in zip(self.widths, self.blocks, self.strides):
            stage = nn.ModuleList()
            for number in range(count):
                stage.append(SoundBlock(inputs, width, (stride, 2) if number == 0 else (1, 1)))
                inputs = width
            self.stages.append(stage)
        start(self)

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"stages"})

    @property
    def dim(self) -> int:
        left = self.bands
        for _ in range(1 + len(self.widths)):
            left = -(-left // 2)
        return 2 * self.widths[-1] * left

    def _stages(self, view: View) -> list[tuple[Tensor, Tensor]]:
        """[((B, C, T, F), (B, T) bool) after every stage]."""
        x, frames = self.hearing(view)
        keep = within(x.shape[1], frames)
        x = F.relu(self.norm(self.conv(x[:, None].to(self.conv.weight.dtype)), keep))
        out = []
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x, keep = block(x, keep)
            out.append((x, keep))
        return out

    def forward(self, view: View) -> Tensor:
        """(B, dim): the means over true frames, then the maxima."""
        x, keep = self._stages(view)[-1]
        x = x.permute(0, 2, 1, 3).flatten(2)
        return torch.cat([Tokens(x, keep).mean(), x.amax(1)], 1)  # after a ReLU padding's 0 is no maximum of its own

    def features(self, view: View) -> list[Tokens]:
        """After every stage: a token for every step of time, channels x bands wide."""
        return [Tokens(x.permute(0, 2, 1, 3).flatten(2), keep, grid=(x.shape[2],)) for x, keep in self._stages(view)]

    def layers(self) -> list[list[nn.Parameter]]:
        stem = [*self.conv.parameters(), *self.norm.parameters()]
        return [stem, *(list(block.parameters()) for stage in self.stages for block in stage)]  # type: ignore[attr-defined]
