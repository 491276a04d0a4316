"""Training a network that writes texts (encoder and decoder, or one trunk from left to right) on pairs of texts."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from ..core import Draw, Encoder, Kept, Recipe, RequestError, Target, View, random
from ..core.errors import AlarmError
from ..core.listener import Listener
from ..core.task import Task
from ..data.pairs import TextPairs
from ..losses import head_loss
from ..nets.search import Written, search
from ..nets.seq2seq import EncoderDecoder, LeftToRight
from ..nets.text_decoder import TextDecoder
from ..views.text import MARKS
from . import schedule
from .finetune import History, Plan
from .heap import keep_freed_memory
from .precision import precision_for

Mode = Literal["head", "full"]
Writer = EncoderDecoder | LeftToRight
POOL = 32
"""Batches among which rows are sorted by length, so that little of a batch is padding."""


@dataclass(frozen=True, kw_only=True)
class SequencePlan(Plan):
    """How to learn to write."""

    epochs: int = 10
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    smoothing: float = 0.1
    """Share of the truth that the loss spreads over all ids alike (Vaswani et al. 2017)."""
    dropout: float = 0.1
    """On embedded tokens and residual branches while finetuning."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise RequestError(f"{name} = {getattr(self, name)} is no share.", "Give a number from 0 to below 1.")


def build(kept: Kept, room: int, seed: int = 0) -> tuple[Writer, str]:
    """A network that writes, from a copy of what a run kept, and in words where its writing half comes from.

    An encoder that reads both ways gets the run's decoder (t5, bart), or a fresh one; one that reads from left to right goes on
    writing by itself, with `room` tokens kept for the answer.  RequestError for other encoders.
    """
    encoder: Encoder = copy.deepcopy(kept.encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random.key(seed, "decoder"))
        if getattr(encoder, "causal", False):
            head = kept.parts.get("head")
            own = head if isinstance(head, nn.Linear) else None
            said = "goes on from the source by itself" + (", its head as the run left it" if own is not None else "")
            return LeftToRight.beside(encoder, copy.deepcopy(own), room), said
        decoder = kept.parts.get("decoder")
        if isinstance(decoder, TextDecoder):
            return EncoderDecoder(encoder, decoder.without_sentinels(encoder)), "decoder as the run left it"
        return EncoderDecoder(encoder, TextDecoder.beside(encoder)), "a fresh decoder beside the encoder"


def tune(
    model: Writer, pairs: TextPairs, train: np.ndarray, validation: np.ndarray | None = None, *, mode: Mode = "full",
    plan: SequencePlan | None = None, device: str | torch.device = "cpu", listener: Listener | None = None,
) -> History:  # fmt: skip
    """Trains `model` in place on the pairs at `train` (places): every next token from the true ones before it.

    Loss: summed nats / count of target tokens.  mode "head": the encoder (with the embedding that it shares) stays as it is.  With
    `validation` places, the epoch whose loss there is lowest is kept.  A pure function of its arguments on one chip.  Raises AlarmError where it diverges.
    """
    plan, listener, device = plan or SequencePlan(), listener or Listener(), torch.device(device)
    if mode == "head" and isinstance(model, LeftToRight):
        raise RequestError(
            "Of a network that reads from left to right, --mode head would train nothing.", "Use --mode full."
        )
    if device.type == "cpu":
        keep_freed_memory()
    model.to(device)
    model.encoder.requires_grad_(mode == "full")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _dropping(model, plan.dropout):
        history = _train(model, pairs, train, validation, plan, device, listener)
    model.requires_grad_(True)
    model.eval()
    return history


@contextmanager
def _dropping(model: nn.Module, share: float) -> Iterator[None]:
    """Dropout of `share` for the time being: what the network was built with comes back."""
    layers = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    was = [m.p for m in layers]
    for m in layers:
        m.p = share
    try:
        yield
    finally:
        for m, p in zip(layers, was):
            m.p = p


def _train(
    model: Writer, pairs: TextPairs, train: np.ndarray, validation: np.ndarray | None, plan: SequencePlan, device, listener: Listener
) -> History:  # fmt: skip
    steps = max(1, math.ceil(len(train) / plan.batch))
    epochs = max(plan.epochs, math.ceil(plan.steps / steps))
    recipe = Recipe(batch=plan.batch, lr=plan.rate, warmup=0.1)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98), fused=device.type in ("cpu", "cuda"))
    dtype = precision_for(device).dtype
    lengths = pairs.lengths()
    history, best, kept = History(kept=epochs), math.inf, None
    for epoch in range(epochs):
        model.train()
        total = torch.zeros((), dtype=torch.float64)
        for k, rows in enumerate(batches(lengths[train], plan.batch, random.key(plan.seed, "sequences", epoch))):
            step = epoch * steps + k
            schedule.set_rates(optimizer, recipe, step, epochs * steps)
            torch.manual_seed(random.key(plan.seed, "sequences dropout", step))
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
                loss, _ = loss_of(model, pairs, train[rows], device, plan.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, plan.clip)
            optimizer.step()
            total += loss.detach().cpu()
        history.loss.append(float(total) / steps)
        if not math.isfinite(history.loss[-1]):
            raise AlarmError(
                f"Training diverged: the loss of epoch {epoch + 1} is not finite.", "Lower the learning rate (--lr)."
            )
        said = f"loss {history.loss[-1]:.3f}"
        if validation is not None and len(validation):
            found = nats(model, pairs, validation, batch=plan.batch, device=device)
            history.validation.append({"loss": found})
            said += f", validation {found:.3f}"
            if found < best:
                best, kept, history.kept = found, copy.deepcopy(model.state_dict()), epoch + 1
        listener.progress("finetuning", epoch + 1, epochs, said)
    if kept is not None:
        model.load_state_dict(kept)
    return history


def batches(lengths: np.ndarray, size: int, key: int) -> list[np.ndarray]:
    """Places of rows with these lengths (N, 2), N / size batches in an order that `key` decides: rows of like lengths stand together."""
    order = random.permutation(key, len(lengths)).numpy()
    sums = lengths.sum(1)
    found: list[np.ndarray] = []
    for start in range(0, len(order), POOL * size):
        pool = order[start : start + POOL * size]
        pool = pool[np.argsort(sums[pool], kind="stable")]
        found += [pool[at : at + size] for at in range(0, len(pool), size)]
    return [found[k] for k in random.permutation(random.key(key, "batches"), len(found)).tolist()]


def views_of(pairs: TextPairs, places: np.ndarray, device) -> tuple[View, View]:
    """Sources and targets between marks, cut at the context."""
    plain = pairs.sources.modality.plain(None)
    draw = Draw(torch.from_numpy(pairs.ids[places]).to(device))
    source, target = pairs.fetch(places)
    return plain(source.to(device), draw), plain(target.to(device), draw)


def loss_of(model: Writer, pairs: TextPairs, places: np.ndarray, device, smoothing: float = 0.0) -> tuple[Tensor, int]:
    """The mean loss a target token of these pairs, and how many there are."""
    hidden, wanted = model.hidden(*views_of(pairs, places, device))
    known = (wanted < len(MARKS)) | (wanted >= pairs.sources.modality.specials)  # what is unknown cannot be written
    hidden, wanted = hidden[known], wanted[known]
    every = torch.ones_like(wanted, dtype=torch.bool)
    target = Target("class", wanted, every, classes=pairs.sources.modality.vocabulary)
    return head_loss(hidden, model.top, target, every, smoothing=smoothing), len(wanted)


@torch.no_grad()
def nats(
    model: Writer, pairs: TextPairs, places: np.ndarray, *, batch: int = 64, device: str | torch.device = "cpu"
) -> float:
    """Nats a target token, all pairs at `places` together, in eval mode; the mode is put back."""
    was, total, count = model.training, 0.0, 0
    model.eval()
    order = places[np.argsort(pairs.lengths()[places].sum(1), kind="stable")]
    for start in range(0, len(order), batch):
        loss, tokens = loss_of(model, pairs, order[start : start + batch], device)
        total, count = total + float(loss) * tokens, count + tokens
    model.train(was)
    return total / max(1, count)


@torch.no_grad()
def write(
    model: Writer, task: Task, pairs: TextPairs, places: np.ndarray, *, device: str | torch.device = "cpu", batch: int = 64,
    listener: Listener | None = None,
) -> list[Written]:  # fmt: skip
    """The task's answer to each source at `places`, in eval mode; the mode is put back."""
    was, modality = model.training, pairs.sources.modality
    model.eval().to(device)
    plain = modality.plain(None)
    found: dict[int, Written] = {}
    lengths = pairs.sources.lengths
    order = np.arange(len(places)) if lengths is None else np.argsort(lengths[places], kind="stable")
    try:
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            source = plain(
                pairs.sources.fetch(places[some]).to(device), Draw(torch.from_numpy(pairs.ids[places[some]]).to(device))
            )
            answers = search(
                model.write(source), longest=min(model.longest, task.longest), beams=task.beams, length_penalty=task.length_penalty,  # type: ignore[attr-defined]
                specials=modality.specials, vocabulary=modality.vocabulary,
            )  # fmt: skip
            found |= dict(zip(some.tolist(), answers))
            if listener is not None:
                listener.progress("writing", len(found), len(places))
    finally:
        model.train(was)
    return [found[k] for k in range(len(places))]
