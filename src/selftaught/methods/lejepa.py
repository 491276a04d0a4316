"""LeJEPA: views of an example predict their common centre, and embeddings are held to an isotropic normal distribution (SIGReg).

Paper: Balestriero & LeCun, "LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics", 2025
(arXiv:2511.08544); objective: the prediction loss and SIGReg, weighed by one number.

When it works: small batches and any encoder: no negatives, no teacher, no stopped gradient, no centring, one number to choose (0.01 to 0.1).
When it fails: data of few factors, or heavily unequal ones, which an isotropic normal distribution fits badly; very short runs.
What to watch: `normality`: about 1 for rows that are normal along every direction, in proportion to the batch when collapsed; `prediction`.

Cost: that of its views (two large, `crops` small ones), and rows x directions x 17 sines and cosines a view.  Rows of the batch meet in the
statistic, and no replay is offered: accumulation is refused.

Scaled to the budget: 6 small crops -> 2; 1,024 directions -> 256, drawn anew each step; projector 2048-2048 -> 512-512.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core import Batch, Duration, Encoder, Facts, Kept, Method, Recipe, ViewSpec, encode, random
from ..losses import epps_pulley, mean
from ..nets.heads import MLP


class LeJEPA(Method):
    """Joint-embedding prediction with a sketched test for normality instead of heuristics."""

    family: ClassVar[str] = "decorrelation"
    paper: ClassVar[str] = "Balestriero & LeCun 2025, LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics"  # fmt: skip
    needs: ClassVar[frozenset[str]] = frozenset({"augment", "local"})
    couples_rows: ClassVar[bool] = True

    weight: float = 0.05
    """What the test for normality weighs against prediction, 0 to 1."""
    crops: int = 2
    """Small crops of each example, beside the two large ones."""
    directions: int = 256
    """Random directions along which normality is tested at each step."""
    hidden: int = 512
    """Hidden width of the projector."""
    width: int = 32
    """Output width of the projector, where prediction and test happen."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation inside the projector."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=256, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(200, "epochs"),
            scaled={"crops": f"6 small crops -> {self.crops}", "directions": f"1024 -> {self.directions}"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        large = [ViewSpec(facts.modality.augment(facts)) for _ in range(2)]
        return large + [ViewSpec(facts.modality.local(facts), role="local") for _ in range(self.crops)]

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        self.encoder = encoder
        self.projector = MLP((encoder.dim, self.hidden, self.hidden, self.width), norm=self.norm)
        return self

    def _sketch(self, batch: Batch) -> Tensor:
        """(P, S) unit directions of this step, the same on every rank."""
        key = random.key(batch.seed, batch.step, "directions")
        drawn = random.normal(key, torch.arange(self.directions, device=batch.index.device), (self.width,))
        return F.normalize(drawn, dim=1).T

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        views = batch.of("global") + batch.of("local")
        features = encode(self.encoder, views)
        embedded = self.projector(torch.cat(features)).unflatten(0, (len(views), -1))  # (V, B, P)
        embedded = embedded.float() if embedded.dtype in (torch.float16, torch.bfloat16) else embedded
        centre = embedded[: len(batch.of("global"))].mean(0)
        prediction = mean((embedded - centre).square().mean((0, 2)))
        sketch = self._sketch(batch)
        normality = torch.stack([epps_pulley(x, sketch) for x in embedded]).mean()
        return {
            "loss": (1 - self.weight) * prediction + self.weight * normality, "prediction": prediction.detach(),
            "normality": normality.detach(), "features": features[0].detach(), "positives": features[1].detach(),
        }  # fmt: skip

    def keep(self) -> Kept:
        return Kept(self.encoder, {"projector": self.projector})
