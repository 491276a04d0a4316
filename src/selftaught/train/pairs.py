"""Training an encoder on pairs of rows with numbers: the cosine of the two representations is to be the scaled number (Sentence-BERT)."""

from __future__ import annotations

import copy
import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from ..core import Encoder, Recipe, RequestError, random
from ..core.errors import AlarmError
from ..core.listener import Listener
from ..data import Aligned
from ..tasks.similarity import Similarity
from . import lora, schedule
from .finetune import WARMUP, History, Plan, Tuned, groups_of, length_of, outputs, training_views
from .heap import keep_freed_memory
from .layers import open_layers, stack, statistics, unfreeze
from .precision import precision_for

Mode = Literal["full", "gradual", "lora"]
PLAN = Plan(epochs=10, steps=200, batch=32)
"""As other finetuning, in smaller batches; the rate is that of the top layer, for there is no head."""


def tune(
    encoder: Encoder, task: Similarity, data: Aligned, targets: np.ndarray, train: np.ndarray, validation: np.ndarray, *, plan: Plan = PLAN,
    device: str | torch.device = "cpu", listener: Listener | None = None,
) -> tuple[Tuned, History]:  # fmt: skip
    """Trains a copy of `encoder` on the pairs `train` of `data`; `targets` (len(data),) by place.

    Loss: (cosine - scaled number)^2, the mean over pairs.  Source: Reimers & Gurevych 2019 (arXiv 1908.10084), regression objective.  The epoch whose
    rank correlation on the pairs `validation` is best is kept (ties: the earlier).  A pure function of its arguments on one chip.
    Raises RequestError where nothing can be trained, AlarmError where it diverges.
    """
    listener, device = listener or Listener(), torch.device(device)
    if not any(p.requires_grad for p in encoder.parameters()):
        raise RequestError(
            f"Nothing in this {encoder.kind} encoder can be trained: a closed form made it.",
            "selftaught evaluate RUN DATA --task similarity reads it as it is.",
        )
    if device.type == "cpu":
        keep_freed_memory()
    model = Tuned(copy.deepcopy(encoder), task.head(encoder.dim)).to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(random.key(plan.seed, "finetune pairs"))
        groups = [group for group in groups_of(model, plan) if group["params"]]
        model.to(device)
        history = _train(model, groups, task, data, targets, train, validation, plan, device, listener)
    if plan.mode == "lora":
        lora.merge(model.encoder)
    return model.eval(), history


def _train(
    model: Tuned, groups: list[dict], task: Similarity, data: Aligned, targets: np.ndarray, train: np.ndarray, validation: np.ndarray,
    plan: Plan, device: torch.device, listener: Listener,
) -> History:  # fmt: skip
    batches, epochs = length_of(plan, len(train))
    recipe = Recipe(batch=plan.batch, lr=plan.rate, warmup=WARMUP[plan.schedule], schedule=plan.schedule)
    optimizer = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.999), fused=device.type in ("cpu", "cuda"))
    views = [training_views(part, plan, device) for part in data.parts.values()]
    wanted, dtype, stacked = torch.from_numpy(np.ascontiguousarray(targets)), precision_for(device).dtype, stack(model)
    history, best, kept = History(kept=epochs), -math.inf, None
    for epoch in range(epochs):
        model.train()
        if plan.mode == "gradual":
            unfreeze(stacked, model.encoder, open_layers(epoch, epochs, len(stacked) - 1))
        elif plan.mode == "lora":
            for module in statistics(model.encoder):
                module.eval()  # they are not folded back
        total = 0.0
        order = train[random.permutation(random.key(plan.seed, "pair order", epoch), len(train)).numpy()]
        for k, rows in enumerate(np.array_split(order, batches)):
            step = epoch * batches + k
            schedule.set_rates(optimizer, recipe, step, epochs * batches)
            torch.manual_seed(random.key(plan.seed, "finetune dropout", step))
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
                first, second = (model(view_of(rows, step, step / (epochs * batches))) for view_of in views)
            loss = task.loss(F.cosine_similarity(first.float(), second.float()), wanted[rows].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], plan.clip)
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        history.loss.append(total / len(train))
        if not math.isfinite(total):
            raise AlarmError(
                f"Finetuning diverged: the loss of epoch {epoch + 1} is not finite.", "Lower the learning rate (--lr)."
            )
        figures = task.metrics(cosines(model, task, data, validation, device=device), targets[validation])
        history.validation.append(figures)
        if kept is None or figures[task.metric] > best:
            best, kept, history.kept = figures[task.metric], copy.deepcopy(model.state_dict()), epoch + 1
        said = f"loss {history.loss[-1]:.3f}, {task.metric} {figures[task.metric]:.3f}"
        listener.progress("finetuning", epoch + 1, epochs, said)
    for p in (p for layer in stacked for p in layer):
        p.requires_grad_(True)
    assert kept is not None
    model.load_state_dict(kept)
    return history


def cosines(
    model: Tuned, task: Similarity, data: Aligned, places: np.ndarray, *, device: str | torch.device = "cpu", batch: int = 256
) -> np.ndarray:  # fmt: skip
    """(len(places),) float64 cosines of clean views, in eval mode."""
    first, second = (outputs(model, part, places, device=device, batch=batch) for part in data.parts.values())
    return task.cosine(first, second)
