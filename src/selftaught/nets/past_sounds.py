"""The last clips that were heard, as a background for new ones (BYOL-A's memory)."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Draw, View, dist
from .queue import Queue
from .sound import within


class PastSounds(nn.Module):
    """A ring of `size` clips, the first `frames` of each (shorter ones repeated); silence before there are any.  Buffers, so that a checkpoint holds them.

    Niizumi et al. 2021 (arXiv:2103.06695), section III-B, equation 3.
    """

    def __init__(self, *, size: int, frames: int, bands: int, floor: float):
        super().__init__()
        self.frames, self.bands = frames, bands
        self.ring = Queue(size, frames * bands)
        self.ring.rows.fill_(floor)

    def forward(self, view: View, draw: Draw, most: float) -> View:
        """The view with one of them under each row, mixed where energies add: log((1 - r) exp a + r exp b), r uniform up to `most`."""
        mel = view["mel"]
        share = most * draw.uniform("share", 1, 1).to(mel.dtype)
        under = self.ring.rows[draw.integers("past", len(self.ring.rows))].to(mel.dtype).unflatten(1, (-1, self.bands))
        under = under[:, torch.arange(mel.shape[1], device=mel.device) % self.frames]
        both = torch.logaddexp(mel + torch.log1p(-share), under + share.clamp_min(1e-9).log())
        return view.with_parts(mel=torch.where(within(mel.shape[1], view["length"])[..., None], both, mel))

    def kept(self, view: View) -> Tensor:
        """(W B, frames x bands): what is to be kept of all ranks' rows, for `push` after the step."""
        mel = view["mel"]
        place = torch.arange(self.frames, device=mel.device) % view["length"].clamp_min(1)[:, None]
        return dist.gather_rows(mel.gather(1, place[..., None].expand(-1, -1, self.bands)).flatten(1))

    def push(self, rows: Tensor | None) -> None:
        """The oldest make room."""
        self.ring.push(rows)
