"""Distillation: a student says, of data without labels, what a trained teacher says of them: its features, or its classes.

Paper: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv:1503.02531); classes on unlabelled data: Chen et al., "Big Self-Supervised
Models are Strong Semi-Supervised Learners", NeurIPS 2020 (arXiv:2006.10029), equation 2.  Both see the same view: Beyer et al., "Knowledge Distillation: A Good Teacher
is Patient and Consistent", CVPR 2022 (arXiv:2106.05237).

    selftaught pretrain PHOTOS --method distil --teacher runs/teacher --out runs/student

The teacher: the folder of a run, of a saved encoder (its features are matched) or of a fine-tuned model (its classes are; the student is then such a model itself, which
`selftaught predict runs/student` takes), transformers:FOLDER_OR_NAME, or timm:NAME.TAG.  Pictures are normalised as it was trained, and resampled to its own side (--side
chooses another).

When it works: a good teacher exists (large, or trained on far more), and the student must be small or of another kind; a fine-tuned teacher that saw few labels, and many
rows without.  A few minutes give what minutes of other pretraining do not.
When it fails: the teacher knows nothing of these data: the student then learns its ignorance.  A fine-tuned teacher passes its mistakes on.  Crops
and mirrors that it never saw make it say odd things (digits, letters: --rows plain).
What to watch: `loss` against `baseline`, the best that one who sees no input could say; `agreement`, how often both name the same class.

Cost: one view through both, the teacher without gradient; it is kept in memory, and only its fingerprint in checkpoints: a run resumes with the same teacher or not at
all.  Rows do not meet in the loss: micro-batches add up where nothing is normalised over the batch.

Scaled to the budget: SGD or LARS for hundreds of epochs -> AdamW for minutes.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import modalities, nets
from ..core import Batch, Draw, Duration, Encoder, Facts, Kept, Method, Recipe, RequestError, Transform, View, ViewSpec
from ..losses import logged, mean, middle, negative_cosine, smooth_absolute, soft_cross_entropy
from ..nets.frozen import Frozen
from ..nets.heads import Linear


class Distil(Method):
    """Learns a trained network's answers."""

    family: ClassVar[str] = "distillation"
    paper: ClassVar[str] = "Hinton et al. 2015, Distilling the Knowledge in a Neural Network"
    aliases: ClassVar[tuple[str, ...]] = ("distill", "distillation")
    folders: ClassVar[frozenset[str]] = frozenset({"teacher"})

    teacher: str = ""
    """Whom to learn from: the folder of a run, encoder or model, transformers:FOLDER_OR_NAME, timm:NAME.TAG."""
    match: Literal["auto", "features", "classes"] = "auto"
    """What is matched: features, a fine-tuned model's classes, or (auto) classes where the teacher has them."""
    error: Literal["cosine", "smooth"] = "cosine"
    """How features are compared: by direction, or by smooth absolute error of standardised ones."""
    rows: Literal["mild", "plain"] = "mild"
    """mild: both see crops and mirrors; plain: rows as they are, where a crop or mirror image would be of another class (digits, letters)."""
    temperature: float = 1.0
    """Divides both sides' scores of classes: higher lets unlikely classes count more."""
    side: int = 0
    """Side in pixels at which the teacher sees pictures; 0: its own."""

    def defaults(self, facts: Facts) -> Recipe:
        cpu = facts.device == "cpu"
        return Recipe(
            batch=128 if cpu else 512, optimizer="adamw", lr=2e-3 if cpu else 1e-3, weight_decay=1e-2, betas=(0.9, 0.98),
            duration=Duration(10, "minutes") if cpu else Duration(100, "epochs"),
            scaled={"optimizer": "SGD at 0.1 -> AdamW, for this batch", "batch": f"1024 -> {128 if cpu else 512}, because a short run needs steps"},
        )  # fmt: skip

    def views(self, facts: Facts) -> list[ViewSpec]:
        return [ViewSpec(self._seen(facts))]

    def _seen(self, facts: Facts) -> Transform:
        return facts.modality.mild(facts) if self.rows == "mild" else facts.modality.plain(facts)

    def setup(self, encoder: Encoder, facts: Facts) -> Self:
        if self.temperature <= 0:
            raise RequestError(f"temperature = {self.temperature} divides nothing.", "Give a number above 0.")
        if not self.teacher:
            raise RequestError(
                "distil needs a teacher.",
                "Say --teacher FOLDER (a run, encoder or model), transformers:NAME or timm:NAME.TAG.",
            )
        found = modalities.open_trained(self.teacher, facts.modality, wanted=self.match)
        self.encoder, self.labels = encoder, found.labels
        self.head = Linear(encoder.dim, found.width)
        self.guide = Frozen(found.net, side=self.side or found.side)
        self.said = f"teacher: {self.teacher}, {found.width} {'classes' if found.labels else 'features'} of each row are matched"
        if facts.sample is not None:
            self._try(self._seen(facts)(facts.sample, Draw(torch.arange(len(facts.sample)))))
        return self

    def _try(self, view: View) -> None:
        """Asks the teacher once, so that what it cannot read is said before the first step."""
        try:
            self.guide(view)
        except (RuntimeError, RequestError) as error:
            raise RequestError(
                f"The teacher {self.teacher!r} cannot read these rows: {str(error)[:200]}",
                "Name another, or another --side.",
            ) from error
        if self.guide.sized(view).shapes != view.shapes:
            self.said += f"; pictures are resampled to {self.guide.side} x {self.guide.side} for it"

    def notes(self) -> list[str]:
        return [f"{self.said}."]

    def _errors(self, predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) loss of each row, and what the best constant answer loses."""
        if self.labels:
            p = (
                (wanted.float() if wanted.dtype in (torch.float16, torch.bfloat16) else wanted)
                .div(self.temperature)
                .softmax(1)
            )
            usual = middle(p)
            return soft_cross_entropy(p, predicted, temperature=self.temperature), torch.special.entr(usual).sum()
        if self.error == "cosine":
            return 1 + negative_cosine(predicted, wanted), 1 - middle(F.normalize(wanted, dim=1)).norm()
        wanted = F.layer_norm(wanted, wanted.shape[1:])
        return smooth_absolute(predicted, wanted), logged(smooth_absolute(middle(wanted).expand_as(wanted), wanted))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        (view,) = batch.views
        features = self.encoder(view)
        predicted, wanted = self.head(features), self.guide(view)
        per_row, blind = self._errors(predicted, wanted)
        named = {"agreement": logged((predicted.argmax(1) == wanted.argmax(1)).float())} if self.labels else {}
        return {
            "loss": mean(per_row, batch.total),
            "baseline": blind.to(per_row.dtype),
            **named,
            "features": features.detach(),
        }

    def keep(self) -> Kept:
        labels = {nets.store.LABELS: {**self.labels, "result": {}}} if self.labels else {}
        return Kept(self.encoder, {"head": self.head}, sides=labels)
