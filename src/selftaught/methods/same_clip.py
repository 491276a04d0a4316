"""Same clip or not: do two stretches of sound come from one recording?

Paper: Isola et al., "Learning Visual Groups from Co-occurrences in Space and Time", ICLR 2016 workshop (arXiv:1511.06811), as a yes or no; of sound, Jansen et al., "Unsupervised
Learning of Semantic Audio Representations", ICASSP 2018 (arXiv:1711.02209), temporal proximity.

When it works: sounds whose parts resemble one another (instruments, birds, machines, scenes); voices, where "the same recording" is the same speaker without anybody's labels.
When it fails: where level, room or microphone tell the recording, since that answers the question: each stretch is heard through a gain, an equaliser and a background of its own, and
`evaluate` should be asked for the recording as well as for the task; words, since another word of the same voice is "the same".
What to watch: `accuracy`, of two answers, with as many yes as no; chance is 0.5, and `baseline` ln 2.

--pairs group asks for two clips of one group instead (recording, speaker, machine: --group COLUMN); other clips of the batch are then taken to be of other groups, which some are not:
use it with many groups.

Cost: two stretches of a row.  Rows of the batch meet in the loss and no replay is offered: accumulation is refused.

Scaled to the budget: every other row of the batch answers no, weighed down to as much as the yes; the paper draws one.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, ViewSpec, dist, encode
from ..losses import same_or_not
from ..nets.heads import Linear


class SameClip(Method):
    """Tells whether two stretches come from the same clip."""

    family: ClassVar[str] = "predictive"
    paper: ClassVar[str] = "Isola et al. 2016, Learning Visual Groups from Co-occurrences in Space and Time"
    needs: ClassVar[frozenset[str]] = frozenset({"sound", "augment"})
    couples_rows: ClassVar[bool] = True

    pairs: Literal["clip", "group"] = "clip"
    """Two stretches of one clip, or of two clips of one group (--group)."""
    width: int = 128
    """Width in which stretches are compared."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128, optimizer="adamw", lr=1e-3, weight_decay=1e-2,
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"pairs": "one other clip -> all others of the batch"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        if self.pairs == "group" and not facts.groups:
            raise RequestError(
                "pairs = 'group': these data have no groups.", "Name a column with --group, or leave --pairs out."
            )
        view = facts.modality.augment(facts)
        return [ViewSpec(view), ViewSpec(view, rows="same group" if self.pairs == "group" else "one")]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder = encoder
        self.asked, self.other = Linear(encoder.dim, self.width), Linear(encoder.dim, self.width)
        self.bias = torch.nn.Parameter(torch.zeros(()))
        return self

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        if len(batch) * dist.world() < 2:
            raise RequestError("same-clip needs two rows in a batch at least.", "Give a larger batch.")
        one, two = encode(self.encoder, batch.views)
        loss, right = same_or_not(self.asked(one), self.other(two), self.bias)
        return {
            "loss": loss, "accuracy": right.detach(), "baseline": loss.new_tensor(math.log(2)), "features": one.detach(), "positives": two.detach(),
        }  # fmt: skip

    def keep(self) -> Kept:
        return Kept(self.encoder, {"asked": self.asked, "other": self.other})
