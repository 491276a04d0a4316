"""Log-mel energies: what a cochlea and most models of sound begin with, of a whole batch on its device.

Kaldi's way (its mel scale, the filters triangular in mels), as transformers' ASTFeatureExtractor computes it; but with frames up to the last
sample, since clips of 100 ms should not lose a fifth of themselves.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from . import mel_kernel

FLOOR = 1.1920929e-07
"""Energies below it count as it (float32's epsilon, as in kaldi)."""
FULL = 32768.0
"""Of int16."""
CHUNK = 1 << 17
"""Frames that are worked on at once."""


def mels(frequency: Tensor) -> Tensor:
    """Hz -> mel, kaldi's natural-logarithm form (1127 ln(1 + f / 700))."""
    return 1127.0 * torch.log1p(frequency / 700.0)


def filterbank(bands: int, rate: int, size: int, low: float, high: float) -> Tensor:
    """(size // 2 + 1, bands) float64: triangles of equal width in mels between `low` and `high` Hz, over the bins of an FFT of `size`."""
    first, last = (1127.0 * math.log1p(f / 700.0) for f in (low, high))
    edges = torch.linspace(first, last, bands + 2, dtype=torch.float64)
    place = mels(torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size)[:, None]
    rise = (place - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - place) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rise, fall).clamp_min(0)
    weights[-1] = 0  # kaldi leaves the Nyquist bin out
    return weights


def blocks_of(
    bands: int, rate: int, size: int, low: float, high: float, count: int = 4
) -> list[tuple[int, int, int, int]]:
    """(first bin, last bin, first band, last band) of `count` groups of bands: beyond its bins a filter is 0, which need not be multiplied."""
    first, last = (1127.0 * math.log1p(f / 700.0) for f in (low, high))
    edge = lambda n: 700.0 * math.expm1((first + (last - first) * n / (bands + 1)) / 1127.0) * size / rate  # noqa: E731  # in bins
    groups = [round(n * bands / min(count, bands)) for n in range(min(count, bands) + 1)]
    most = size // 2 + 1
    return [
        (min(most - 1, math.floor(edge(a))), min(most, math.ceil(edge(b + 1)) + 1), a, b)
        for a, b in itertools.pairwise(groups)
    ]


class LogMel(nn.Module):
    """(B, L) waves -> (B, T, bands) natural logarithms of mel energies.  No parameters, and nothing in the state.

    Frame t covers the samples [t hop, t hop + window), with zeros behind a clip's end; there are ceil(L / hop).  Each frame loses its mean, is
    pre-emphasised, goes through a Hann window and an FFT of the next power of two; the energies of the filters are floored at 1.2e-7.  What a
    clip becomes depends on its true length alone, not on its padding.
    """

    taper: Tensor
    filters: Tensor
    blocks: list[tuple[int, int, int, int]]
    _tables: mel_kernel.Tables | None = None

    def __init__(
        self,
        rate: int = 16000,
        bands: int = 64,
        *,
        window: float = 0.025,
        hop: float = 0.010,
        low: float = 20.0,
        high: float | None = None,
        preemphasis: float = 0.97,
        remove_dc: bool = True,
    ):
        super().__init__()
        self.rate, self.bands, self.preemphasis, self.remove_dc = rate, bands, preemphasis, remove_dc
        self.window, self.hop = max(2, round(window * rate)), max(1, round(hop * rate))
        self.size = 1 << (self.window - 1).bit_length()
        high = rate / 2 if high is None else high
        if not 0 <= low < high <= rate / 2 or bands < 1:
            raise ValueError(f"{bands} bands from {low} to {high} Hz do not fit a rate of {rate} Hz")
        taper = F.pad(torch.hann_window(self.window, periodic=False), (0, self.size - self.window))
        self.register_buffer("taper", taper, persistent=False)
        self.blocks = blocks_of(bands, rate, self.size, low, high)
        self.register_buffer("filters", filterbank(bands, rate, self.size, low, high).float(), persistent=False)

    @property
    def floor_log(self) -> float:
        """The logarithm of the floor: what silence and padding are."""
        return math.log(FLOOR)

    def frames(self, length: Tensor) -> Tensor:
        """How many frames clips of `length` samples have."""
        return torch.div(length + self.hop - 1, self.hop, rounding_mode="floor")

    def forward(self, wave: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, bands) and (B,) frames, of (B, L) int16 or floats in -1..1 and (B,) samples; the floor behind each clip's last frame."""
        count, frames = (wave.shape[1] + self.hop - 1) // self.hop, self.frames(length)
        if self._compiled(wave):
            return self._on_processor(wave, length), frames
        wave = wave.to(self.taper.dtype) / FULL if not wave.is_floating_point() else wave
        if torch.compiler.is_exporting():
            emphasised, offset = self._prepared(wave, length, count)
            at = torch.arange(count)[:, None] * self.hop + torch.arange(self.size)
            mel = self._energies(emphasised[:, at], offset)
        else:
            mel = self._in_parts(wave, length, count)
        behind = torch.arange(count, device=wave.device) >= frames[:, None]
        return mel.masked_fill(behind[..., None], self.floor_log), frames

    def _compiled(self, wave: Tensor) -> bool:
        """Whether the kernel for processors takes this wave; what is differentiated, traced or of another precision goes through torch."""
        plain = (
            wave.device.type == "cpu"
            and wave.dtype in (torch.int16, torch.float32)
            and self.taper.dtype == torch.float32
        )
        traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        return plain and not traced and not (wave.requires_grad and torch.is_grad_enabled())

    def _on_processor(self, wave: Tensor, length: Tensor) -> Tensor:
        """(B, T, bands) by the compiled kernel."""
        from . import mel_kernel

        if self._tables is None:
            self._tables = mel_kernel.tables(self.taper[: self.window].numpy(), self.filters.numpy())
        front = mel_kernel.Front(self.hop, self.preemphasis, self.remove_dc, FLOOR)
        out = torch.full((len(wave), (wave.shape[1] + self.hop - 1) // self.hop, self.bands), self.floor_log)
        known = length.clamp(max=wave.shape[1])
        counts = self.frames(known).numpy()
        mel_kernel.run(wave.detach().contiguous().numpy(), known.numpy(), counts, front, self._tables, out.numpy())
        return out

    def _prepared(self, wave: Tensor, length: Tensor, count: int) -> tuple[Tensor, Tensor | None]:
        """(B, L + ...) the emphasised wave with zeros behind the end, and (B, T, 1) what every frame's mean has become of it.

        All steps before the window are linear, so that one pass over the wave emphasises every frame.  A frame's first sample, for which there is
        another rule, meets the window's first value, which is 0."""
        wave = wave.masked_fill(torch.arange(wave.shape[1], device=wave.device) >= length[:, None], 0.0)
        wave = F.pad(wave, (1, self.hop + self.size))
        emphasised = torch.sub(wave[:, 1:], wave[:, :-1], alpha=self.preemphasis)
        if not self.remove_dc:
            return emphasised, None
        if torch.compiler.is_exporting():
            mean = F.avg_pool1d(wave[:, None, 1:], self.window, self.hop)[:, 0]
        else:
            mean = wave[:, 1:].unfold(1, self.window, self.hop).mean(-1)
        return emphasised, (1 - self.preemphasis) * mean[:, :count, None]

    def _in_parts(self, wave: Tensor, length: Tensor, count: int) -> Tensor:
        """(B, T, bands), so many frames at once that what is made of them does not fill the memory."""
        out = wave.new_empty(len(wave), count, self.bands)
        rows = max(1, CHUNK // max(1, count))
        for row in range(0, len(wave), rows):
            emphasised, offset = self._prepared(wave[row : row + rows], length[row : row + rows], count)
            cut = emphasised.unfold(1, self.size, self.hop)[:, :count]
            for time in range(0, count, CHUNK):
                part = slice(time, time + CHUNK)
                out[row : row + rows, part] = self._energies(cut[:, part], None if offset is None else offset[:, part])
        return out

    def _energies(self, cut: Tensor, offset: Tensor | None) -> Tensor:
        """(..., bands) of (..., size) emphasised samples, of which `offset` (..., 1) and the window are still to be taken."""
        taper, filters = self.taper.to(cut.dtype), self.filters.to(cut.dtype)
        cut = cut * taper if offset is None else (cut - offset) * taper
        if torch.compiler.is_exporting():  # as a product of matrices, which every runtime has
            turns = (
                torch.outer(torch.arange(self.size), torch.arange(self.size // 2 + 1))
                % self.size
                * (2 * math.pi / self.size)
            )
            power = (cut @ turns.cos().to(cut.dtype)).square() + (cut @ turns.sin().to(cut.dtype)).square()
            return (power @ filters).clamp_min(FLOOR).log()
        spectrum = torch.fft.rfft(cut.flatten(0, -2))
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        parts = [power[:, first:last] @ filters[first:last, low:high] for first, last, low, high in self.blocks]
        return torch.cat(parts, 1).clamp_min_(FLOOR).log_().view(*cut.shape[:-1], -1)
