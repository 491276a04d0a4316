"""Training the head of a task on the tokens of sounds (transcripts, labels of frames) over a frozen encoder, or both together."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from ..core import Draw, Encoder, Ragged, Recipe, Transform, View, random
from ..core.errors import AlarmError
from ..core.listener import Listener
from ..core.task import Task
from ..data import cache
from ..nets.ctc import Emitted
from ..nets.listening import Listening
from ..views.spectrogram import Hide
from . import lora, schedule
from .batches import Batches
from .clip_feed import AT_ONCE, Feed
from .finetune import History, Plan
from .heap import keep_freed_memory
from .layers import layer_groups, open_layers, stack, statistics, unfreeze
from .precision import precision_for

Mode = Literal["head", "full", "gradual", "lora"]
PLAN = Plan(epochs=30, steps=300, batch=16)
"""Of labelled stretches: a clip holds many targets."""
SPELLING = Plan(epochs=30, steps=600, batch=16, views="augment")
"""Of transcripts: the first hundreds of steps go by before anything but blanks is written, and few voices are learned by heart unless they vary."""

SMALL = 5_000_000
"""Parameters up to which a network spells sooner at a rate of 3e-3 (sound-conv on 400 clips: LOG.md); published models are larger, and lose what they know at it."""


class Clips(Protocol):
    """Sounds with what is to be found in them."""

    sounds: Any
    """data.Dataset of sounds."""

    def __len__(self) -> int: ...

    def targets(self, places: np.ndarray, frames: Tensor) -> Any:
        """What `task.loss` compares the frames of some rows with; `frames` (rows,) is how many there are."""
        ...

    def least(self, places: np.ndarray) -> np.ndarray:
        """(rows,) the fewest frames with which some rows can be learned."""
        ...

    def truth(self, places: np.ndarray) -> list: ...


class ClipModel(nn.Module):
    """An encoder of sound with the head of a task on its tokens."""

    def __init__(self, encoder: Encoder, head: nn.Module, ear: Listening):
        super().__init__()
        self.encoder, self.head, self.ear = encoder, head, ear

    def forward(self, view: View) -> Emitted:
        return self.head(*self.ear(self.encoder, view))


@dataclass
class Tuning:
    """One training: what its parts share."""

    model: ClipModel
    task: Task
    data: Clips
    mode: Mode
    plan: Plan
    device: torch.device
    listener: Listener


def tune(
    encoder: Encoder, task: Task, data: Clips, train: np.ndarray, validation: np.ndarray | None = None, *, ear: Listening,
    mode: Mode = "full", plan: Plan = PLAN, device: str | torch.device = "cpu", listener: Listener | None = None,
) -> tuple[ClipModel, History]:  # fmt: skip
    """Trains a new head, and but for mode "head" a copy of `encoder`, on the rows `train` of `data` (places).

    Over a frozen encoder the tokens are worked out once, where they fit into a quarter of the memory.  With `validation` places the epoch that `task.rank` puts
    first there is kept, without them the last.  A pure function of its arguments on one chip.  Raises AlarmError where it diverges.
    """
    listener, device = listener or Listener(), torch.device(device)
    if device.type == "cpu":
        keep_freed_memory()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(random.key(plan.seed, "clip head"))
        own = copy.deepcopy(encoder)
        model = ClipModel(own, task.head(ear.width), ear).to(device)
        if mode == "lora":
            adapters = lora.inject(own, rank=plan.rank)
            head = list(model.head.parameters())
            groups = [{"params": adapters, "weight_decay": 0.0}, {"params": head, "weight_decay": 0.0}]
            model.to(device)
        else:
            own.requires_grad_(mode != "head")
            for p in getattr(own, "always_train", lambda: [])():
                p.requires_grad_(True)
            groups = layer_groups(model, plan.layer_decay, plan.weight_decay)
        history = _train(Tuning(model, task, data, mode, plan, device, listener), groups, train, validation)
    if mode == "lora":
        lora.merge(own)
    own.requires_grad_(True)
    return model.eval(), history


def _train(job: Tuning, groups: list[dict], train: np.ndarray, validation: np.ndarray | None) -> History:
    plan, device, model = job.plan, job.device, job.model
    batches = max(1, math.ceil(len(train) / plan.batch))
    epochs = max(plan.epochs, math.ceil(plan.steps / batches))
    recipe = Recipe(batch=plan.batch, lr=plan.lr or _rate(job), warmup=0.1)
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), fused=device.type in ("cpu", "cuda"))
    emitted = _emitter(job, train)
    checked = None if validation is None or not len(validation) else Feed.of(model.encoder, job.data.sounds, validation, device)  # fmt: skip
    stacked = stack(model)
    trained = [p for g in groups for p in g["params"]]
    lengths = job.data.sounds.lengths
    dealt = Batches.of(
        None if lengths is None else lengths[train], len(train), batches, seed=plan.seed, purpose="clip order"
    )
    if dealt.alike:
        job.listener.say(dealt.describe())
    history, best, kept = History(kept=epochs), None, None
    for epoch in range(epochs):
        _open(job, stacked, epoch, epochs)
        total = 0.0
        for k, rows in enumerate(dealt.epoch(epoch)):
            step = epoch * batches + k
            schedule.set_rates(optimizer, recipe, step, epochs * batches)
            torch.manual_seed(random.key(plan.seed, "clip dropout", step))
            out = emitted(rows, step)
            loss = job.task.loss(out, job.data.targets(train[rows], out.frames.cpu()).to(device))  # type: ignore[arg-type]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, plan.clip)
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        history.loss.append(total / len(train))
        if not math.isfinite(total):
            raise AlarmError(
                f"Finetuning diverged: the loss of epoch {epoch + 1} is not finite.", "Lower the learning rate (--lr)."
            )
        said = f"loss {history.loss[-1]:.3f}"
        if checked is not None:
            tally, loss_there = judged(model, job.task, job.data, checked)
            rank = job.task.rank(tally, loss_there)  # type: ignore[attr-defined]
            history.validation.append({job.task.metric: float(tally.value()[0]), "loss": loss_there})
            said += f", {job.task.metric} {history.validation[-1][job.task.metric]:.3f}" + _state(job.task, tally)
            if best is None or rank > best:
                best, kept, history.kept = rank, copy.deepcopy(model.state_dict()), epoch + 1
        job.listener.progress("finetuning", epoch + 1, epochs, said)
    for p in (p for layer in stacked for p in layer):
        p.requires_grad_(True)
    if kept is not None:
        model.load_state_dict(kept)
    return history


def _rate(job: Tuning) -> float:
    """The peak rate where none is asked for."""
    small = job.task.wants == "transcript" and sum(p.numel() for p in job.model.parameters()) < SMALL
    return 3e-3 if small or job.mode == "lora" else 1e-3


def _state(task: Task, tally: Any) -> str:
    said = task.state(tally) if hasattr(task, "state") else ""
    return f" ({said})" if said else ""


def _open(job: Tuning, stacked: list[list[nn.Parameter]], epoch: int, epochs: int) -> None:
    """What trains in this epoch."""
    job.model.train()
    job.model.encoder.train(job.mode != "head")
    if job.mode == "gradual":
        unfreeze(stacked, job.model.encoder, open_layers(epoch, epochs, len(stacked) - 1))
    elif job.mode == "lora":
        for module in statistics(job.model.encoder):
            module.eval()  # they are not folded back


def _views(job: Tuning) -> Transform | None:
    """What changes whole clips: "masked" hides parts, "augment" is another voice, room and microphone as well, and for transcripts another tempo."""
    if job.plan.views == "augment":
        tempo = job.task.wants == "transcript"
        job.listener.say(
            f"views: each clip as another voice, room{', tempo' * tempo} and microphone would have it, with parts hidden; --views mild leaves clips as they are."
        )
        return job.data.sounds.modality.elsewhere(tempo=tempo)
    return Hide() if job.plan.views == "masked" else None


def _energies(ear: Listening, frames: np.ndarray, upsample: int, hop: int) -> Tensor:
    """(rows,) log-mel frames, `hop` samples apart, of the shortest clips of which the head says so many `frames` (rows,)."""
    tokens = -(-frames // upsample)
    return torch.from_numpy(-(-(ear.first + (tokens - 1) * ear.stride) // hop))


def _emitter(job: Tuning, train: np.ndarray) -> Callable[[np.ndarray, int], Emitted]:
    """(numbers of training rows, step) -> what the head says of them."""
    model, device, dtype = job.model, job.device, precision_for(job.device).dtype
    frozen = job.mode == "head" and not any(p.requires_grad for p in model.encoder.parameters())
    views, key = _views(job), random.key(job.plan.seed, "clip views")
    feed = Feed.of(model.encoder, job.data.sounds, train, device)
    held = _held(model, feed) if frozen and views is None else None
    ids, least = torch.from_numpy(job.data.sounds.ids[train]).to(device), None
    if feed.mels is not None:  # a quicker tempo leaves as many frames as the text needs
        upsample, hop = getattr(job.task, "upsample", 1), job.data.sounds.modality.front.hop
        least = _energies(model.ear, job.data.least(train), upsample, hop).to(device)

    def view_of(rows: np.ndarray, step: int) -> View:
        view = feed.view(rows)
        if least is not None:
            view = view.with_parts(least=least[torch.from_numpy(rows).to(device)])
        return view if views is None else views(view, Draw(ids[torch.from_numpy(rows).to(device)], key, step, 0, 0.0))

    def emitted(rows: np.ndarray, step: int) -> Emitted:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            if held is not None:
                some = held.take(torch.from_numpy(rows).to(device))
                return model.head(some.pad()[0], some.lengths)
            if frozen:
                with torch.no_grad():
                    tokens = model.ear(model.encoder, view_of(rows, step))
                return model.head(*tokens)
            return model(view_of(rows, step))

    return emitted


@torch.no_grad()
def _held(model: ClipModel, feed: Feed) -> Ragged | None:
    """The tokens that the frozen encoder makes of all clips; None where they would take more than a quarter of the memory."""
    model.encoder.eval()
    lengths = feed.sounds.lengths
    if lengths is None or 8 * lengths[feed.rows].sum() / model.ear.stride * model.ear.width > cache.memory_bytes() // 4:
        return None
    parts = [torch.empty(0)] * len(feed.rows)
    for some in feed.by_length():
        values, count = model.ear(model.encoder, feed.view(some))
        for at, row, n in zip(some.tolist(), values.float(), count.tolist()):
            parts[at] = row[:n].clone()
    offsets = torch.tensor([0, *np.cumsum([len(p) for p in parts]).tolist()], device=feed.device)
    return Ragged(torch.cat(parts), offsets)


@torch.no_grad()
def emissions(model: ClipModel, feed: Feed, *, batch: int = AT_ONCE, listener: Listener | None = None) -> Iterator[tuple[np.ndarray, Emitted]]:  # fmt: skip
    """(numbers among the clips of `feed`, what the head says of them), in eval mode, in order of length; the mode is put back."""
    was, done = model.training, 0
    model.eval()
    try:
        for some in feed.by_length(batch):
            yield some, model(feed.view(some))
            done += len(some)
            if listener is not None:
                listener.progress("predicting", done, len(feed.rows))
    finally:
        model.train(was)


def predictions(model: ClipModel, task: Task, sounds, places: np.ndarray, *, device: str | torch.device = "cpu", batch: int = AT_ONCE, listener: Listener | None = None) -> list[Any]:  # fmt: skip
    """The task's answer to each clip of `sounds` (data.Dataset), in the order of `places`."""
    out: list[Any] = [None] * len(places)
    for some, said in emissions(model, Feed(sounds, places, torch.device(device)), batch=batch, listener=listener):
        for at, found in zip(some.tolist(), task.predict(said), strict=True):  # type: ignore[arg-type]
            out[at] = found
    return out


def judged(model: ClipModel, task: Task, data: Clips, feed: Feed) -> tuple[Any, float]:
    """(tally, loss a target) of the clips of `feed`; a search follows one prefix only, since it is done after every epoch."""
    quick = copy.copy(task)
    if hasattr(task, "beams"):
        quick.beams = 1  # type: ignore[attr-defined]
    out: list[Any] = [None] * len(feed.rows)
    total, rows = 0.0, 0
    for some, said in emissions(model, feed):
        places, frames = feed.rows[some], said.frames.cpu()
        if (fits := data.least(places) <= frames.numpy()).any():
            at = torch.from_numpy(np.flatnonzero(fits))
            own = Emitted(said.logits[at.to(said.logits.device)], said.frames[at.to(said.frames.device)])
            targets = data.targets(places[fits], frames[at]).to(own.logits.device)
            total += float(task.loss(own, targets)) * len(at)  # type: ignore[arg-type]
            rows += len(at)
        for number, found in zip(some.tolist(), quick.predict(said), strict=True):  # type: ignore[arg-type]
            out[number] = found
    return task.tally(out, data.truth(feed.rows)), total / max(1, rows)
