"""The loop, from top to bottom: batch -> views -> loss -> check -> step -> commit -> observe -> checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from .. import measures
from ..core import Method, Recipe, ViewSpec, dist
from ..core.errors import AlarmError, ModelError
from . import checkpoint, schedule
from .observe import Moment, Observer
from .optimizers import load_state
from .run import Run
from .step import ROWS, STEPS, check_accumulation, make_batch

PATIENCE = 5  # steps in a row that may be skipped for a non-finite loss or gradient before the run stops


@dataclass
class Training:
    """All that a step touches; what of it a checkpoint holds is `state()`."""

    method: Method
    recipe: Recipe
    specs: list[ViewSpec]
    optimizer: torch.optim.Optimizer
    horizon: int
    seed: int
    fingerprint: str
    """Of the data: a run goes on only with the data it began with."""
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    skipped: int = 0
    alarms: list[str] = field(default_factory=list)
    rank: float | None = None
    """The centred effective rank when it was last measured; for the eye and the alarms, not in a checkpoint."""

    def state(self) -> dict[str, Any]:
        return {
            "method": self.method.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step,
            "horizon": self.horizon, "seed": self.seed, "seconds": self.seconds, "skipped": self.skipped,
            "alarms": list(self.alarms), "fingerprint": self.fingerprint,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Puts a checkpoint back; refuses one of other data or another seed."""
        if state["fingerprint"] != self.fingerprint:
            raise ModelError(
                "The data have changed since this run began.",
                "Resume with the same data, or begin anew with another --out.",
            )
        if state["seed"] != self.seed:
            raise ModelError(
                f"This run began with --seed {state['seed']}, not {self.seed}.", f"Resume with --seed {state['seed']}."
            )
        self.method.load_state_dict(state["method"])
        load_state(self.optimizer, state["optimizer"])
        self.step, self.horizon, self.seconds = state["step"], state["horizon"], state["seconds"]
        self.skipped, self.alarms = state["skipped"], state["alarms"]


def train(
    training: Training,
    batches: Iterable,
    *,
    accelerator,
    run: Run,
    observers: list[Observer],
    alarms: list[Observer],
    say: Callable[[str], None],
    draw: Callable[[Moment], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    save_every: int | None = None,
    wait: Callable[[], float] = lambda: 0.0,
    refresh: Callable[[int], None] = lambda step: None,
) -> bool:
    """Trains to the horizon; False where `stop()` asked it to leave early (state is saved either way).

    batches: (step, index, raw views) from the training's step on; save_every: steps, or None for once a minute; wait: share of
    time the loader kept us waiting; refresh(step): called before each step; it may change the method's buffers, and looks on otherwise.
    """
    stepper = _Stepper(training, accelerator, say)
    every = max(1, training.horizon // 400)  # moments that are written down; those with features are ten times rarer
    since, saved_at = time.perf_counter() - training.seconds, time.perf_counter()
    training.method.train()
    for step, index, raws in batches:
        if training.step >= training.horizon:
            break
        refresh(step)
        outputs, loss, rate = stepper.take(step, index, raws)
        training.step, training.seconds = step + 1, time.perf_counter() - since
        if stepper.failures >= PATIENCE:
            _save(training, run)
            raise AlarmError(
                f"{stepper.failures} steps in a row had a loss or gradient that is not finite; the last batch holds rows {index.tolist()[:20]}.",
                "Look at these rows, lower the learning rate (--set recipe.lr=...), or use --precision float32.",
            )
        last = training.step == training.horizon
        if step % every == 0 or last:
            with_features = step % (10 * every) == 0 or last
            _observe(
                training, _moment(training, outputs, loss, rate, wait(), with_features), observers, alarms, say, draw
            )
        due = training.step % save_every == 0 if save_every else time.perf_counter() - saved_at > 60
        leaving, due = _agree(accelerator.device, stop(), due)
        if leaving or last or due:
            _save(training, run)
            saved_at = time.perf_counter()
        if leaving:
            return False
    return True


class _Stepper:
    """One optimiser step: views, forward, backward, check, commit.  A step that is not finite changes nothing."""

    def __init__(self, training: Training, accelerator, say: Callable[[str], None]):
        self.training, self.accelerator, self.say = training, accelerator, say
        self.model = accelerator.prepare_model(training.method)
        self.way = STEPS[check_accumulation(training.method, training.recipe.accumulate)]
        named = training.method.named_buffers()
        self.statistics = [b for name, b in named if name.rsplit(".", 1)[-1] in ("running_mean", "running_var")]
        self.before = [torch.empty_like(b) for b in self.statistics]
        self.failures = 0
        """Steps in a row that were skipped."""

    def take(self, step: int, index: torch.Tensor, raws: dict) -> tuple[dict[str, torch.Tensor], float, float]:
        """(the method's outputs, the mean loss over ranks, the learning rate)."""
        training, recipe, device = self.training, self.training.recipe, self.accelerator.device
        raws = {rows: view.to(device, non_blocking=True) for rows, view in raws.items()}
        index, progress = index.to(device, non_blocking=True), step / training.horizon
        batch = make_batch(training.specs, raws, index, seed=training.seed, step=step, progress=progress)
        rate = schedule.set_rates(training.optimizer, recipe, step, training.horizon)
        _copy(self.before, self.statistics)
        outputs = self.way(self.model, training.method, batch, self.accelerator.backward, recipe.accumulate)
        loss, healthy = _check(outputs["loss"], training.method, recipe.clip)
        if healthy:
            training.optimizer.step()
            training.method.after_step((step + 1) / training.horizon, {k: v.detach() for k, v in outputs.items()})
            self.failures = 0
        else:
            _copy(self.statistics, self.before)  # a non-finite batch must not live on in the running statistics
            training.skipped, self.failures = training.skipped + 1, self.failures + 1
            first = index[:5].tolist()
            self.say(f"step {step}: the loss or a gradient is not finite; the step is skipped (rows {first} ...).")
        training.optimizer.zero_grad(set_to_none=True)
        return outputs, loss, rate


def _check(loss: torch.Tensor, method: Method, clip: float) -> tuple[float, bool]:
    """(mean loss over ranks, whether it and every gradient are finite on every rank); clips where asked."""
    trained = [p for p in method.parameters() if p.grad is not None]
    grads = [p.grad for p in trained if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads, foreach=True)
    if clip > 0:
        torch.nn.utils.clip_grads_with_norm_(trained, clip, norm)
    value = dist.total(torch.stack([loss.detach().float().reshape(()), norm.float().reshape(())])) / dist.world()
    mean, total_norm = value.tolist()
    return mean, math.isfinite(mean) and math.isfinite(total_norm)


def _copy(to: list[torch.Tensor], source: list[torch.Tensor]) -> None:
    if to:
        torch._foreach_copy_(to, source)


def _agree(device: torch.device, *wishes: bool) -> list[bool]:
    """What any rank wishes, all do: signals and clocks differ between processes."""
    if dist.world() == 1:
        return list(wishes)
    return [bool(v) for v in dist.total(torch.tensor(wishes, dtype=torch.float32, device=device)) > 0]


def _moment(training: Training, outputs: dict, loss: float, rate: float, wait: float, with_features: bool) -> Moment:
    aside = {"loss", *ROWS, *training.method.commits}
    scalars = {k: float(v) for k, v in outputs.items() if k not in aside}
    features = outputs["features"].detach().float() if with_features and "features" in outputs else None
    if features is not None:
        training.rank = measures.effective_rank(features, centred=True)
        if "positives" in outputs and len(features) > 1:
            scalars["alignment"] = measures.alignment(features, outputs["positives"])
            scalars["uniformity"] = measures.uniformity(features)
    rows = training.step * training.recipe.batch
    return Moment(
        training.step, training.horizon, loss, scalars, features, rate, training.seconds,
        rows / max(1e-9, training.seconds), wait, training.skipped, training.rank,
    )  # fmt: skip


def _observe(training: Training, moment: Moment, observers, alarms, say, draw) -> None:
    if dist.rank() != 0:
        return
    for observer in observers:
        observer(moment)
    for alarm in alarms:
        text = alarm(moment)
        if text:
            training.alarms.append(text)
            say(f"ALARM {text}")
    if draw:
        draw(moment)


def _save(training: Training, run: Run) -> None:
    if dist.rank() == 0:
        checkpoint.save(run.checkpoints, training.step, training.state())
        run.status("running", step=training.step, horizon=training.horizon)
    dist.barrier()
