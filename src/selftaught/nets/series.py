"""Encoders of time series: any number of channels, rows of unequal length, NaN where a value is missing.

Both standardise with the data set's `mean` and `std`, then normalise every row by its own observed values, and give the network what that
took away (the row's level and scale) and where values were missing.  Padding and missing values never enter a statistic.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Encoder, RequestError, Tokens, View
from .trunk import Blocks, part, replace_masked

FLOOR = 1e-5  # added to variances (Kim et al. 2022, RevIN): a flat channel becomes 0


def observed(view: View) -> tuple[Tensor, Tensor]:
    """(B, C, L) values with 0 where there is none, and (B, C, L) bool, True where there is one: in the row and not NaN."""
    values = view["values"]
    seen = ~values.isnan()
    if "valid" in view.parts:
        seen = seen & view["valid"][:, None]
    return torch.where(seen, values, 0.0), seen


def row_level(values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, 1) mean and deviation of each row's observed values; 0 and 1 where a channel has none."""
    count = seen.sum(-1, keepdim=True)
    divisor = count.clamp_min(1)
    mean = torch.where(seen, values, 0.0).sum(-1, keepdim=True) / divisor
    variance = torch.where(seen, values - mean, 0.0).square().sum(-1, keepdim=True) / divisor
    return mean, torch.where(count > 0, (variance + FLOOR).sqrt(), 1.0)


def past_level(values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, T) mean and deviation of what was observed up to and in each patch of (B, C, T, P): nothing later enters."""
    x = torch.where(seen, values, 0.0).double()
    count = seen.sum(-1).cumsum(-1)
    divisor = count.clamp_min(1)
    mean = x.sum(-1).cumsum(-1) / divisor
    variance = (x.square().sum(-1).cumsum(-1) / divisor - mean.square()).clamp_min(0)
    deviation = torch.where(count > 0, (variance + FLOOR).sqrt(), 1.0)
    return mean.to(values.dtype), deviation.to(values.dtype)


def to_patches(x: Tensor, patch: int) -> Tensor:
    """(..., L) -> (..., ceil(L / patch), patch), with zeros (False) after the end."""
    return F.pad(x, (0, -x.shape[-1] % patch)).unflatten(-1, (-1, patch))


class Standardise(nn.Module):
    """(B, C, L) -> (values - mean) / std of the data set: one number, or one a channel.  No part of the state dict: options of the encoder."""

    shift: Tensor
    scale: Tensor

    def __init__(self, channels: int, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.channels = channels
        if any(len(v) not in (1, channels) for v in (mean, std)) or not all(s > 0 for s in std):
            raise RequestError(
                f"mean {mean} and std {std} do not fit {channels} channels.",
                "Give one number, or one a channel; every std is above 0.",
            )
        self.register_buffer("shift", torch.tensor(mean).view(-1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(std).view(-1, 1), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        if values.shape[1] != self.channels:
            raise RequestError(
                f"Series of {values.shape[1]} channels meet an encoder of {self.channels}.",
                "Give series with the channels that the encoder was made for.",
            )
        return (values.to(self.shift.dtype) - self.shift) / self.scale


class SeriesTransformer(Encoder):
    """Patches of a (C, L) series, all channels of a stretch of time in one token, through pre-norm blocks; (B, width) is their mean.

    A token is a linear map of the patch's normalised values (0 where missing), of 0/1 flags that say which were observed, and of the
    row's level and scale.  Positions are sines and cosines, so any length goes.  (Nie et al. 2023, PatchTST, with channels mixed.)
    """

    kind: ClassVar[str] = "series-transformer"
    modality: ClassVar[str] = "series"

    channels: int = 1
    """Channels of a series."""
    patch: int = 8
    """Time steps in a token."""
    width: int = 128
    """Width of a token."""
    depth: int = 4
    """Number of blocks."""
    heads: int = 4
    """Attention heads; they divide the width."""
    mlp: float = 4.0
    """Hidden width of a block's two-layer network, in widths."""
    mean: tuple[float, ...] = (0.0,)
    """Of the data set's values: one number, or one a channel."""
    std: tuple[float, ...] = (1.0,)
    """Of the data set's values: one number, or one a channel."""
    causal: bool = False
    """Whether a token sees only what came before it, in the representation too: set by methods that train so.  Rows are
    then normalised by what was observed so far, since the whole row's level would tell of the future."""
    eps: float = 1e-6
    """Of the layer norms."""
    dropout: float = 0.0
    """On embedded tokens and residual branches."""

    def __post_init__(self):
        self.standardise = Standardise(self.channels, self.mean, self.std)
        self.project = nn.Linear(2 * self.channels * self.patch, self.width)
        self.level = nn.Linear(2 * self.channels, self.width, bias=False)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        nn.init.normal_(self.level.weight, std=0.02)
        self.mask_token = nn.Parameter(0.02 * torch.randn(self.width))
        self.blocks = Blocks(
            self.width, self.depth, self.heads, grid=(64,), mlp=self.mlp, eps=self.eps, dropout=self.dropout
        )

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"tokens", "mask", "causal", "stages"})

    @property
    def dim(self) -> int:
        return self.width

    def tokenize(self, view: View) -> Tokens:
        """(B, T, width) from values (B, C, L); T = ceil(L / patch), valid where the patch reaches into the row.

        "masked" (B, T) puts the mask token in; the row's level then still counts masked values, as in RevIN."""
        values, seen = observed(view)
        x = self.standardise(values)
        x, flags = to_patches(x, self.patch), to_patches(seen, self.patch)
        if self.causal:
            mean, deviation = past_level(x, flags)
        else:
            mean, deviation = row_level(x.flatten(-2), flags.flatten(-2))
        x = torch.where(flags, (x - mean[..., None]) / deviation[..., None], 0.0)
        stretch = torch.cat([x, flags.to(x.dtype)], 1).transpose(1, 2).flatten(2)
        level = torch.cat([mean.asinh(), deviation.log()], 1).transpose(1, 2)
        tokens = self.project(stretch) + self.level(level)
        tokens = replace_masked(tokens, self.mask_token, part(view, "masked"))
        valid = to_patches(view["valid"], self.patch).any(-1) if "valid" in view.parts else None
        return Tokens(tokens, valid, grid=(tokens.shape[1],))

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


class DilatedBlock(nn.Module):
    """x + conv(gelu(norm(conv(gelu(norm(x)))))) over (B, T, W), kernel 3; `keep` (B, T, 1) silences padding before every convolution.

    The norm is over the channels of one time step: no statistic is taken over time or rows, so padding cannot enter one."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.conv1 = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        y = self.conv1((F.gelu(self.norm1(x)) * keep).transpose(1, 2)).transpose(1, 2)
        return x + self.conv2((F.gelu(self.norm2(y)) * keep).transpose(1, 2)).transpose(1, 2)


class SeriesConv(Encoder):
    """Residual dilated convolutions (after Bai et al. 2018 and TS2Vec, Yue et al. 2022); (B, 2 width) is mean and maximum over time.

    Its reach is 1 + 4 (2^depth - 1) steps of `stride` samples, to both sides together.
    """

    kind: ClassVar[str] = "series-conv"
    modality: ClassVar[str] = "series"

    channels: int = 1
    """Channels of a series."""
    width: int = 64
    """Channels inside; the representation is twice as wide."""
    depth: int = 5
    """Residual blocks, each with twice the dilation of the one before."""
    stride: int = 1
    """Samples between the steps that the blocks see."""
    mean: tuple[float, ...] = (0.0,)
    """Of the data set's values: one number, or one a channel."""
    std: tuple[float, ...] = (1.0,)
    """Of the data set's values: one number, or one a channel."""

    def __post_init__(self):
        self.standardise = Standardise(self.channels, self.mean, self.std)
        self.project = nn.Conv1d(
            2 * self.channels, self.width, 2 * self.stride + 1, stride=self.stride, padding=self.stride
        )
        self.level = nn.Linear(2 * self.channels, self.width, bias=False)
        nn.init.normal_(self.level.weight, std=0.02)
        self.layer = nn.ModuleList([DilatedBlock(self.width, 2**i) for i in range(self.depth)])
        self.norm = nn.LayerNorm(self.width)

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"stages"})

    @property
    def dim(self) -> int:
        return 2 * self.width

    def _stages(self, view: View) -> tuple[list[Tensor], Tensor]:
        """[(B, T, width) after the stem and after every block], and (B, T) bool: T = ceil(L / stride)."""
        values, seen = observed(view)
        x = self.standardise(values)
        mean, deviation = row_level(x, seen)
        x = torch.where(seen, (x - mean) / deviation, 0.0)
        x = self.project(torch.cat([x, seen.to(x.dtype)], 1)).transpose(1, 2)
        x = x + self.level(torch.cat([mean.asinh(), deviation.log()], 1).transpose(1, 2))
        valid = view["valid"][:, :: self.stride] if "valid" in view.parts else x.new_ones(x.shape[:2], dtype=torch.bool)
        keep, stages = valid[..., None].to(x.dtype), [x]
        for block in self.layer:
            stages.append(block(stages[-1], keep))
        return stages, valid

    def forward(self, view: View) -> Tensor:
        """(B, 2 width): mean and maximum over the valid steps."""
        stages, valid = self._stages(view)
        x = self.norm(stages[-1])
        top = x.masked_fill(~valid[..., None], -torch.inf).amax(1)
        top = torch.where(valid.any(1, keepdim=True), top, 0.0)
        return torch.cat([Tokens(x, valid).mean(), top], 1)

    def features(self, view: View) -> list[Tokens]:
        """The steps after every block, through the last norm: `depth` stages of one length and width."""
        stages, valid = self._stages(view)
        return [Tokens(self.norm(x), valid, grid=(x.shape[1],)) for x in stages[1:]]

    def layers(self) -> list[list[nn.Parameter]]:
        blocks = [list(b.parameters()) for b in self.layer]
        return [[*self.project.parameters(), *self.level.parameters()], *blocks, list(self.norm.parameters())]
