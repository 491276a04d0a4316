"""Training an encoder with labels: whole with layer-wise learning rates, layer after layer, or through low-rank adapters."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from ..core import Draw, Encoder, Facts, Recipe, RequestError, random
from ..core.errors import AlarmError
from ..core.listener import Listener
from ..core.task import Task
from . import lora, schedule
from .batches import Batches
from .heap import keep_freed_memory
from .layers import layer_groups, open_layers, stack, statistics, unfreeze
from .precision import precision_for
from .semi import Companion

Mode = Literal["full", "gradual", "lora"]
Views = Literal["mild", "plain", "masked", "augment"]
WARMUP = {"cosine": 0.1, "slanted-triangular": 0.1, "one-cycle": 0.25}
"""Share of the steps over which the rate rises: ULMFiT's and fastai's own."""


class Tuned(nn.Module):
    """An encoder with the head of a task: a view -> (B, outputs)."""

    def __init__(self, encoder: Encoder, head: nn.Module):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, view) -> Tensor:
        return self.head(self.encoder(view))


@dataclass
class History:
    """What a finetuning went through: validation figures by epoch and the epoch that was kept (from 1)."""

    kept: int
    validation: list[dict[str, float]] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to finetune."""

    mode: Mode = "full"
    """full: every parameter; gradual: the head first, then one layer after another from the top; lora: low-rank adapters, folded
    into the weights at the end."""
    epochs: int = 20
    """Passes over the training rows at most; the one that is best on validation is kept."""
    steps: int = 0
    """Steps at least: with few rows, further passes are added."""
    batch: int = 64
    """Rows in a step."""
    lr: float | None = None
    """Peak learning rate of the head; None takes 1e-3, with lora 3e-3."""
    layer_decay: float = 0.75
    """Each layer below the head learns at this share of the one above it (ULMFiT: 1 / 2.6)."""
    schedule: Literal["cosine", "one-cycle", "slanted-triangular"] = "cosine"
    """How the rate rises and falls: linear and cosine; Smith's one cycle, momentum included; ULMFiT's slanted triangle."""
    weight_decay: float = 0.05
    clip: float = 1.0
    views: Views = "mild"
    """mild: crops and mirrors (what the modality changes without changing an example); plain: the rows as they are, where a
    mirror image would be of another class; masked, of sounds: mild, with bands and stretches of time hidden (SpecAugment); augment: as strongly changed
    as joint-embedding methods do."""
    rank: int = lora.RANK
    """Rank of the adapters."""
    seed: int = 0

    def __post_init__(self):
        low = [name for name in ("epochs", "batch", "rank") if getattr(self, name) < 1]
        if low or self.rate <= 0:
            name = low[0] if low else "lr"
            raise RequestError(f"{name} = {getattr(self, name)} trains nothing.", "Give a number above 0.")
        if not 0 < self.layer_decay <= 1:
            raise RequestError(f"layer_decay = {self.layer_decay} is no share of a rate.", "Give above 0, at most 1.")
        if self.mode == "gradual" and max(self.epochs, self.steps) < 2:
            raise RequestError("One epoch unfreezes nothing: it trains the head alone.", "Give --epochs 2 or more.")

    @property
    def rate(self) -> float:
        return self.lr if self.lr is not None else 3e-3 if self.mode == "lora" else 1e-3


def tune(
    encoder: Encoder, task: Task, data, targets: np.ndarray, train: np.ndarray, validation: np.ndarray | None = None, *,
    plan: Plan | None = None, companion: Companion | None = None, device: str | torch.device = "cpu",
    listener: Listener | None = None,
) -> tuple[Tuned, History]:  # fmt: skip
    """Trains a copy of `encoder` and a new head on the rows `train` of `data`; `targets` (len(data),) by place.

    With `validation` places, the epoch with the best figure there is kept (ties: the smaller loss); without, the last.
    A pure function of its arguments on one chip.  Views are the modality's mild ones where it has them.  companion: a method whose
    loss on rows without labels is added at every step (mode full).
    """
    plan, listener, device = plan or Plan(), listener or Listener(), torch.device(device)
    if device.type == "cpu":
        keep_freed_memory()
    model = Tuned(copy.deepcopy(encoder), task.head(encoder.dim)).to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(random.key(plan.seed, "finetune"))
        groups = groups_of(model, plan)
        model.to(device)
        with _beside(companion, model.encoder, plan, len(train), device) as beside:
            groups += beside.groups(plan.weight_decay) if beside else []
            history = _train(model, groups, task, data, targets, train, validation, plan, device, listener, beside)
    if plan.mode == "lora":
        lora.merge(model.encoder)
    return model.eval(), history


def groups_of(model: Tuned, plan: Plan) -> list[dict]:
    """What trains, by layer with its rate; with lora the adapters, which are put in here, and the head."""
    if plan.mode != "lora":
        return layer_groups(model, plan.layer_decay, plan.weight_decay)
    adapters = lora.inject(model.encoder, rank=plan.rank)
    return [{"params": adapters, "weight_decay": 0.0}, {"params": list(model.head.parameters()), "weight_decay": 0.0}]


def _beside(companion: Companion | None, encoder: Encoder, plan: Plan, rows: int, device):
    """The companion at work around `encoder`, as a context; None without one."""
    if companion is None:
        return contextlib.nullcontext()
    if plan.mode != "full":
        raise RequestError(f"--method trains the whole encoder, not --mode {plan.mode}.", "Use --mode full.")
    batches, epochs = length_of(plan, rows)
    return companion.attach(encoder, batches * epochs, device)


def length_of(plan: Plan, rows: int) -> tuple[int, int]:
    """(steps of an epoch, epochs)."""
    batches = max(1, math.ceil(rows / plan.batch))
    return batches, max(plan.epochs, math.ceil(plan.steps / batches))


def _train(
    model, groups, task: Task, data, targets, train, validation, plan: Plan, device, listener: Listener, beside
) -> History:
    batches, epochs = length_of(plan, len(train))
    recipe = Recipe(batch=plan.batch, lr=plan.rate, warmup=WARMUP[plan.schedule], schedule=plan.schedule)
    fused = device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.999), fused=fused)
    view_of = training_views(data, plan, device, getattr(model.encoder, "reads", ""))
    wanted = torch.from_numpy(np.ascontiguousarray(targets))
    dealt = Batches.of(_padded(data, train), len(train), batches, seed=plan.seed, purpose="finetune order")
    if dealt.alike:
        listener.say(dealt.describe())
    dtype = precision_for(device).dtype
    history, best, kept = History(kept=epochs), None, None
    stacked = stack(model)
    for epoch in range(epochs):
        model.train()
        if plan.mode == "gradual":
            unfreeze(stacked, model.encoder, open_layers(epoch, epochs, len(stacked) - 1))
        elif plan.mode == "lora":
            for module in statistics(model.encoder):
                module.eval()  # they are not folded back
        total = 0.0
        for k, rows in enumerate(train[some] for some in dealt.epoch(epoch)):
            step = epoch * batches + k
            schedule.set_rates(optimizer, recipe, step, epochs * batches)
            torch.manual_seed(random.key(plan.seed, "finetune dropout", step))
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
                outputs = model(view_of(rows, step, step / (epochs * batches)))
                more = beside.loss() if beside else 0.0
            loss = task.loss(outputs, wanted[rows].to(device))
            optimizer.zero_grad(set_to_none=True)
            (loss + more).backward()
            torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], plan.clip)
            optimizer.step()
            if beside:
                beside.after_step((step + 1) / (epochs * batches))
            total += float(loss.detach()) * len(rows)
        history.loss.append(total / len(train))
        if not math.isfinite(total):
            raise AlarmError(
                f"Finetuning diverged: the loss of epoch {epoch + 1} is not finite.", "Lower the learning rate (--lr)."
            )
        if validation is not None and len(validation):
            figures = _validate(model, task, data, targets, validation, device)
            history.validation.append(figures)
            rank = (figures[task.metric], -figures["loss"])
            if best is None or rank > best:
                best, kept, history.kept = rank, copy.deepcopy(model.state_dict()), epoch + 1
        listener.progress("finetuning", epoch + 1, epochs, f"loss {history.loss[-1]:.3f}")
    for p in (p for layer in stacked for p in layer):
        p.requires_grad_(True)
    if kept is not None:
        model.load_state_dict(kept)
    return history


def _padded(data, rows: np.ndarray) -> np.ndarray | None:
    """(len(rows),) places that each row takes in a batch, where the modality says so (sounds); else None."""
    hears, lengths = getattr(data.modality, "hears", None), getattr(data, "lengths", None)
    return None if hears is None or lengths is None else hears(lengths[rows])


def changed(modality, views: Views, facts: Facts):
    """The transform of these training views; RequestError where the modality has no such."""
    change = getattr(modality, views, None)
    if change is None or (views == "augment" and "augment" not in modality.offers):
        raise RequestError(f"--views {views} means nothing for {modality.name}.", "Take mild or plain.")
    return change(facts)


def training_views(data, plan: Plan, device: torch.device, reads: str = "") -> Callable:
    """(places, step, progress) -> views on the device."""
    modality = data.modality
    drawn = reads if plan.views in ("masked", "augment") else ""  # else an encoder makes its own energies, as ever
    facts = Facts(rows=len(data), modality=modality, batch=plan.batch, device=device.type, reads=drawn)
    change = changed(modality, plan.views, facts)

    def view_of(rows: np.ndarray, step: int, progress: float):
        draw = Draw(
            torch.from_numpy(data.ids[rows]).to(device), random.key(plan.seed, "finetune views"), step, 0, progress
        )
        return change(data.fetch(rows).to(device), draw)

    return view_of


@torch.no_grad()
def outputs(
    model: Tuned, data, rows: np.ndarray, *, device: str | torch.device = "cpu", batch: int = 256
) -> np.ndarray:
    """(len(rows), outputs) float32 of clean views, in eval mode; the mode is put back."""
    plain = data.modality.plain(
        Facts(rows=len(data), modality=data.modality, batch=batch, device=torch.device(device).type)
    )
    was = model.training
    model.eval()
    try:
        return np.concatenate(
            [
                model(plain(data.fetch(some).to(device), Draw(torch.from_numpy(data.ids[some]).to(device))))
                .float()
                .cpu()
                .numpy()
                for some in (rows[start : start + batch] for start in range(0, len(rows), batch))
            ]
        )
    finally:
        model.train(was)


def _validate(model: Tuned, task: Task, data, targets: np.ndarray, rows: np.ndarray, device) -> dict[str, float]:
    out, truth = outputs(model, data, rows, device=device), targets[rows]
    loss = float(task.loss(torch.from_numpy(out), torch.from_numpy(truth)))
    return {**task.metrics(task.predict(out), truth), "loss": loss}
