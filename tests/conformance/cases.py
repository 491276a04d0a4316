"""Every method x modality that fits, small: the real modalities, their toy sets, encoders of width 16, in float64."""

from dataclasses import dataclass, replace

import torch

from selftaught import methods
from selftaught.core import Batch, Draw, Encoder, Facts, Method, View

from ..methods import small

ROWS = 8


@dataclass(frozen=True)
class Case:
    method: str
    modality: str

    @property
    def name(self) -> str:
        return f"{self.method}-{self.modality}"

    def make(self, rows=ROWS, dtype=torch.float64, **options) -> tuple[Method, Batch]:
        """A fresh method, set up and in train mode, and its views of the first rows of the toy set."""
        view, modality = raw(self.modality, rows), MODALITIES[self.modality]
        facts = Facts(rows=rows, modality=modality, sample=view)
        torch.manual_seed(1)
        cls = methods.find(self.method)
        method = cls(**options).setup(encoder(self.modality, cls.needs), facts).to(dtype)
        index = torch.arange(rows)
        views = [
            replace(lifted(spec.transform(view, Draw(index, 3, 5, n, 0.5)), dtype), role=spec.role)
            for n, spec in enumerate(method.views(facts))
        ]
        return method.train(), Batch(views, index, 3, 5, 0.5)


MODALITIES = {"pictures": small.Pictures(), "texts": small.Texts()}


def raw(modality, rows) -> View:
    return small.pictures(rows) if modality == "pictures" else small.texts((9, 7, 5, 9, 3, 6, 8, 4)[:rows])


def encoder(modality, needs) -> Encoder:
    if modality == "texts":
        return small.words()
    return small.tokens() if "tokens" in needs else small.convolutional()


def lifted(view: View, dtype: torch.dtype) -> View:
    """The view with its floating-point parts in `dtype`."""
    return view.with_parts(**{k: v.to(dtype) for k, v in view.parts.items() if v.is_floating_point()})


def cases() -> list[Case]:
    return [Case(m, d) for m in methods.names() for d in MODALITIES if methods.find(m).needs & methods.OFFERED.keys() <= MODALITIES[d].offers]
