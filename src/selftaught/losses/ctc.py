"""Connectionist temporal classification: every way in which frames can spell a sequence of labels, summed (Graves et al. 2006)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Ragged
from .precision import full_precision

BLANK = 0
"""The id of the label that stands for no label."""


def frames_needed(targets: Ragged) -> Tensor:
    """(B,) the fewest frames that can spell each sequence: its labels, and a blank between two that are alike."""
    values, lengths = targets.values, targets.lengths
    owner = torch.repeat_interleave(torch.arange(len(targets), device=values.device), lengths)
    again = (values[1:] == values[:-1]) & (owner[1:] == owner[:-1])
    repeats = torch.zeros_like(lengths)
    return lengths + repeats.index_add(0, owner[1:], again.to(lengths.dtype))


@full_precision
def ctc(logits: Tensor, frames: Tensor, targets: Ragged) -> Tensor:
    """(B,) nats: -log of the probability that the first `frames` (B,) of `logits` (B, T, V) spell `targets` (labels in 1..V-1).

    An empty sequence is spelled by blanks alone.  A row with fewer frames than `frames_needed` cannot be spelled: ValueError, since its loss is
    infinite and a zero in its place would say that it is learned; whoever trains leaves such rows out beforehand and counts them.  In fp32 (float64
    stays).  O(B T U).
    """
    needed = frames_needed(targets)
    if bool((needed > frames).any()):
        short = int((needed > frames).sum())
        raise ValueError(f"{short} of {len(frames)} rows have fewer frames than their labels need")
    logp = logits.log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(logp, targets.values, frames, targets.lengths, blank=BLANK, reduction="none")
