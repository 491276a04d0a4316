"""wav2vec 2.0's and HuBERT's network: samples -> frames -> context, parameter by parameter that of transformers' Wav2Vec2Model and HubertModel.

Source: Baevski et al. 2020 (arXiv:2006.11477), section 2 and appendix B; Hsu et al. 2021 (arXiv:2106.07447): the same network.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import Encoder, RequestError, Tokens, View
from .mel import FULL
from .ragged import Layout
from .stem import Stem, default_shape
from .trunk import Attention, initialise, part


class ConvPositions(nn.Module):
    """x + what its neighbourhood says of each place: a grouped convolution with normalised weights, and GELU, of (B, T, width).

    gain (1, 1, k) and direction (width, width / groups, k): each tap's weights have the norm of its gain (Salimans & Kingma 2016).
    Places beyond a row are zeros.
    """

    def __init__(self, width: int, kernel: int, groups: int):
        super().__init__()
        if kernel < 1 or groups < 1 or width % groups:
            raise RequestError(
                f"Positions by a convolution of {kernel} taps in {groups} groups do not fit a width of {width}.",
                "The groups divide the width.",
            )
        self.kernel, self.groups = kernel, groups
        deviation = 2 * math.sqrt(1 / (kernel * width))
        self.direction = nn.Parameter(torch.empty(width, width // groups, kernel).normal_(0, deviation))
        norm = torch.linalg.vector_norm(self.direction.detach(), dim=(0, 1), keepdim=True)
        self.gain = nn.Parameter(norm.clone())
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        half, count = self.kernel // 2, x.shape[1]
        left, right = half, self.kernel - 1 - half
        if not torch.compiler.is_exporting():  # taps that reach beyond every row see zeros alone
            left, right = min(left, max(0, count - 1)), min(right, max(0, count - 1))
        taps = slice(half - left, half + right + 1)
        direction = self.direction[..., taps]
        norm = torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True)
        padded = F.pad(x.transpose(1, 2), (left, right))
        moved = F.conv1d(padded, direction * (self.gain[..., taps] / norm), self.bias, groups=self.groups)
        return x + F.gelu(moved).transpose(1, 2)


class SpeechBlock(nn.Module):
    """Attention and a two-layer network, each beside a shortcut; the norm stands before each (`stable`) or behind it.

    Over places without padding (M, width); only attention sees rows.
    """

    def __init__(self, width: int, heads: int, mlp: float, eps: float, dropout: float, stable: bool):
        super().__init__()
        hidden = round(width * mlp)
        self.stable = stable
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        if self.stable:
            x = x + self.dropout(self._attend(self.norm1(x), layout))
            return x + self.dropout(self._think(self.norm2(x)))
        x = self.norm1(x + self.dropout(self._attend(x, layout)))
        return self.norm2(x + self.dropout(self._think(x)))

    def _think(self, x: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(x)))

    def _attend(self, x: Tensor, layout: Layout) -> Tensor:
        rows, width, heads = len(layout.valid), x.shape[1], self.attention.heads
        qkv = layout.pad(self.attention.qkv(x)).view(rows, -1, 3, heads, width // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=layout.mask)
        return self.attention.out(layout.pack(mixed.transpose(1, 2).reshape(rows, -1, width)))


class Wav2Vec2(Encoder):
    """Samples through a convolutional stem, convolutional positions and a transformer; (B, width) is the mean of a clip's frames.

    A clip's representation depends on its true samples alone: stem and network work on clips one behind the other (nets/stem.py), attention and
    positions see no padding, and a group norm's statistics are a clip's own.  Clips shorter than a frame sees are filled up with silence.
    """

    kind: ClassVar[str] = "wav2vec2"
    modality: ClassVar[str] = "sound"
    reads: ClassVar[str] = "wave"

    rate: int = 16000
    """Samples a second."""
    channels: tuple[int, ...] = (128,)
    """Of each layer of the stem; one number stands for all."""
    kernels: tuple[int, ...] = ()
    """Of each layer of the stem; none: 25 ms every 20 ms at this rate (at 16 kHz the published 10,3,3,3,3,2,2)."""
    strides: tuple[int, ...] = ()
    """Of each layer of the stem; none: as `kernels`."""
    norm: Literal["layer", "group"] = "layer"
    """In the stem: over channels in every layer, or over a clip in the first one (the published base size)."""
    bias: bool = True
    """Whether the stem's convolutions have one."""
    normalise: bool = True
    """Whether each wave is brought to mean 0 and variance 1 over its true length: its loudness is then gone."""
    width: int = 128
    """Of the transformer."""
    depth: int = 4
    """Number of blocks."""
    heads: int = 4
    """Attention heads; they divide the width."""
    mlp: float = 4.0
    """Hidden width of a block's two-layer network, in widths."""
    stable: bool = True
    """Whether norms stand before attention and network (the published large size) or behind them (base)."""
    position_kernel: int = 64
    """Frames that a place's position is told by."""
    position_groups: int = 16
    """Of that convolution; they divide the width."""
    eps: float = 1e-5
    """Of the layer norms."""
    dropout: float = 0.0
    """On projected frames, before the first block, and on residual branches."""
    architecture: Literal["wav2vec2", "hubert"] = "wav2vec2"
    """Which of transformers' models it is written as: they compute the same."""

    def __post_init__(self):
        if not self.kernels and not self.strides:
            self.kernels, self.strides = default_shape(self.rate)
        if len(self.channels) == 1:
            self.channels = self.channels * len(self.kernels)
        if self.depth < 1 or self.heads < 1 or self.width % self.heads or self.rate < 1:
            raise RequestError(
                f"A transformer of width {self.width}, depth {self.depth} and {self.heads} heads cannot be built.",
                "Depth and heads are at least 1, and heads divide the width.",
            )
        self.convolutions = Stem(self.channels, self.kernels, self.strides, self.norm, self.bias)
        self.norm_stem = nn.LayerNorm(self.channels[-1], eps=self.eps)
        self.project = nn.Linear(self.channels[-1], self.width)
        self.mask_token = nn.Parameter(torch.empty(self.width).uniform_())
        self.positions = ConvPositions(self.width, self.position_kernel, self.position_groups)
        self.norm_context = nn.LayerNorm(self.width, eps=self.eps)
        self.layer = nn.ModuleList(
            SpeechBlock(self.width, self.heads, self.mlp, self.eps, self.dropout, self.stable)
            for _ in range(self.depth)
        )
        self.drop = nn.Dropout(self.dropout)
        initialise(self.layer)

    @property
    def can(self) -> frozenset[str]:
        return frozenset({"tokens", "mask", "stages", "stem"})

    @property
    def dim(self) -> int:
        return self.width

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return self.convolutions.hop

    def frames(self, length: Tensor) -> Tensor:
        """How many frames clips of `length` (B,) samples have; never less than one."""
        return self.convolutions.frames(length)

    def stem(self, view: View) -> tuple[Tensor, Layout]:
        """((M, channels) what the stem makes of all clips, one behind the other; how they lie)."""
        return self.convolutions(*self._waves(view))

    def _waves(self, view: View) -> tuple[Tensor, Tensor]:
        """(B, L) floats, 0 behind each clip's end, normalised where asked, and (B,) samples."""
        if "wave" not in view.parts:
            raise RequestError(
                "This encoder hears waves, not log-mel energies or other data.",
                "Leave out what changes energies, or take --encoder sound-transformer.",
            )
        wave, length = view["wave"], view["length"]
        kind = self.project.weight.dtype
        wave = wave.to(kind) if wave.is_floating_point() else wave.to(kind) / FULL
        keep = torch.arange(wave.shape[1], device=wave.device) < length[:, None]
        wave = wave.masked_fill(~keep, 0.0)
        if self.normalise:
            count = length.clamp_min(1)[:, None].to(kind)
            off = (wave - wave.sum(1, keepdim=True) / count).masked_fill(~keep, 0.0)
            wave = off / (off.square().sum(1, keepdim=True) / count + 1e-7).sqrt()
        return wave, length

    def projected(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """((M, channels) the stem's frames normalised: what is quantised; (M, width) what the transformer reads)."""
        normed = self.norm_stem(frames)
        return normed, self.drop(self.project(normed))

    def context(self, x: Tensor, layout: Layout, upto: int | None = None) -> list[Tensor]:
        """[(M, width)] after each block, the first `upto` of them; with norms before the branches, each through the last norm."""
        return self._blocks(layout.pack(self.positions(layout.pad(x))), layout, upto)

    def _blocks(self, x: Tensor, layout: Layout, upto: int | None = None) -> list[Tensor]:
        x = self.drop(x if self.stable else self.norm_context(x))
        out = []
        for block in self.layer[:upto]:
            x = block(x, layout)
            out.append(x)
        return [self.norm_context(x) for x in out] if self.stable else out

    def tokenize(self, view: View) -> Tokens:
        """(B, T, width), T frames of the longest clip, valid where the clip has that frame.  "masked" (B, T) puts the mask token in."""
        if torch.compiler.is_exporting():
            return self._traced(view)
        frames, layout = self.stem(view)
        return self._tokens(layout.pad(self.projected(frames)[1]), layout.valid, view)

    def _tokens(self, values: Tensor, valid: Tensor, view: View) -> Tokens:
        masked = part(view, "masked")
        if masked is None:
            values = values + 0 * self.mask_token.to(values.dtype)
        else:
            values = torch.where(masked[..., None], self.mask_token.to(values.dtype), values)
        return Tokens(values, valid, grid=(values.shape[1],))

    def _traced(self, view: View) -> Tokens:
        """Tokens of padded clips, for graphs."""
        if self.norm == "group":
            raise RequestError(
                "A stem with a group norm counts padding where clips are padded.", "Export it with --to transformers."
            )
        wave, length = self._waves(view)
        values = self.projected(self.convolutions.plain(F.pad(wave, (0, self.convolutions.field))))[1]
        valid = torch.arange(values.shape[1], device=wave.device) < self.frames(length)[:, None]
        return self._tokens(values.masked_fill(~valid[..., None], 0.0), valid, view)

    def trunk(self, tokens: Tokens, causal: bool = False) -> Tokens:
        """The blocks; a part of the tokens stands in its places among silence for the positions, and attention sees no others."""
        if causal or tokens.segment is not None:
            raise RequestError(
                "wav2vec2 looks both ways and at one clip at a time.", "Take --encoder sound-transformer."
            )
        return self._stages(tokens)[-1]

    def _stages(self, tokens: Tokens) -> list[Tokens]:
        """The tokens after each block, 0 in places that are not valid."""
        x, place = tokens.values, tokens.position
        valid = tokens.valid if tokens.valid is not None else torch.ones_like(x[..., 0], dtype=torch.bool)
        x = x * valid[..., None].to(x.dtype)
        if place is None:
            x = self.positions(x)
        else:
            extent = tokens.extent or (int(place.max()) + 1,)
            at = place[..., None].expand_as(x)
            x = self.positions(x.new_zeros(len(x), extent[0], self.width).scatter_add(1, at, x)).gather(1, at)
        layout = Layout(valid, joined=not torch.compiler.is_exporting())
        return [tokens.with_values(layout.pad(y)) for y in self._blocks(layout.pack(x), layout)]

    def features(self, view: View) -> list[Tokens]:
        """The frames after every block: `depth` stages of one length and width."""
        return self._stages(self.tokenize(view))

    def pool(self, tokens: Tokens) -> Tensor:
        """(B, width): the mean of the valid frames."""
        return tokens.mean()

    def layers(self) -> list[list[nn.Parameter]]:
        first = [p for name, p in self.named_parameters() if not name.startswith(("layer.", "norm_context."))]
        return [first, *(list(block.parameters()) for block in self.layer), list(self.norm_context.parameters())]
