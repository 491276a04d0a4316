"""Training the head of a task on parts of texts (tags, answers) over a frozen encoder, or both together."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from ..core import Encoder, Ragged, Recipe, RequestError, View, random
from ..core.errors import AlarmError
from ..core.listener import Listener
from ..core.task import Task
from ..data import cache
from ..modalities.passages import Reading
from ..nets import dropout as drops
from ..nets.spans import Read
from . import lora, schedule
from .finetune import History, Plan
from .heap import keep_freed_memory
from .layers import layer_groups, open_layers, stack, statistics, unfreeze
from .precision import precision_for

Mode = Literal["head", "full", "gradual", "lora"]
EVALUATED = 64
"""Rows that are read together for an answer."""
TOKENS = 8192
"""Of the windows that go through the encoder at once where nothing is learned."""


@dataclass(frozen=True, kw_only=True)
class SpanPlan(Plan):
    """How to learn tags or answers; texts with tagged words hold many targets each."""

    steps: int = 200
    batch: int = 32
    dropout: float = 0.1
    """On embedded tokens and residual branches while finetuning, where the encoder drops nothing itself (Devlin et al. 2019)."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise RequestError(f"dropout = {self.dropout} is no share.", "Give a number from 0 to below 1.")


PLAN = SpanPlan()


class Parts(Protocol):
    """Rows with what is to be found in them: modalities.passages.Tagged and Asked."""

    @property
    def passages(self) -> Any: ...

    def __len__(self) -> int: ...

    def part(self, places: np.ndarray) -> tuple[Reading, Ragged | None, Any]:
        """(windows, clues of the pieces, targets) of some rows."""
        ...

    def whole(self, places: np.ndarray, answers: list) -> list:
        """What the task predicts of pieces, as answers to the rows."""
        ...

    def truth(self, places: np.ndarray) -> list: ...


class SpanModel(nn.Module):
    """An encoder with the head of a task on parts of texts."""

    def __init__(self, encoder: Encoder, head: nn.Module):
        super().__init__()
        self.encoder, self.head = encoder, head

    def read(self, reading: Reading, clues: Ragged | None = None) -> Read:
        """The vectors of the pieces, each from the window that shows most around it."""
        values = self._values(reading.view)
        flat = values[:, values.shape[1] - reading.view["ids"].shape[1] :].flatten(0, 1)
        asked = reading.question
        question = None if asked is None else Ragged(flat[asked.values], asked.offsets)
        return Read(Ragged(flat[reading.at.values], reading.at.offsets), flat[reading.begin], question, clues)

    def _values(self, view: View) -> Tensor:
        """(windows, L, D) of the last stage; without gradients a few windows at a time, since one long text may have thousands."""
        if torch.is_grad_enabled():
            return self.encoder.features(view)[-1].values
        some = torch.arange(len(view["ids"]), device=view["ids"].device).split(max(1, TOKENS // view["ids"].shape[1]))
        return torch.cat([self.encoder.features(view.take(rows))[-1].values for rows in some])

    def forward(self, reading: Reading, clues: Ragged | None = None) -> Any:
        return self.head(self.read(reading, clues))


def tune(
    encoder: Encoder, task: Task, data: Parts, train: np.ndarray, validation: np.ndarray | None = None, *, mode: Mode = "full",
    plan: SpanPlan = PLAN, device: str | torch.device = "cpu", listener: Listener | None = None,
) -> tuple[SpanModel, History]:  # fmt: skip
    """Trains a new head, and but for mode "head" a copy of `encoder`, on the rows `train` of `data` (places).

    Over a frozen encoder the vectors are worked out once, where they fit into a quarter of the memory.  With `validation` places the best epoch
    is kept, without the last.  A pure function of its arguments on one chip.  Raises AlarmError where it diverges.
    """
    listener, device = listener or Listener(), torch.device(device)
    if device.type == "cpu":
        keep_freed_memory()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(random.key(plan.seed, "span head"))
        own = copy.deepcopy(encoder)
        if plan.dropout and mode != "head" and not drops.strongest(own):
            drops.switch_on(own, plan.dropout)
        model = SpanModel(own, task.head(encoder.dim)).to(device)
        if mode == "lora":
            adapters = lora.inject(own, rank=plan.rank)
            head = list(model.head.parameters())
            groups = [{"params": adapters, "weight_decay": 0.0}, {"params": head, "weight_decay": 0.0}]
            model.to(device)
        else:
            own.requires_grad_(mode != "head")
            groups = layer_groups(model, plan.layer_decay, plan.weight_decay)
        history = _train(model, groups, task, data, train, validation, mode, plan, device, listener)
    if mode == "lora":
        lora.merge(own)
    own.requires_grad_(True)
    return model.eval(), history


def _train(
    model: SpanModel, groups: list[dict], task: Task, data: Parts, train: np.ndarray, validation: np.ndarray | None, mode: Mode,
    plan: SpanPlan, device: torch.device, listener: Listener,
) -> History:  # fmt: skip
    batches = max(1, math.ceil(len(train) / plan.batch))
    epochs = max(plan.epochs, math.ceil(plan.steps / batches))
    recipe = Recipe(batch=plan.batch, lr=plan.lr or (3e-3 if mode == "lora" else 1e-3), warmup=0.1)
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.999), fused=device.type in ("cpu", "cuda"))
    answer = _answers(model, data, train, mode, device)
    stacked = stack(model)
    history, best, kept = History(kept=epochs), None, None
    for epoch in range(epochs):
        _open(model, stacked, mode, epoch, epochs)
        total = 0.0
        order = random.permutation(random.key(plan.seed, "span order", epoch), len(train)).numpy()
        for k, rows in enumerate(np.array_split(order, batches)):
            step = epoch * batches + k
            schedule.set_rates(optimizer, recipe, step, epochs * batches)
            torch.manual_seed(random.key(plan.seed, "span dropout", step))
            loss = task.loss(*answer(rows))
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
        said = f"loss {history.loss[-1]:.3f}"
        if validation is not None and len(validation):
            figure = float(task.tally(*_judged(model, task, data, validation, device)).value()[0])
            history.validation.append({task.metric: figure})
            said += f", {task.metric} {figure:.3f}"
            if best is None or figure > best:
                best, kept, history.kept = figure, copy.deepcopy(model.state_dict()), epoch + 1
        listener.progress("finetuning", epoch + 1, epochs, said)
    for p in (p for layer in stacked for p in layer):
        p.requires_grad_(True)
    if kept is not None:
        model.load_state_dict(kept)
    return history


def _open(model: SpanModel, stacked: list[list[nn.Parameter]], mode: Mode, epoch: int, epochs: int) -> None:
    """What trains in this epoch."""
    model.train()
    model.encoder.train(mode != "head")
    if mode == "gradual":
        unfreeze(stacked, model.encoder, open_layers(epoch, epochs, len(stacked) - 1))
    elif mode == "lora":
        for module in statistics(model.encoder):
            module.eval()  # they are not folded back


def _judged(model: SpanModel, task: Task, data: Parts, places: np.ndarray, device) -> tuple[list, list]:
    """(guesses, truths) as `task.tally` compares them."""
    found = predictions(model, task, data, places, device=device)
    return [row[0] for row in found], data.truth(places)


def _answers(model: SpanModel, data: Parts, train: np.ndarray, mode: Mode, device: torch.device) -> Callable[[np.ndarray], tuple[Any, Any]]:  # fmt: skip
    """Numbers of training rows -> (what the head says of them, what it should say)."""
    dtype = precision_for(device).dtype
    held = _held(model, data, train, device) if mode == "head" else None

    def answer(rows: np.ndarray) -> tuple[Any, Any]:
        reading, clues, targets = data.part(train[rows])
        clues = None if clues is None else clues.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            if held is not None:
                read = held.take(torch.from_numpy(rows).to(device))
                return model.head(read), targets.to(device)
            if mode == "head":
                with torch.no_grad():
                    read = model.read(reading.to(device), clues)
                return model.head(read), targets.to(device)
            return model(reading.to(device), clues), targets.to(device)

    return answer


@torch.no_grad()
def _held(model: SpanModel, data: Parts, rows: np.ndarray, device: torch.device) -> Read | None:
    """What the frozen encoder makes of all `rows`; None where it would take more than a quarter of the memory."""
    most = int(data.passages.lengths[rows].sum()) * model.encoder.dim * 4
    if 2 * most > cache.memory_bytes() // 4:
        return None
    model.encoder.eval()
    found = []
    for start in range(0, len(rows), EVALUATED):
        reading, clues, _ = data.part(rows[start : start + EVALUATED])
        found.append(model.read(reading.to(device), None if clues is None else clues.to(device)))
    join = lambda some: None if some[0] is None else _joined(some)  # noqa: E731
    return Read(
        _joined([r.pieces for r in found]), torch.cat([r.begin for r in found]), join([r.question for r in found]),
        join([r.clues for r in found]),
    )  # fmt: skip


def _joined(parts: list[Ragged]) -> Ragged:
    lengths = torch.cat([p.lengths for p in parts])
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return Ragged(torch.cat([p.values.float() for p in parts]), offsets)


@torch.no_grad()
def predictions(
    model: SpanModel, task: Task, data: Parts, places: np.ndarray, *, device: str | torch.device = "cpu", batch: int = EVALUATED,
    listener: Listener | None = None,
) -> list[Any]:  # fmt: skip
    """One answer a row, in the order of `places`; rows of like length are read together.  Eval mode; the mode is put back."""
    was = model.training
    model.eval()
    order = np.argsort(data.passages.lengths[places], kind="stable")
    out: list[Any] = [None] * len(places)
    try:
        for start in range(0, len(places), batch):
            some = order[start : start + batch]
            reading, clues, _ = data.part(places[some])
            said = model(reading.to(device), None if clues is None else clues.to(device))
            answers = data.whole(places[some], task.predict(said, reading.at.offsets))  # type: ignore[call-arg, arg-type]
            for at, found in zip(some.tolist(), answers, strict=True):
                out[at] = found
            if listener is not None:
                listener.progress("predicting", min(start + batch, len(places)), len(places))
    finally:
        model.train(was)
    return out
