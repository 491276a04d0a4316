"""The convolutional stem of wav2vec 2.0: from samples to a frame every 20 ms, over a whole batch without padding.

Clips lie one behind the other, each filled up to a multiple of the stem's hop, so that every layer halves or fifths all of them at once: no
layer works on padding, and a convolution is one product of matrices for each stride's worth of its kernel, read in place.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ..core import RequestError
from .ragged import Layout, picked

EPS = 1e-5
"""Of the stem's norms."""


def default_shape(rate: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(kernels, strides) of about 25 ms every 20 ms at `rate` Hz: at 16 kHz the published ones."""
    halvings = max(2, round(math.log2(rate * 0.02 / 5)))
    return (10, *[3] * (halvings - 2), 2, 2), (5, *[2] * halvings)


def field(kernels: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Samples that one frame sees."""
    reach = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        reach = (reach - 1) * stride + kernel
    return reach


def steps(length: Tensor, kernel: int, stride: int) -> Tensor:
    """How many outputs an unpadded convolution has."""
    return torch.div(length - kernel, stride, rounding_mode="floor") + 1


def frames_of(length: Tensor, kernels: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """How many frames clips of `length` samples have; one where a clip is shorter than a frame sees, which is filled up to it."""
    length = length.clamp_min(field(kernels, strides))
    for kernel, stride in zip(kernels, strides, strict=True):
        length = steps(length, kernel, stride)
    return length


class _Convolve(torch.autograd.Function):
    """(R, C) x (O, C, kernel) -> (R / stride, O): out[r] = sum over j of x[r stride + j] @ w[:, :, j], as products of overlapping views.

    The last rows, whose windows reach beyond the end, lack a part: no clip's own frames are among them.
    """

    @staticmethod
    def chunks(x: Tensor, weight: Tensor, stride: int):
        """For each stride's worth of the kernel: its rows of `weight`, and the view (rows - m, taps x C) of x that they meet."""
        channels, rows = x.shape[1], len(x) // stride
        kernel = len(weight) // channels
        for m, tap in enumerate(range(0, kernel, stride)):
            if m >= rows:
                return
            taps = min(stride, kernel - tap)
            seen = x[tap : tap + (rows - m) * stride].view(rows - m, stride * channels)[:, : taps * channels]
            yield slice(tap * channels, (tap + taps) * channels), seen

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.shape, weight = weight.shape, weight.permute(2, 1, 0).flatten(0, 1)
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.biased = stride, bias is not None
        out = x.new_empty(len(x) // stride, weight.shape[1])
        for part, seen in _Convolve.chunks(x, weight, stride):
            if part.start:
                out[: len(seen)].addmm_(seen, weight[part])
            elif bias is None:
                torch.mm(seen, weight[part], out=out)
            else:
                torch.addmm(bias, seen, weight[part], out=out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        grad, by_weight = grad.contiguous(), torch.zeros_like(weight)
        for part, seen in _Convolve.chunks(x, weight, ctx.stride):
            torch.mm(seen.T, grad[: len(seen)], out=by_weight[part])
        by_bias = grad.sum(0) if ctx.biased else None
        outputs, inputs, kernel = ctx.shape
        laid = by_weight.view(kernel, inputs, outputs).permute(2, 1, 0).clone(memory_format=torch.contiguous_format)
        if not ctx.needs_input_grad[0]:
            return None, laid, by_bias, None
        by_input = torch.zeros_like(x)
        for part, seen in _Convolve.chunks(by_input, weight, ctx.stride):
            seen.addmm_(grad[: len(seen)], weight[part].T)
        return by_input, laid, by_bias, None


def convolve(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """conv of (R, C), time first, in the precision that autocast asks for."""
    weight, bias = conv.weight, conv.bias
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
    with torch.autocast(x.device.type, enabled=False):
        return _Convolve.apply(x.contiguous(), weight, bias, conv.stride[0])  # type: ignore[no-any-return]


class Stem(nn.Module):
    """Waves -> (M, channels) frames of all clips, one behind the other: convolutions, each with GELU and, before it, a norm.

    norm "layer": over the channels of every step, in every layer.  "group": in the first layer alone, of each channel over a clip's true
    length.  conv.N and norm.N are parameter by parameter transformers' feature_extractor.conv_layers.N.conv and .layer_norm.
    """

    def __init__(
        self, channels: tuple[int, ...], kernels: tuple[int, ...], strides: tuple[int, ...], norm: Literal["layer", "group"], bias: bool
    ):  # fmt: skip
        super().__init__()
        if not len(channels) == len(kernels) == len(strides) or not kernels or min(*channels, *kernels, *strides) < 1:
            raise RequestError(
                f"channels {channels}, kernels {kernels} and strides {strides} of the stem must be as many, and positive.",
                "The published stem has kernels 10,3,3,3,3,2,2 and strides 5,2,2,2,2,2,2.",
            )
        if any(kernel < stride for kernel, stride in zip(kernels, strides, strict=True)):
            raise RequestError(f"Kernels {kernels} with strides {strides} would leave samples unheard.")
        self.kernels, self.strides, self.kind = kernels, strides, norm
        inputs = (1, *channels[:-1])
        self.conv = nn.ModuleList(
            nn.Conv1d(i, o, k, s, bias=bias) for i, o, k, s in zip(inputs, channels, kernels, strides, strict=True)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(o, eps=EPS) for o in (channels if norm == "layer" else channels[:1]))
        for conv in self.conv:
            nn.init.kaiming_normal_(conv.weight)  # type: ignore[arg-type]

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return math.prod(self.strides)

    @property
    def field(self) -> int:
        """Samples that a frame sees."""
        return field(self.kernels, self.strides)

    def frames(self, length: Tensor) -> Tensor:
        """How many frames clips of `length` (B,) samples have."""
        return frames_of(length, self.kernels, self.strides)

    def forward(self, wave: Tensor, length: Tensor) -> tuple[Tensor, Layout]:
        """((M, channels) frames, how they lie) of wave (B, L) floats, 0 behind each clip's end, and length (B,) samples."""
        heard = length.clamp_min(self.field)
        segments = torch.div(heard + self.hop - 1, self.hop, rounding_mode="floor")
        longest = int(segments.max()) * self.hop
        wave = F.pad(wave, (0, max(0, longest - wave.shape[1])))[:, :longest]
        x = Layout.of(segments * self.hop, longest).pack(wave)[:, None]
        for number, conv in enumerate(self.conv):
            x = convolve(x, conv)  # type: ignore[arg-type]
            if self.kind == "layer":
                x = self.norm[number](x)
            elif number == 0:
                x = self._over_time(
                    x, segments * (self.hop // self.strides[0]), steps(heard, self.kernels[0], self.strides[0])
                )
            x = F.gelu(x)
        layout = Layout.of(self.frames(length))
        begins = torch.cumsum(segments, 0) - segments
        return (x if len(x) == len(layout.owner) else picked(x, begins[layout.owner] + layout.position)), layout

    def _over_time(self, x: Tensor, lengths: Tensor, true: Tensor) -> Tensor:
        """Every channel of each clip to mean 0 and variance 1 over its first `true` steps of `lengths`."""
        layout, norm = Layout.of(lengths), self.norm[0]
        rows = layout.pad(x if x.dtype in (torch.float32, torch.float64) else x.float())
        keep = (torch.arange(rows.shape[1], device=x.device) < true[:, None])[..., None].to(rows.dtype)
        count = true[:, None, None].to(rows.dtype)
        off = rows - (rows * keep).sum(1, keepdim=True) / count
        deviation = ((off * keep).square().sum(1, keepdim=True) / count + EPS).sqrt()
        return layout.pack(off / deviation * norm.weight + norm.bias)  # type: ignore[operator]

    def plain(self, wave: Tensor) -> Tensor:
        """(B, T, channels) of clips of one length, by torch's own convolutions: for graphs that are traced."""
        x = wave[:, None]
        for number, conv in enumerate(self.conv):
            x = conv(x).transpose(1, 2)
            if self.kind == "layer":
                x = self.norm[number](x)
            elif number == 0:
                off = x - x.mean(1, keepdim=True)
                first = self.norm[0]
                x = off / (off.square().mean(1, keepdim=True) + EPS).sqrt() * first.weight + first.bias  # type: ignore[operator]
            x = F.gelu(x).transpose(1, 2)
        return x.transpose(1, 2)
