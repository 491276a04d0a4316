"""A method's loss on rows without labels, added to a task's: the semi-supervised way (as S4L, Zhai et al. 2019, arXiv 1905.03670)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .. import methods
from ..core import Batch, Encoder, Facts, Method, RequestError, module, random
from ..data import Loader
from .step import make_batch


class Companion:
    """loss = task loss + weight x method(batch of unlabelled rows), both through the same encoder.

    data: a Dataset of the modality of the labelled rows.  Raises RequestError where the method does not fit, has no gradient, or
    forms its targets in passes over the data between steps.
    """

    def __init__(
        self, data, method: str, *, weight: float = 1.0, batch: int = 64, seed: int = 0, options: dict | None = None
    ):
        if not weight > 0:
            raise RequestError(f"--weight {weight:g} adds nothing.", "Give a number above 0, or leave out --method.")
        cls = methods.find(method)
        refusal = methods.fits(cls, data.modality)
        if refusal:
            raise RequestError(refusal)
        self.name = methods.name_of(cls)
        if not issubclass(cls, Method) or cls.refresh_at:
            why = "has no gradient" if not issubclass(cls, Method) else "forms its targets between steps"
            raise RequestError(
                f"{self.name} {why}: its loss cannot be added to a task's.",
                "Take another --method, or pretrain with it first.",
            )
        if len(data) < 2:
            raise RequestError(f"{len(data)} rows without labels are too few.", "Give at least two.")
        self.cls, self.options, self.data = cls, options or {}, data
        self.weight, self.batch, self.seed = weight, min(batch, len(data)), seed

    def attach(self, encoder: Encoder, horizon: int, device: torch.device) -> Attached:
        """The method set up around `encoder`, which stays the task's own."""
        check = getattr(self.data.modality, "check", None)
        if check is not None:
            check(encoder, self.cls.needs)
        methods.check(self.cls, encoder)
        method = module.build(self.cls, self.options, self.name)
        facts = Facts(
            rows=len(self.data), modality=self.data.modality, steps=horizon, batch=self.batch, dim=encoder.dim,
            device=device.type, sample=self.data.fetch(torch.arange(min(8, len(self.data)))),
        )  # fmt: skip
        method.setup(encoder, facts)
        return Attached(self, method.to(device), facts, horizon, device)


class Attached:
    """A companion at work: one batch of its own a step.  A context manager, for the threads that fetch."""

    def __init__(self, companion: Companion, method: Method, facts: Facts, horizon: int, device: torch.device):
        self.companion, self.method, self.horizon, self.device = companion, method, horizon, device
        self.specs = method.views(facts)
        rows = tuple(dict.fromkeys(spec.rows for spec in self.specs))
        self.seed = random.key(companion.seed, "companion")
        self.loader = Loader(companion.data, batch=companion.batch, seed=self.seed, rows=rows)
        self.stream: Iterator = iter(())
        self.outputs: dict[str, Tensor] = {}

    def __enter__(self) -> Attached:
        self.stream = iter(self.loader.__enter__())
        return self

    def __exit__(self, *error) -> None:
        self.loader.__exit__(*error)

    def groups(self, weight_decay: float) -> list[dict]:
        """Parameters that stand beside the encoder, at the head's rate; no decay on vectors."""
        inside = {id(p) for p in self.method.encoder.parameters()}
        own = [p for p in self.method.parameters() if p.requires_grad and id(p) not in inside]
        split = (([p for p in own if p.ndim > 1], weight_decay), ([p for p in own if p.ndim <= 1], 0.0))
        return [{"params": some, "weight_decay": rate} for some, rate in split if some]

    def loss(self) -> Tensor:
        """The weighted loss of the next batch."""
        self.method.train()
        self.outputs = self.method(self.next())
        return self.companion.weight * self.outputs["loss"]

    def next(self) -> Batch:
        """The next batch of unlabelled rows, a pure function of seed and step."""
        step, index, raws = next(self.stream)
        views = {name: view.to(self.device) for name, view in raws.items()}
        return make_batch(
            self.specs, views, index.to(self.device), seed=self.seed, step=step, progress=step / self.horizon
        )

    def after_step(self, progress: float) -> None:
        """Teachers and queues move, as after a step of pretraining."""
        self.method.after_step(progress, {name: value.detach() for name, value in self.outputs.items()})
