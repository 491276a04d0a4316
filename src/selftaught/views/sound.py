"""Views of sound as waves: level, colour, noise, room and speed; and what test rows are spoiled with.

Whole batch at once, each row by its own draw.  A raw wave is int16, what leaves here float32 in -1..1; padding is 0 and lies behind the end
(`length`, in samples).  What becomes of a row never depends on its padding or on the rows beside it: filters have a length of their own, not the
batch's, and noise comes from a fixed bank in which a row's draw says where to begin, so that a longer batch reads on and changes nothing.

Legend: B rows, L samples, K taps, F frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from ..core import Draw, Transform, View, random
from ..nets.mel import FULL
from . import clips
from .compose import Compose

BANK = 1 << 19
"""Samples of noise that are kept: half a minute at 16 kHz."""
TAPS = 511
"""Of an equaliser and of a band: at 16 kHz it tells frequencies 60 Hz apart."""
_SILENCE = 1e-12


def as_wave(view: View) -> Tensor:
    """(B, L) float32 in -1..1 of a view that holds a wave."""
    if "wave" not in view.parts:
        raise ValueError(f"a view of sound without its wave, with {sorted(view.parts)}: filter waves before ToMel")
    return clips.as_wave(view["wave"])


def inside(length: Tensor, width: int) -> Tensor:
    """(B, width) bool: the places before each row's end."""
    return torch.arange(width, device=length.device) < length[:, None]


def energy(wave: Tensor) -> Tensor:
    """(B, 1): the sum of squares; padding adds nothing."""
    return wave.square().sum(1, keepdim=True)


def bounded(wave: Tensor) -> Tensor:
    """Rows that reach beyond -1..1 are made quieter, never cut."""
    return wave / wave.abs().amax(1, keepdim=True).clamp_min(1.0)


def decibels(draw: Draw, purpose: str, span: tuple[float, float]) -> Tensor:
    """(B, 1) amplitudes, uniform in decibels between the ends of `span`."""
    low, high = span
    return 10 ** ((low + (high - low) * draw.uniform(purpose, 1)) / 20)


def convolve(wave: Tensor, kernel: Tensor, *, ahead: int = 0) -> Tensor:
    """(B, L): each row convolved with its kernel (B or 1, K), of which `ahead` samples are taken back.

    By Fourier transform of a size that holds all of it, so that nothing wraps around.  Cost: three transforms of L + K."""
    length = wave.shape[1]
    size = next_fast_len(length + kernel.shape[1] - 1, real=True)
    found = torch.fft.irfft(torch.fft.rfft(wave, size) * torch.fft.rfft(kernel.to(wave.dtype), size), size)
    return found[:, ahead : ahead + length]


def only(chance: float, draw: Draw, purpose: str, changed: Tensor, wave: Tensor) -> Tensor:
    """Rows are `changed` with this chance, else left as they were."""
    if chance >= 1:
        return changed
    return torch.where(draw.uniform(f"{purpose} at all", 1) < chance, changed, wave)


@lru_cache(maxsize=8)
def noise_bank(colour: float) -> Tensor:
    """(BANK,) float32 of mean square 1: 0 white, 1 pink (3 dB an octave), 2 brown, flat below a 800th of the rate; its end meets its beginning."""
    white = random.normal(random.key("noise bank"), torch.zeros(1, dtype=torch.int64), (BANK,))[0].double()
    spectrum = torch.fft.rfft(white)
    frequency = torch.arange(len(spectrum), dtype=torch.float64).clamp_min(BANK / 800)
    spectrum = spectrum * frequency ** (-colour / 2)
    spectrum[0] = 0
    noise = torch.fft.irfft(spectrum, BANK)
    return (noise / noise.square().mean().sqrt()).float()


def noise_of(which: Tensor, start: Tensor, colours: tuple[float, ...], length: int) -> Tensor:
    """(B, length) of the bank of each row's colour, from its place `start` (B,) on, round and round."""
    ends = [noise_bank(c) for c in colours]
    rounds = [torch.cat([bank.repeat(1 + length // BANK), bank[: length % BANK]]) for bank in ends]
    reel = torch.cat(rounds).to(start.device)
    return reel.unfold(0, length, 1)[which * len(rounds[0]) + start]


def curve(
    frequency: Tensor, draw: Draw, purpose: str, *, bumps: int, gain: float, tilt: float, span: tuple[float, float]
) -> Tensor:
    """(B, F) decibels of a random equaliser at `frequency` (F,) Hz: `bumps` bells of up to +-gain, each half to two octaves wide with its
    centre within `span` Hz, on a slope of up to +-tilt an octave about 1 kHz."""
    octave = torch.log2(frequency.clamp_min(20.0) / 1000)
    number = draw.uniform(purpose, bumps + 1, 3)
    bell, slope = number[:, :bumps], 2 * number[:, bumps, :1] - 1
    low, high = (math.log2(f / 1000) for f in span)
    centre, height, width = low + (high - low) * bell[..., 0], 2 * bell[..., 1] - 1, 0.5 + 1.5 * bell[..., 2]
    shape = torch.exp(-0.5 * ((octave - centre[..., None]) / (width[..., None] / 2)).square())
    return gain * (height[..., None] * shape).sum(1) + tilt * slope * octave


@dataclass(frozen=True)
class Gain:
    """Louder or quieter by up to `span` decibels, never beyond full scale."""

    span: tuple[float, float] = (-12.0, 6.0)
    purpose: str = "gain"

    def __call__(self, view: View, draw: Draw) -> View:
        wave = as_wave(view)
        most = 1 / wave.abs().amax(1, keepdim=True).clamp_min(_SILENCE)
        return view.with_parts(wave=wave * torch.minimum(decibels(draw, self.purpose, self.span), most))


@dataclass(frozen=True)
class Equalise:
    """Another microphone: a random curve over frequency (see `curve`), as a filter without delay.

    What stands within `TAPS` / 2 samples of the end loses what would ring past it."""

    rate: int
    bumps: int = 3
    gain: float = 6.0
    tilt: float = 2.0
    chance: float = 1.0
    purpose: str = "equaliser"

    def response(self, frequency: Tensor, draw: Draw) -> Tensor:
        """(B, F): the amplitude at `frequency` (F,) Hz that is asked for."""
        span = (100.0, 0.45 * self.rate)
        return 10 ** (
            curve(frequency, draw, self.purpose, bumps=self.bumps, gain=self.gain, tilt=self.tilt, span=span) / 20
        )

    def __call__(self, view: View, draw: Draw) -> View:
        wave = as_wave(view)
        grid = torch.linspace(0, self.rate / 2, (TAPS + 1) // 2 + 1, device=wave.device)
        kernel = torch.fft.irfft(self.response(grid, draw), TAPS + 1).roll(TAPS // 2, 1)[:, :TAPS]
        kernel = kernel * torch.hann_window(TAPS + 2, periodic=False, device=wave.device)[1:-1]
        changed = bounded(convolve(wave, kernel, ahead=TAPS // 2) * inside(view["length"], wave.shape[1]))
        return view.with_parts(wave=only(self.chance, draw, self.purpose, changed, wave))


@dataclass(frozen=True)
class Noise:
    """Noise of one of `colours` (0 white, 1 pink, 2 brown) so many decibels below the row's own power, over its true length.

    Silence stays silent: nothing is below it."""

    ratio: tuple[float, float] = (5.0, 30.0)
    colours: tuple[float, ...] = (0.0, 1.0)
    chance: float = 1.0
    purpose: str = "noise"

    def __call__(self, view: View, draw: Draw) -> View:
        wave = as_wave(view)
        which = draw.integers(f"{self.purpose} colour", len(self.colours))
        start = draw.integers(f"{self.purpose} start", BANK)
        noise = noise_of(which, start, self.colours, wave.shape[1]) * inside(view["length"], wave.shape[1])
        ratio = decibels(draw, self.purpose, self.ratio)
        changed = bounded(wave + noise * (energy(wave) / energy(noise).clamp_min(_SILENCE)).sqrt() / ratio)
        return view.with_parts(wave=only(self.chance, draw, self.purpose, changed, wave))


@dataclass(frozen=True)
class Reverberate:
    """A room: the wave, and behind it its convolution with white noise that falls by 60 dB in `seconds`.

    `wet`: the power of the room's answer beside the direct sound, in decibels.  Energy and length are kept."""

    rate: int
    seconds: tuple[float, float] = (0.1, 0.6)
    wet: tuple[float, float] = (-15.0, 0.0)
    chance: float = 1.0
    purpose: str = "room"

    def __call__(self, view: View, draw: Draw) -> View:
        wave = as_wave(view)
        low, high = self.seconds
        taps = max(2, math.ceil(high * self.rate))
        time = torch.arange(taps, device=wave.device) / self.rate
        decay = torch.exp(-math.log(1000) * time / (low + (high - low) * draw.uniform(f"{self.purpose} decay", 1)))
        start = draw.integers(f"{self.purpose} start", BANK)
        answer = noise_of(torch.zeros_like(start), start, (0.0,), taps) * decay
        answer = answer * decibels(draw, self.purpose, self.wet) / energy(answer).clamp_min(_SILENCE).sqrt()
        answer[:, 0] = 1.0
        heard = convolve(wave, answer) * inside(view["length"], wave.shape[1])
        changed = bounded(heard * (energy(wave) / energy(heard).clamp_min(_SILENCE)).sqrt())
        return view.with_parts(wave=only(self.chance, draw, self.purpose, changed, wave))


@dataclass(frozen=True)
class Speed:
    """Played at one of `percent` of its speed: pitch, formants and tempo move together, and with them the length.

    Ko et al. (2015) take 90, 100 and 110.  Resampled by windowed sincs of `zeros` zero crossings on either side, whose band ends below the lower of
    the two rates' halves, so that nothing is folded back.  Cost: one product of matrices a speed."""

    percent: tuple[int, ...] = (90, 95, 100, 105, 110)
    zeros: int = 16
    purpose: str = "speed"

    def __call__(self, view: View, draw: Draw) -> View:
        wave, length = as_wave(view), view["length"]
        choice = draw.integers(self.purpose, len(self.percent))
        factors = [Fraction(p, 100) for p in self.percent]
        into = torch.tensor([f.denominator for f in factors], device=length.device)[choice]
        outof = torch.tensor([f.numerator for f in factors], device=length.device)[choice]
        spans = -(-length * into // outof)
        out = wave.new_zeros(len(wave), int(spans.max()) if len(spans) else 0)
        for number, factor in enumerate(factors):
            rows = (choice == number).nonzero().flatten()
            if len(rows):
                width = int(spans[rows].max())
                out[rows, :width] = resampled(wave[rows], factor, width, self.zeros)
        return view.with_parts(wave=bounded(out * inside(spans, out.shape[1])), length=spans)


def resampled(wave: Tensor, factor: Fraction, width: int, zeros: int) -> Tensor:
    """(B, width): sample j is the wave at place j x factor, by a Kaiser-windowed sinc (Smith, "Digital audio resampling")."""
    if factor == 1:
        return F.pad(wave, (0, max(0, width - wave.shape[1])))[:, :width]
    step, phases = factor.numerator, factor.denominator
    band = 0.97 * min(1.0, 1 / float(factor))
    reach = math.ceil(zeros / band)
    at = torch.arange(2 * reach + step, dtype=torch.float64) - reach
    time = (at - torch.arange(phases, dtype=torch.float64)[:, None] * step / phases) * band
    taper = torch.special.i0(9.0 * (1 - (time / zeros).clamp(-1, 1).square()).sqrt())
    kernel = torch.sinc(time) * taper * (time.abs() <= zeros)
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(wave)
    blocks = -(-width // phases)
    behind = max(0, (blocks - 1) * step + reach + step - wave.shape[1])
    frames = F.pad(wave, (reach, behind)).unfold(1, 2 * reach + step, step)[:, :blocks]
    return (frames @ kernel.T).flatten(1)[:, :width]


@dataclass(frozen=True)
class Band:
    """What is left between `low` and `high` Hz: an old recording, a telephone."""

    rate: int
    low: float
    high: float

    def __call__(self, view: View, draw: Draw) -> View:
        wave = as_wave(view)
        time = torch.arange(TAPS, device=wave.device, dtype=torch.float64) - TAPS // 2
        edges = [2 * min(edge / self.rate, 0.5) for edge in (self.low, self.high)]
        below, above = (share * torch.sinc(share * time) for share in edges)
        kernel = (above - below) * torch.kaiser_window(TAPS, periodic=False, beta=8.0, dtype=torch.float64).to(
            wave.device
        )
        heard = convolve(wave, kernel[None], ahead=TAPS // 2)
        return view.with_parts(wave=bounded(heard * inside(view["length"], wave.shape[1])))


@dataclass(frozen=True)
class Clipped:
    """Cut off at a share of its own peak, and brought back to that peak: a microphone that was too close."""

    share: float

    def __call__(self, view: View, draw: Draw) -> View:
        wave = as_wave(view)
        most = self.share * wave.abs().amax(1, keepdim=True)
        return view.with_parts(wave=torch.minimum(torch.maximum(wave, -most), most) / self.share)


@dataclass(frozen=True)
class Stored:
    """As a file of 16 bits holds it: what is quiet loses its last bits."""

    def __call__(self, view: View, draw: Draw) -> View:
        return view.with_parts(wave=(as_wave(view) * FULL).round().clamp(-32768, 32767).to(torch.int16))


def corruptions(rate: int) -> dict[str, dict[int, Transform]]:
    """{name: {severity 1, 3, 5: transform}} for waves at `rate` Hz: what other places, microphones and lines do to sound.

    noise: pink, 20, 10 and 0 dB below the row; reverberation: 0.3, 0.6 and 1.2 s, as strong as the direct sound; band: up to a quarter of the
    rate, a telephone's 300 to 3400 Hz, 500 to 1500 Hz; clipping: at 0.3, 0.1 and 0.03 of the peak; level: 15, 30 and 45 dB quieter, in 16 bits.
    Pure functions of (seed, row); waves come out as int16.  For tests of robustness, never for training."""
    severities = (1, 3, 5)
    phone = min(3400.0, 0.425 * rate)
    found: dict[str, list[Transform]] = {
        "noise": [Noise((r, r), (1.0,)) for r in (20.0, 10.0, 0.0)],
        "reverberation": [Reverberate(rate, (t, t), (0.0, 0.0)) for t in (0.3, 0.6, 1.2)],
        "band": [Band(rate, low, high) for low, high in ((0.0, rate / 4), (300.0, phone), (500.0, 1500.0))],
        "clipping": [Clipped(share) for share in (0.3, 0.1, 0.03)],
        "level": [Gain((d, d)) for d in (-15.0, -30.0, -45.0)],
    }
    return {
        name: {s: Compose((step, Stored())) for s, step in zip(severities, steps, strict=True)}
        for name, steps in found.items()
    }
