"""BYOL-A: what a slowly following copy of the network says of another version of the very same stretch of sound.

Paper: Niizumi et al., "BYOL for Audio: Self-Supervised Learning for General-Purpose Audio Representation", IJCNN 2021 (arXiv:2103.06695); objective: BYOL's equation 2, both ways;
versions: section III-B.

When it works: sounds of all kinds, instruments and voices; small convolutional networks; small batches, since no clip is pushed away from another.
When it fails: where pitch or tempo is what counts, which a window of the frames changes; very short runs (the copy must first become worth following: simclr leads); a learning rate at which
both agree on a constant: watch the effective rank.
What to watch: `loss`, from 0 (the same direction) to 8; near 0 within a few steps it is a collapse, not a success.

Beside byol: both versions are of one stretch, not of two, so that a clip need not sound alike all through: log-mel energies with a clip of the past under them (mixed where energies add;
a ring of the last ones, kept in the checkpoint), a window of them stretched to the whole in pitch and time, fading, and what the batch's mean and deviation then are taken out.

Cost: byol's: two versions through the encoder, and again through its copy.  Rows meet in the batch's mean and deviation: accumulation is refused.

Scaled to the budget: 2048 past clips -> 256 of a second at most; projector and predictor 4096-256 -> 512-128; the copy's momentum starts at 0.99 where the paper's stays at 0.99; Adam at 3e-4 -> AdamW
at 1e-3; batch 256, as in the paper.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn as nn
from torch import Tensor

from ..core import Batch, Draw, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, View, ViewSpec, dist
from ..losses import mean, negative_cosine
from ..nets.heads import MLP
from ..nets.past_sounds import PastSounds
from ..nets.sound import heard, within
from ..nets.teacher import Teacher
from ..views.resized_frames import ResizedFrames
from ..views.spectrogram import Fade

SECOND = 1.0
"""Of a past clip that is kept, at most."""


class BYOLA(Method):
    """A student predicts a slowly following teacher's answer to another version of the same sound."""

    family: ClassVar[str] = "distillation"
    paper: ClassVar[str] = "Niizumi et al. 2021, BYOL for Audio"
    aliases: ClassVar[tuple[str, ...]] = ("byola",)
    needs: ClassVar[frozenset[str]] = frozenset({"sound"})
    couples_rows: ClassVar[bool] = True
    commits: ClassVar[frozenset[str]] = frozenset({"past"})

    momentum: float = 0.99
    """How much of the teacher stays at each step, at the start; it rises to 1 over the run."""
    mixed: float = 0.4
    """Largest share of a past clip under a sound."""
    memory: int = 256
    """Past clips that are kept."""
    window: tuple[float, float] = (0.6, 1.5)
    """Smallest and largest share of the bands, and of the time, that is stretched to the whole; of the bands 1 at most."""
    fade: float = 10.0
    """Decibels by which beginning and end become louder or quieter, at most."""
    hidden: int = 512
    """Hidden width of projector and predictor."""
    width: int = 128
    """Output width of projector and predictor."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside projector and predictor.  Without it BYOL collapses easily."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"memory": f"2048 clips -> {self.memory}, so that it is filled early", "optimizer": "Adam at 3e-4 -> AdamW at 0.001"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(facts.modality.mild(facts))]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if getattr(encoder, "reads", "mel") != "mel" or self.memory < 1 or not 0 <= self.mixed < 1:
            raise RequestError(
                f"byol-a changes log-mel energies: {encoder.kind} reads waves, or memory = {self.memory}, mixed = {self.mixed} is no mixture.",
                "Take sound-conv or sound-transformer, memory of at least 1, mixed from 0 to below 1; for waves take byol.",
            )
        self.encoder, self.modality = encoder, facts.modality
        self.projector = MLP((encoder.dim, self.hidden, self.width), norm=self.norm)
        self.predictor = MLP((self.width, self.hidden, self.width), norm=self.norm)
        self.teacher = Teacher(self._student(), start=self.momentum, statistics="batch")
        front, seconds = facts.modality.front, min(SECOND, facts.modality.context / facts.modality.rate)
        frames = max(1, round(seconds / facts.modality.hop))
        self.past = PastSounds(size=self.memory, frames=frames, bands=front.bands, floor=front.floor_log)
        return self

    def _student(self) -> nn.Module:
        """What the teacher follows; the predictor is the student's alone."""
        return nn.Sequential(self.encoder, self.projector)

    def _version(self, view: View, draw: Draw) -> View:
        """The sound with a past one under it, a window of that, fading."""
        view, floor = self.past(view, draw, self.mixed), self.modality.front.floor_log
        return Fade(self.fade, floor)(ResizedFrames(self.window, self.window, floor)(view, draw), draw)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        mel, frames = heard(view, self.modality.front.to(view.device))
        view = View(view.modality, view.role, {"mel": mel, "length": frames})
        both = evened(View.cat([self._version(view, batch.draw(n)) for n in range(2)]), self.modality)
        features = self.encoder(both)
        predicted = self.predictor(self.projector(features)).chunk(2)
        with torch.no_grad():
            wanted = self.teacher(both).chunk(2)
        there, back = (2 + 2 * negative_cosine(p, w) for p, w in zip(predicted, reversed(wanted), strict=True))
        one, two = features.detach().chunk(2)
        return {
            "loss": mean(there + back), "past": self.past.kept(view), "features": one, "positives": two,
        }  # fmt: skip

    def after_step(self, progress: float, outputs: dict[str, Tensor]) -> None:
        self.teacher.update(self._student(), progress)
        self.past.push(outputs.get("past"))

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector, "predictor": self.predictor})


@torch.no_grad()
def evened(view: View, modality: Any) -> View:
    """The view with the normalised energies of its true frames brought to mean 0 and deviation 1 over all rows of all ranks."""
    mel, bands = view["mel"], view["mel"].shape[2]
    shift, scale = mel.new_tensor(modality.mean), mel.new_tensor(modality.std)
    there = within(mel.shape[1], view["length"])[..., None]
    normal = (mel - shift) / scale * there
    count = dist.total(there.sum()) * bands
    centred = (normal - dist.total(normal.sum()) / count) * there
    spread = (dist.total(centred.square().sum()) / count).clamp_min(1e-6).sqrt()
    return view.with_parts(mel=torch.where(there, centred / spread * scale + shift, mel))
