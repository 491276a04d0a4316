"""One pretraining, assembled: what the gradient and the closed-form way both need, and the steps they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from .. import methods
from ..core import ClosedForm, Draw, Encoder, Facts, Kept, Method, Recipe, dist, module, random
from ..core.errors import RequestError
from ..core.listener import Listener
from ..nets import norm, store
from . import starts, word_start
from .precision import precision_for
from .run import Run
from .settings import Settings, overridden


@dataclass
class Job:
    """What one pretraining works with; `facts` grows as batch and width become known."""

    settings: Settings
    data: Any
    facts: Facts
    method: Method | ClosedForm
    run: Run
    listener: Listener
    device: torch.device
    save_every: int | None
    stop: Callable[[], bool]
    track: str | None
    resume: bool
    held: Any = None
    """The rows that `holdout` keeps from training, as a dataset; None where there are none."""

    @cached_property
    def feed(self) -> Any:
        """What batches are drawn from: the rows, or the packed sequences that the method asks for where the modality can pack."""
        fed = self.sequences(self.data)
        if fed is not self.data:
            self.tell(fed.describe() + ".")
        return fed

    def sequences(self, data: Any) -> Any:
        """`data`, or its packed sequences, as the method wants them."""
        way = getattr(self.method, "packing", "none")
        if way == "none" or not hasattr(data.modality, "packed"):
            return data
        return data.modality.packed(data, way, self.settings.seed)

    def tell(self, text: str) -> None:
        """Says `text` and writes it to the run's log."""
        self.listener.say(text)
        if dist.rank() == 0:
            self.run.log(text)


@dataclass(frozen=True)
class Chosen:
    """A method that was chosen: its name and its class."""

    name: str
    cls: methods.Kind

    def build(self, options: dict, modality) -> Method | ClosedForm:
        """The method with its options; refused with the reason where it does not fit the kind of data."""
        method = module.build(self.cls, options, self.name)
        refusal = methods.fits(method, modality)
        if refusal:
            raise RequestError(refusal)
        return method


def choose_method(name: str | None, modality, listener: Listener, encoder: str | None = None) -> Chosen:
    """The method asked for, or the modality's own default, said aloud.

    `encoder`: what `--encoder` names; a closed form trains none.
    """
    if name is None:
        name, reason = modality.method, modality.method_reason
        if encoder and issubclass(methods.find(name), ClosedForm):
            name, reason = modality.trained_method, f"{name} is a closed form and trains no encoder"
        listener.say(
            f"method: {name}, the default for {modality.name} ({reason}). Another: --method NAME; all of them: selftaught methods."
        )
    cls = methods.find(name)
    if encoder and issubclass(cls, ClosedForm) and encoder.partition(":")[0] not in cls.begins_with:
        raise RequestError(
            f"{name} is a closed form: it works its encoder out itself and cannot use --encoder {encoder}.",
            "Leave --encoder out, or take a method that trains (selftaught methods).",
        )
    return Chosen(methods.name_of(cls), cls)


def make_encoder(job: Job, needs: frozenset[str]) -> Encoder:
    """The encoder asked for, or the modality's default for these needs; initialised from the seed alone."""
    torch.manual_seed(random.key(job.settings.seed, "initialisation"))
    name = job.settings.encoder
    if starts.continues(job):
        encoder = starts.load(job)
        starts.begin(job, encoder)
        torch.manual_seed(
            random.key(job.settings.seed, "initialisation")
        )  # what begins anew beside it: the same on resuming
    else:
        encoder = job.data.modality.encoder(job.facts, needs, name, **job.settings.encoder_options)
        with torch.no_grad():
            encoder.start_from(sample_of(job))
        word_start.begin(job, encoder)
    check = getattr(job.data.modality, "check", None)
    if check is not None:
        check(encoder, job.method.needs)
    methods.check(job.method, encoder)
    parameters = sum(p.numel() for p in encoder.parameters())
    job.listener.say(f"encoder: {encoder.kind}, {parameters / 1e6:.2f} M parameters, {encoder.dim} dimensions.")
    return encoder


SAMPLE = 2000
"""Rows that initialise a stem and re-estimate normalisation statistics."""


def sample_of(job: Job):
    """The raw view of up to 2,000 rows, drawn by the seed."""
    rows = random.permutation(random.key(job.settings.seed, "sample"), len(job.data))[:SAMPLE]
    return job.data.fetch(torch.sort(rows).values)


def settle(job: Job, encoder: Encoder) -> None:
    """Re-estimates running statistics on clean rows: training saw crops and changed colours, whoever uses the encoder does not."""
    if not any(getattr(m, "running_mean", None) is not None for m in encoder.modules()):
        return
    view = job.data.modality.plain(job.facts)(sample_of(job), Draw(torch.arange(0)))
    with torch.no_grad():
        norm.recalibrate(
            encoder, [view.take(rows).to(job.device) for rows in torch.arange(len(view)).split(500) if len(rows) > 1]
        )


def make_recipe(job: Job, method: Method) -> Recipe:
    """The method's defaults under the user's changes, with a batch that the data and the processes allow."""
    recipe = method.defaults(job.facts)
    if starts.continues(job):
        recipe = starts.gentle(job, recipe)
    recipe = overridden(recipe, job.settings.recipe)
    world = dist.world()
    if recipe.batch > len(job.feed):
        job.listener.say(f"batch: {recipe.batch} -> {len(job.feed)}, all the rows there are.")
        recipe = replace(recipe, batch=len(job.feed))
    if recipe.batch % (world * recipe.accumulate):
        smaller = recipe.batch // (world * recipe.accumulate) * world * recipe.accumulate
        if smaller == 0:
            raise RequestError(
                f"A batch of {recipe.batch} cannot be shared by {world} processes x {recipe.accumulate} micro-batches."
            )
        job.listener.say(
            f"batch: {recipe.batch} -> {smaller}, so that {world} processes x {recipe.accumulate} micro-batches share it evenly."
        )
        recipe = replace(recipe, batch=smaller)
    for name, change in recipe.scaled.items():
        job.listener.say(f"{name}: {change}")
    return replace(recipe, duration=job.settings.duration(recipe.duration))


def keep(job: Job, kept: Kept, result: dict[str, Any]) -> dict[str, Any]:
    """Writes the encoder's folder and the result, and marks the run as done."""
    if dist.rank() == 0:
        store.save(job.run.encoder, kept, fill=job.data.modality.save)
        job.run.write_json("result.json", result)
        job.run.status("done", step=result["steps"])
    dist.barrier()
    return result


def precision(job: Job) -> str:
    """The dtype for the forward pass, said with its reason."""
    chosen = precision_for(job.device, job.settings.precision)
    job.listener.say(f"precision: {chosen.dtype} on {job.device}, because {chosen.reason}.")
    return chosen.dtype
