"""Training the head of a dense task (boxes, masks) over a frozen encoder, or both together with layer-wise rates."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from ..core import Draw, Encoder, Recipe, View, random
from ..core.errors import AlarmError
from ..core.listener import Listener
from ..core.task import Task
from ..data import cache
from ..modalities.canvas import Annotated
from ..nets.dense import maps_of
from ..nets.pixels import tokens_of
from ..views import RegionCrop
from . import schedule
from .finetune import History, Plan, layer_groups
from .heap import keep_freed_memory
from .precision import precision_for

Mode = Literal["head", "full"]
PLAN = Plan(epochs=40, steps=400, batch=16)
"""Pictures with boxes or masks are few, and each holds many targets: small batches, more passes."""
CHECKS = 10
"""Times that the validation pictures are looked at."""
LEAST = 0.4
"""Share of the area that a crop keeps at least."""


class DenseModel(nn.Module):
    """An encoder with the head of a dense task: a view of canvases -> what the head says."""

    def __init__(self, encoder: Encoder, head: nn.Module):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, view: View) -> Any:
        return self.head(self.encoder.features(view))


def tune(
    encoder: Encoder, task: Task, data: Annotated, train: np.ndarray, validation: np.ndarray | None = None, *, mode: Mode = "full",
    plan: Plan = PLAN, device: str | torch.device = "cpu", listener: Listener | None = None,
) -> tuple[DenseModel, History]:  # fmt: skip
    """Trains a new head, and in mode "full" a copy of `encoder`, on the pictures `train` of `data` (places).

    The encoder is one of `Canvas.fit`.  Views: crops of the canvas's aspect and mirror images; over a frozen encoder mirror images alone, so that its
    stages are worked out once for each picture and its image, where they fit into a quarter of the memory.  With `validation` places the best of about
    ten looks at them is kept, without the last epoch.  A pure function of its arguments on one chip.  Raises AlarmError where it diverges.
    """
    listener, device = listener or Listener(), torch.device(device)
    if device.type == "cpu":
        keep_freed_memory()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(random.key(plan.seed, "dense head"))
        own = copy.deepcopy(encoder).to(device).eval()
        with torch.no_grad():
            example = own.features(data.pictures.fetch(train[:1]).to(device))
        model = DenseModel(own, task.head(example, data.pictures.modality.size).to(device))  # type: ignore[call-arg, arg-type]
        own.requires_grad_(mode == "full")
        history = _train(model, task, data, train, validation, mode, plan, device, listener)
    own.requires_grad_(True)
    return model.eval(), history


def _train(
    model: DenseModel, task: Task, data: Annotated, train: np.ndarray, validation: np.ndarray | None, mode: Mode, plan: Plan,
    device: torch.device, listener: Listener,
) -> History:  # fmt: skip
    batches = max(1, math.ceil(len(train) / plan.batch))
    epochs = max(plan.epochs, math.ceil(plan.steps / batches))
    recipe = Recipe(batch=plan.batch, lr=plan.rate, warmup=0.1)
    groups = layer_groups(model, plan.layer_decay, plan.weight_decay)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(groups, lr=plan.rate, fused=device.type in ("cpu", "cuda"))
    answer = _answers(model, data, train, mode, plan, device)
    looks = {round(epochs * (k + 1) / CHECKS) for k in range(CHECKS)} | {epochs}
    history, best, kept = History(kept=epochs), None, None
    for epoch in range(epochs):
        model.train()
        model.encoder.train(mode == "full")
        total = 0.0
        order = random.permutation(random.key(plan.seed, "dense order", epoch), len(train)).numpy()
        for k, rows in enumerate(np.array_split(order, batches)):
            step = epoch * batches + k
            schedule.set_rates(optimizer, recipe, step, epochs * batches)
            outputs, targets = answer(rows, step)
            loss = task.loss(outputs, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], plan.clip)
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        history.loss.append(total / len(train))
        if not math.isfinite(total):
            raise AlarmError(
                f"Training diverged: the loss of epoch {epoch + 1} is not finite.", "Lower the learning rate (--lr)."
            )
        if validation is not None and len(validation) and epoch + 1 in looks:
            found = task.tally(predictions(model, task, data, validation, device=device), data.truth(validation))
            figure = float(found.value()[0])
            history.validation.append({task.metric: figure, "epoch": epoch + 1})
            if best is None or figure > best:
                best, kept, history.kept = figure, copy.deepcopy(model.state_dict()), epoch + 1
        said = f"loss {history.loss[-1]:.3f}" + (f", {task.metric} {history.validation[-1][task.metric]:.3f}" if history.validation else "")  # fmt: skip
        listener.progress("finetuning", epoch + 1, epochs, said)
    if kept is not None:
        model.load_state_dict(kept)
    return history


def _answers(
    model: DenseModel, data: Annotated, train: np.ndarray, mode: Mode, plan: Plan, device: torch.device
) -> Callable[[np.ndarray, int], tuple[Any, Any]]:
    """(numbers of training rows, step) -> (what the head says of a view of them, what it should say)."""
    mild = plan.views == "mild"
    change = RegionCrop(least=LEAST if mild and mode == "full" else 1.0, flip=0.5 if mild else 0.0)
    dtype = precision_for(device).dtype
    held = stages_of(model.encoder, data, train, mirrored=mild, device=device) if mode == "head" else None

    def answer(rows: np.ndarray, step: int) -> tuple[Any, Any]:
        places = train[rows]
        draw = Draw(torch.from_numpy(data.ids[places]).to(device), random.key(plan.seed, "dense views"), step)
        view = change(data.fetch(places).to(device), draw)
        target = view.parts["objects"] if "objects" in view.parts else view["mask"]
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            if mode == "full":
                return model(view), target
            if held is None:
                with torch.no_grad():
                    stages = model.encoder.features(view)
            else:
                at = torch.from_numpy(rows) + len(train) * view.params["flips"].cpu()
                stages = [tokens_of(m[at].to(device)) for m in held]
            return model.head(stages), target

    return answer


@torch.no_grad()
def stages_of(
    encoder: Encoder,
    data: Annotated,
    rows: np.ndarray,
    *,
    mirrored: bool,
    device: str | torch.device = "cpu",
    batch: int = 16,
) -> list[Tensor] | None:
    """The maps that a head reads, of all pictures `rows` and (`mirrored`) behind them of all their mirror images, each (n, C, h, w) in memory; None
    where they would take more than a quarter of it."""
    out: list[Tensor] = []
    count = len(rows) * (1 + mirrored)
    for number, start in enumerate([*range(0, len(rows), batch)] * (1 + mirrored)):
        some = rows[start : start + batch]
        view = data.pictures.fetch(some).to(device)
        offset = start
        if number >= math.ceil(len(rows) / batch):
            view, offset = view.with_parts(pixels=view["pixels"].flip(3)), start + len(rows)
        maps = [m.float().cpu() for m in maps_of(encoder.features(view))]
        if not out:
            if sum(m[0].numel() * 4 for m in maps) * count > cache.memory_bytes() // 4:
                return None
            out = [torch.empty(count, *m.shape[1:]) for m in maps]
        for whole, m in zip(out, maps):
            whole[offset : offset + len(some)] = m
    return out


@torch.no_grad()
def predictions(
    model: DenseModel, task: Task, data: Annotated, places: np.ndarray, *, device: str | torch.device = "cpu", batch: int = 16,
    listener: Listener | None = None,
) -> list[Any]:  # fmt: skip
    """One answer a picture, in its own pixels: clean views, eval mode; the mode is put back."""
    was = model.training
    model.eval()
    canvas = data.pictures.modality
    out: list[Any] = []
    try:
        for start in range(0, len(places), batch):
            some = places[start : start + batch]
            sizes = data.own_sizes(some)
            inner = np.array([canvas.inner(tuple(size)) for size in sizes])
            out += task.predict(model(data.pictures.fetch(some).to(device)), sizes, inner)  # type: ignore[call-arg]
            if listener is not None:
                listener.progress("predicting", len(out), len(places))
    finally:
        model.train(was)
    return out
