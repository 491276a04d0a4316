"""Whole sounds as tokens: what an encoder hears of each stretch of time, however long the sound is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core import Encoder, RequestError, View

LONGEST = 30.0
"""Seconds of a sound that an encoder hears in one go; longer ones are heard in stretches that overlap."""
OVERLAP = 4.0
"""Seconds that neighbouring stretches share: a token is taken from the one that shows more around it."""


@dataclass(frozen=True)
class Listening:
    """How an encoder's last stage is read: `width` of a token, `stride` in samples between tokens, at `rate` Hz; a sound of `first` samples has one."""

    width: int
    stride: int
    rate: int
    first: int = 1

    def count(self, length: np.ndarray) -> np.ndarray:
        """(N,) how many tokens sounds of `length` (N,) samples have."""
        return np.maximum(0, 1 + (length - self.first) // self.stride)

    @property
    def seconds(self) -> float:
        """Of a token."""
        return self.stride / self.rate

    def __call__(self, encoder: Encoder, view: View) -> tuple[Tensor, Tensor]:
        """(B, T, width) tokens of whole sounds, {"wave", "length"} (or {"mel", "length"}, in one go), and (B,) how many each has."""
        if "wave" not in view.parts:
            return tokens_of(encoder, view)
        wave, length = view["wave"], view["length"]
        longest = max(1, round(LONGEST * self.rate / self.stride)) * self.stride
        if wave.shape[1] <= longest:
            return tokens_of(encoder, view)
        shared = max(1, round(OVERLAP * self.rate / self.stride / 2)) * 2 * self.stride
        step = longest - shared
        many = 1 + torch.div((length - longest).clamp_min(0) + step - 1, step, rounding_mode="floor")
        owner = torch.repeat_interleave(torch.arange(len(view), device=length.device), many)
        first = (torch.arange(len(owner), device=length.device) - (many.cumsum(0) - many)[owner]) * step
        place = first[:, None] + torch.arange(longest, device=length.device)
        cut = wave[owner[:, None], place.clamp_max(wave.shape[1] - 1)]
        span = (length[owner] - first).clamp_max(longest)
        cut = cut.masked_fill(place >= length[owner][:, None], 0)
        values, count = tokens_of(encoder, view.take(owner).with_parts(wave=cut, length=span))
        half = shared // 2 // self.stride
        rows = []
        for row in range(len(view)):
            parts = (owner == row).nonzero()[:, 0].tolist()
            kept = []
            for number, at in enumerate(parts):
                begin = half if number else 0
                end = step // self.stride + half if at != parts[-1] else int(count[at])
                kept.append(values[at, begin:end])
            rows.append(torch.cat(kept))
        lengths = torch.tensor([len(r) for r in rows], device=length.device)
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths


def tokens_of(encoder: Encoder, view: View) -> tuple[Tensor, Tensor]:
    """((B, T, D) tokens of an encoder's last stage, (B,) how many of them are each row's); RequestError where these are no stretches of time."""
    stage = encoder.features(view)[-1]
    values = stage.patches
    if stage.grid is not None and len(stage.grid) != 1:
        raise RequestError(
            f"The tokens of {encoder.kind} are no stretches of time.", "Take an encoder of sound (sound-transformer)."
        )
    if stage.valid is None:
        return values, torch.full((len(values),), values.shape[1], device=values.device)
    return values, stage.valid[:, stage.prefix :].sum(1)


@torch.no_grad()
def listening(encoder: Encoder, rate: int) -> Listening:
    """How this encoder of sounds at `rate` Hz is read: seen by letting it hear sounds of several lengths.

    Tokens are taken to follow one another at one distance, as frames and strided convolutions have them.
    """
    was = encoder.training
    encoder.eval()
    try:
        longest = 3 * rate // 2
        width, seen = _heard(encoder, torch.tensor([rate // 8, longest]))
        few = int(seen[0]) + 1
        many = few + 2
        if int(seen[1]) < many:
            raise RequestError(
                f"{encoder.kind} gives no tokens for stretches of time.",
                "Take an encoder of sound (sound-transformer).",
            )
        first, last = (_shortest(encoder, count, longest) for count in (few, many))
    finally:
        encoder.train(was)
    stride = (last - first) // (many - few)
    return Listening(width, stride, rate, first - (few - 1) * stride)


def noise(lengths: Tensor) -> View:
    """A view of noises of `lengths` (B,) samples, always the same: for what shows on any sound, such as how many tokens there are."""
    most = int(lengths.max())
    wave = ((torch.arange(most) * 7919) % 2003 - 1001).to(torch.int16).expand(len(lengths), -1).clone()
    wave.masked_fill_(torch.arange(most) >= lengths[:, None], 0)
    return View("sound", parts={"wave": wave, "length": lengths})


def _heard(encoder: Encoder, lengths: Tensor) -> tuple[int, Tensor]:
    """(width of a token, tokens of sounds of these lengths)."""
    place = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    values, count = tokens_of(encoder, noise(lengths).to(place))
    return values.shape[2], count.cpu()


def _shortest(encoder: Encoder, count: int, longest: int) -> int:
    """Samples of the shortest sound that has `count` tokens, up to `longest`."""
    low, high = 0, longest  # too short; long enough
    while high - low > 1:
        tried = torch.linspace(low, high, min(10, high - low + 1)).long()[1:-1].unique()
        enough = _heard(encoder, tried)[1] >= count
        high = int(tried[enough].min()) if enough.any() else high
        low = int(tried[~enough].max()) if (~enough).any() else low
    return high
