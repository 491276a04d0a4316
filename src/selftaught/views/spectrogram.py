"""Views of sound as log-mel frames: masks, background, equaliser, vocal tract, pitch, tempo and fading, for hardly any cost.

They work on views whose waves a front end has turned into "mel" (B, T, F), natural logarithms of energies, and "length" in frames; behind a row's
end stands the front end's floor, and stays.  What becomes of a row depends on the row and its draw alone.

Legend: B rows, T frames, F bands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..core import Draw, Transform, View, random
from ..nets import mel as front_end
from ..nets.mel import LogMel
from .clips import ToMel
from .compose import Compose
from .sound import Equalise, Gain, Noise, Reverberate, curve, inside

FLOOR = math.log(front_end.FLOOR)
"""Of the front end: the least that a frame's logarithm is."""
NATS = math.log(10) / 10
"""Of a decibel of energy."""
TEXTURE = 4096
"""Frames of noise that are kept."""


def frames_of(view: View) -> tuple[Tensor, Tensor]:
    """mel (B, T, F) and (B, T, 1) bool: the frames before each row's end."""
    if "mel" not in view.parts:
        raise ValueError(f"a view of sound without log-mel frames, with {sorted(view.parts)}: put ToMel before this")
    mel = view["mel"]
    return mel, inside(view["length"], mel.shape[1])[..., None]


def changed(view: View, mel: Tensor, floor: float) -> View:
    """The view with `mel` up to each row's end, nothing below the floor, and behind the end what stood there."""
    old, valid = frames_of(view)
    return view.with_parts(mel=torch.where(valid, mel.clamp_min(floor), old))


def centres(bands: int, low: float, high: float) -> Tensor:
    """(F,) Hz: where kaldi's mel bands between `low` and `high` Hz have their peaks."""
    first, last = front_end.mels(torch.tensor([low, high], dtype=torch.float64)).tolist()
    return 700 * torch.expm1(torch.linspace(first, last, bands + 2, dtype=torch.float64)[1:-1] / 1127)


def band_of(frequency: Tensor, bands: int, low: float, high: float) -> Tensor:
    """The (fractional) number of the band that peaks at `frequency` Hz; the inverse of `centres`."""
    first, last = front_end.mels(torch.tensor([low, high], dtype=torch.float64)).tolist()
    return (front_end.mels(frequency) - first) / (last - first) * (bands + 1) - 1


def between(place: Tensor, bands: int) -> Tensor:
    """(B, F, F) matrices that read a spectrum at the fractional places (B, F): straight lines between bands, the last band beyond the ends."""
    place = place.clamp(0, bands - 1)
    low = place.floor().clamp_max(max(0, bands - 2)).long()
    weight = (place - low).float()
    out = torch.zeros(*place.shape, bands, device=place.device)
    out.scatter_(2, low[..., None], (1 - weight)[..., None])
    out.scatter_add_(2, (low + 1).clamp_max(bands - 1)[..., None], weight[..., None])
    return out.transpose(1, 2)


@dataclass(frozen=True)
class SpecAugment:
    """Masks over bands and over time, filled with the row's mean (Park et al. 2019).

    So many masks of up to a share of the bands, and of up to a share of the row's true length: there is none in the padding, and of short rows
    something is always left while masks x share stays below 1."""

    bands: int = 2
    band: float = 0.15
    times: int = 2
    time: float = 0.15
    purpose: str = "masks"

    def __post_init__(self):
        if self.bands * self.band >= 1 or self.times * self.time >= 1:
            raise ValueError(f"masks of {self.bands} x {self.band} and {self.times} x {self.time} may hide a whole row")

    def masked(self, view: View, draw: Draw) -> Tensor:
        """(B, T, F) bool: what is hidden."""
        mel, valid = frames_of(view)
        count = torch.full_like(view["length"], mel.shape[2])
        over = self.spans(draw.uniform(f"{self.purpose} of bands", self.bands, 2), self.band, count, mel.shape[2])
        along = self.spans(draw.uniform(f"{self.purpose} of time", self.times, 2), self.time, view["length"], mel.shape[1])  # fmt: skip
        return (over[:, None, :] | along[..., None]) & valid

    @staticmethod
    def spans(number: Tensor, share: float, size: Tensor, width: int) -> Tensor:
        """(B, width) bool: spans of up to `share` of each row's `size`; number (B, n, 2)."""
        most = (share * size[:, None]).floor()
        wide = torch.minimum((number[..., 0] * (most + 1)).floor(), most)
        first = (number[..., 1] * (size[:, None] - wide + 1)).floor()
        place = torch.arange(width, device=size.device)
        return ((place >= first[..., None]) & (place < (first + wide)[..., None])).any(1)

    def __call__(self, view: View, draw: Draw) -> View:
        mel, valid = frames_of(view)
        mean = (mel * valid).sum((1, 2)) / (view["length"].clamp_min(1) * mel.shape[2])
        return view.with_parts(mel=torch.where(self.masked(view, draw), mean[:, None, None], mel))


@dataclass(frozen=True)
class Hide:
    """SpecAugment of energies, which `front` makes where a view holds waves; without it, stretches of a wave fall silent.  Nothing moves."""

    front: LogMel | None = None
    masks: SpecAugment = SpecAugment()

    def __call__(self, view: View, draw: Draw) -> View:
        if self.front is not None and "mel" not in view.parts:
            view = ToMel(self.front)(view, draw)
        if "mel" in view.parts:
            return self.masks(view, draw)
        number = draw.uniform(f"{self.masks.purpose} of time", self.masks.times, 2)
        wave = view["wave"]
        hidden = self.masks.spans(number, self.masks.time, view["length"], wave.shape[1])
        return view.with_parts(wave=wave.masked_fill(hidden, 0))


@lru_cache(maxsize=4)
def texture(bands: int) -> Tensor:
    """(TEXTURE, F) natural-log energies of noise about 0, as short Fourier transforms of it scatter; its end meets its beginning."""
    number = random.uniform(random.key("texture"), torch.arange(TEXTURE), (bands, 2))
    spread = -torch.log1p(-number).mean(2)
    smooth = (spread + spread.roll(1, 0) + spread.roll(-1, 0)) / 3  # windows overlap
    return smooth.clamp_min(1e-6).log()


@dataclass(frozen=True)
class MixUp:
    """A background under the sound, mixed where energies add: log((1 - r) exp a + r exp b), r uniform up to `most` (BYOL-A, Niizumi et al. 2021).

    BYOL-A takes b from earlier clips.  A row that depends on others could be made again neither alone nor on another number of processes, so b is
    made up by the row's draw: noise of a random colour with bells, whose level wavers at one to a few hertz, of the row's own mean energy.
    `low`, `high`, `hop`: of the front end, Hz and seconds."""

    most: float = 0.4
    low: float = 20.0
    high: float = 8000.0
    hop: float = 0.010
    floor: float = FLOOR
    purpose: str = "background"

    def background(self, view: View, draw: Draw) -> Tensor:
        """(B, T, F): b, with the mean energy of each row over its true length."""
        mel, valid = frames_of(view)
        frames, bands = mel.shape[1:]
        start = draw.integers(f"{self.purpose} start", TEXTURE)
        reel = texture(bands).to(mel.device)
        reel = torch.cat([reel.repeat(1 + frames // TEXTURE, 1), reel[: frames % TEXTURE]])
        noise = reel.unfold(0, frames, 1)[start].transpose(1, 2)
        where = centres(bands, self.low, self.high).float().to(mel.device)
        colour = curve(where, draw, f"{self.purpose} colour", bumps=3, gain=12.0, tilt=4.0, span=(100.0, self.high))
        number = draw.uniform(f"{self.purpose} level", 3, 3)[..., None]
        time = torch.arange(frames, device=mel.device) * self.hop
        wave = torch.sin(2 * math.pi * ((0.5 + 4 * number[:, :, 0]) * time + number[:, :, 1]))
        made = noise + NATS * colour[:, None] + (NATS * 8 * number[:, :, 2] * wave).sum(1)[..., None]
        cells = (view["length"].clamp_min(1) * bands).log()[:, None, None]
        own, given = (
            torch.logsumexp(x.masked_fill(~valid, -math.inf), (1, 2), keepdim=True) - cells for x in (made, mel)
        )
        return made - own + given

    def __call__(self, view: View, draw: Draw) -> View:
        share = self.most * draw.uniform(self.purpose, 1, 1)
        quieter = view["mel"] + torch.log1p(-share)
        return changed(view, torch.logaddexp(quieter, self.background(view, draw) + share.log()), self.floor)


@dataclass(frozen=True)
class Filter:
    """Another microphone: a random curve over the bands (as `Equalise`, for hardly any cost; FilterAugment, Nam et al. 2022)."""

    bumps: int = 3
    gain: float = 6.0
    tilt: float = 2.0
    low: float = 20.0
    high: float = 8000.0
    floor: float = FLOOR
    purpose: str = "equaliser"

    def __call__(self, view: View, draw: Draw) -> View:
        where = centres(view["mel"].shape[2], self.low, self.high).float().to(view.device)
        found = curve(where, draw, self.purpose, bumps=self.bumps, gain=self.gain, tilt=self.tilt, span=(100.0, 0.9 * self.high))  # fmt: skip
        return changed(view, view["mel"] + NATS * found[:, None], self.floor)


@dataclass(frozen=True)
class Warp:
    """Another vocal tract: what stands at f moves to f x factor, factors of `span` uniform in their logarithm (VTLP, Jaitly & Hinton 2013).

    Above `knee` of the band it bends, so that its upper end stays where it is."""

    span: tuple[float, float] = (0.9, 1.1)
    knee: float = 0.6
    low: float = 20.0
    high: float = 8000.0
    floor: float = FLOOR
    purpose: str = "vocal tract"

    def source(self, factor: Tensor, bands: int) -> Tensor:
        """(B, F) Hz: where each band reads from; factor (B, 1)."""
        f = centres(bands, self.low, self.high).to(factor.device)
        factor = factor.double()
        bend = self.knee * self.high * factor.clamp_max(1.0)
        above = self.high - (self.high - bend / factor) / (self.high - bend) * (self.high - f)
        return torch.where(f <= bend, f / factor, above)

    def __call__(self, view: View, draw: Draw) -> View:
        bands = view["mel"].shape[2]
        low, high = map(math.log, self.span)
        factor = torch.exp(low + (high - low) * draw.uniform(self.purpose, 1))
        place = band_of(self.source(factor, bands), bands, self.low, self.high)
        return changed(view, view["mel"] @ between(place, bands), self.floor)


@dataclass(frozen=True)
class Pitch:
    """Another pitch under the same vocal tract: the fine structure over the bands moves by up to `span` semitones, the envelope stays.

    Unlike `Warp`, which moves both.  The envelope is what the first `cepstra` cosines describe (13: that of MFCC).  Harmonics stand apart only
    where bands are narrower than they are far from one another: of 64 bands, the lowest."""

    span: tuple[float, float] = (-4.0, 4.0)
    cepstra: int = 13
    low: float = 20.0
    high: float = 8000.0
    floor: float = FLOOR
    purpose: str = "pitch"

    def __call__(self, view: View, draw: Draw) -> View:
        mel = view["mel"]
        bands = mel.shape[2]
        place = (torch.arange(bands, dtype=torch.float64, device=mel.device) + 0.5) / bands
        cosines = torch.cos(math.pi * place[:, None] * torch.arange(min(self.cepstra, bands), device=mel.device))
        cosines = cosines / cosines.norm(dim=0)
        envelope = mel @ (cosines @ cosines.T).to(mel.dtype)
        low, high = self.span
        factor = 2 ** ((low + (high - low) * draw.uniform(self.purpose, 1)).double() / 12)
        source = centres(bands, self.low, self.high).to(mel.device) / factor
        where = band_of(source, bands, self.low, self.high)
        held = ((where >= 0) & (where <= bands - 1))[:, None]  # beyond the ends nothing is known of harmonics
        return changed(view, envelope + ((mel - envelope) @ between(where, bands)) * held, self.floor)


@dataclass(frozen=True)
class Stretch:
    """Another tempo, the pitch as it was: time is stretched by a factor of `span`, straight lines between frames; lengths change.

    `longest`: no row is stretched beyond so many frames, and none that is longer is cut.  A view's part "least" (B,): frames below which a row is not
    shortened, where it has as many."""

    span: tuple[float, float] = (0.8, 1.25)
    longest: int | None = None
    floor: float = FLOOR
    purpose: str = "tempo"

    def __call__(self, view: View, draw: Draw) -> View:
        mel, length = view["mel"], view["length"]
        low, high = map(math.log, self.span)
        factor = torch.exp(low + (high - low) * draw.uniform(self.purpose))
        frames = (length * factor).round().long().clamp_min(1)
        frames = frames if self.longest is None else torch.minimum(frames, length.clamp_min(self.longest))
        if "least" in view.parts:
            frames = torch.maximum(frames, torch.minimum(length, view["least"]))
        time = torch.arange(int(frames.max()) if len(frames) else 0, device=mel.device)
        ratio = (length.double() / frames)[:, None]
        place = torch.minimum(((time + 0.5) * ratio - 0.5).clamp_min(0), (length - 1).clamp_min(0)[:, None].double())
        before = place.floor().long()
        after = torch.minimum(before + 1, (length - 1).clamp_min(0)[:, None])
        row = torch.arange(len(mel), device=mel.device)[:, None]
        out = torch.lerp(mel[row, before], mel[row, after], (place - before).to(mel.dtype)[..., None])
        out = out.masked_fill(~inside(frames, len(time))[..., None], self.floor)
        return view.with_parts(mel=out, length=frames)


@dataclass(frozen=True)
class Fade:
    """Louder or quieter from one end to the other, each end by up to `gain` decibels of its own (BYOL-A's random linear fader)."""

    gain: float = 10.0
    floor: float = FLOOR
    purpose: str = "fade"

    def __call__(self, view: View, draw: Draw) -> View:
        mel, length = view["mel"], view["length"]
        ends = NATS * self.gain * (2 * draw.uniform(self.purpose, 2) - 1)
        time = torch.arange(mel.shape[1], device=mel.device) / (length - 1).clamp_min(1)[:, None]
        return changed(view, mel + torch.lerp(ends[:, :1], ends[:, 1:], time)[..., None], self.floor)


@dataclass(frozen=True)
class Elsewhere:
    """A whole sound as another room, microphone and speaker would have it: `energies` for views that hold "mel", `waves` for those that hold waves."""

    energies: Compose
    waves: Compose

    def __call__(self, view: View, draw: Draw) -> View:
        return (self.energies if "mel" in view.parts else self.waves)(view, draw)


def elsewhere(
    *,
    rate: int,
    strength: float = 1.0,
    tempo: bool = True,
    low: float = 20.0,
    high: float | None = None,
    hop: float = 0.010,
    floor: float = FLOOR,
) -> Elsewhere:
    """What another room, microphone, distance and speaker would change of a sound, without cutting it.

    On frames: background (`MixUp`), equaliser, vocal tract, tempo, fading and masks, which cost little beside the front end; on waves: room, equaliser, noise,
    gain.  `strength` scales them (1: of BYOL-A's order).  `tempo` False: nothing moves along the sound.  low, high, hop, floor: of the front end.
    Raises ValueError for a strength beyond 0 to 2.
    """
    if not 0 <= strength <= 2:
        raise ValueError(f"a strength of {strength} is not within 0 to 2")
    s, top = strength, rate / 2 if high is None else high
    room = Reverberate(rate, (0.1, 0.4), (-15.0, -3.0), chance=0.3 * s)
    noise = Noise((10.0, 30.0), chance=0.5 * s)
    steps: list[Transform] = [
        MixUp(0.4 * s, low=low, high=top, hop=hop, floor=floor),
        Filter(gain=6 * s, tilt=2 * s, low=low, high=top, floor=floor),
        Warp((1 - 0.1 * s, 1 + 0.1 * s), low=low, high=top, floor=floor),
    ]
    if tempo:
        steps.append(Stretch((1 - 0.1 * s, 1 + 0.1 * s), floor=floor))
    steps += [Fade(10 * s, floor=floor), SpecAugment(band=0.15 * s, time=0.15 * s)]
    return Elsewhere(
        Compose(tuple(steps)),
        Compose((room, Equalise(rate, gain=6 * s, tilt=2 * s), noise, Gain((-12 * s, 6 * s)))),
    )


def joint_sound(
    crop: Transform,
    to_mel: Transform | None = None,
    *,
    rate: int,
    strength: float = 1.0,
    low: float = 20.0,
    high: float | None = None,
    hop: float = 0.010,
    floor: float = FLOOR,
) -> Compose:
    """The view of joint-embedding methods on sound: a crop, then what another room, microphone, distance and speaker would change (`elsewhere`).

    `crop` cuts raw waves; `to_mel` (None: the encoder reads waves) turns them into frames.  Level and colour are always changed: four numbers of a clip often
    tell its speaker, and a view that keeps them teaches that.  Raises ValueError for a strength beyond 0 to 2.
    """
    other = elsewhere(rate=rate, strength=strength, low=low, high=high, hop=hop, floor=floor)
    if to_mel is None:
        return Compose((crop, *other.waves.steps))
    return Compose((crop, to_mel, *other.energies.steps))
