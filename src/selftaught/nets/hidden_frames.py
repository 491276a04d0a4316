"""A clip heard with some of its frames hidden: what wav2vec 2.0 and HuBERT both begin with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core import View
from ..measures import participation
from .ragged import Layout
from .wav2vec2 import Wav2Vec2


@dataclass(frozen=True)
class Heard:
    """All clips' frames one behind the other (M)."""

    frames: Tensor
    """(M, channels): the stem's."""
    normed: Tensor
    """(M, channels): the same, normalised."""
    context: Tensor
    """(M, width): what the transformer makes of them, the hidden ones unseen."""
    hidden: Tensor
    """(M,) bool."""
    layout: Layout

    @property
    def pooled(self) -> Tensor:
        """(B, width) without gradient: the mean of each clip's frames."""
        return self.layout.pad(self.context.detach()).sum(1) / self.layout.lengths[:, None].clamp_min(1)

    def ranks(self) -> dict[str, Tensor]:
        """Directions that stem and context use: a stem may collapse behind a context that still looks alive, since positions differ."""
        return {"stem_rank": participation(self.normed), "rank": participation(self.context)}


def hide(encoder: Wav2Vec2, view: View, hidden: Tensor, stem_gradient: float = 1.0) -> Heard:
    """The view with its `hidden` (B, T) bool frames replaced by the mask token; the stem gets `stem_gradient` of its gradient."""
    frames, layout = encoder.stem(view)
    if frames.requires_grad and stem_gradient != 1:
        frames.register_hook(lambda grad: grad * stem_gradient)
    normed, read = encoder.projected(frames)
    flat = layout.pack(hidden)
    context = encoder.context(torch.where(flat[:, None], encoder.mask_token.to(read.dtype), read), layout)[-1]
    return Heard(frames, normed, context, flat, layout)


def clips_in(seconds: float, modality: Any) -> int:
    """How many typical clips are about `seconds` of sound: a power of two, 8 to 128."""
    typical = min(modality.typical, modality.context) / modality.rate
    return max(8, min(128, 2 ** round(math.log2(max(1.0, seconds / typical)))))


def typical_frames(encoder: Wav2Vec2, modality: Any) -> int:
    """How many frames a typical clip has."""
    return int(encoder.frames(torch.tensor([min(modality.typical, modality.context)])))
