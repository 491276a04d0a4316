"""`evaluate`: did pretraining help?  Probes, label curve, controls, leakage, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import methods, tasks
from ..core import Encoder, RequestError
from ..core.errors import nearest
from ..core.listener import Listener
from ..data.sniff import guess_group
from ..tasks.language_model import LanguageModel
from ..train.precision import device_of
from . import controls as control
from . import leakage
from .arms import Work, probe_arms
from .embed import Layer
from .language import evaluate_language
from .left_out import Options, leave_one_out, shared_groups
from .opening import first_seed, held_out, method_of, open_dataset, open_encoders, pretrained_on
from .outcome import result
from .probe import few_label_draws
from .protocol import DRAWS, SEEDS, Budget, Problem, budgets_of, prepare, verdict_budget
from .robustness import spoil
from .stages import PEAK_BEFORE_THE_END
from .started import started
from .statistics import visible_difference
from .verdict import CONTROLS


def evaluate(
    run, data, *, labels: str | np.ndarray | None = None, test=None, layer: Layer | str | None = None,
    budgets: Sequence[int] | None = None, draws: int = DRAWS, seeds: int = SEEDS, seed: int = 0, group: str | None = None,
    split: str = "holdout", task: str | None = None, controls: Sequence[str] = control.NAMES, shelf: Mapping[str, Encoder | tuple[Encoder, Any]] | None = None,
    pretraining=None, robustness: bool = False, column: str | None = None, names: str | None = None, max_bad: float = 0.01, batch: int = 256,
    device: str | None = "cpu", listener: Listener | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Sets a pretrained encoder beside fixed controls on the same rows; returns what `selftaught evaluate --json` prints.

    run: a run or model folder, an Encoder, or a list of such (the same pretraining from several seeds).
    data: labelled data (path, `hf:NAME`, Dataset); test: a test set of one's own; else the rows of
    `data` that pretraining left out, where it did (`holdout`), or a fifth.
    labels: column, or one label a row; group: column of what must stay together; budgets: labels a class of the curve.
    split: "holdout", or "leave-one-out": each group (speaker, patient, site) is tested by read-outs fitted on the others, see `left_out.leave_one_out`;
    run may then be a list of runs that left out a group each.
    layer: "last", a stage's number, or "all": each stage is probed, and the pretrained and the untrained network are each read out where
    they are best on validation rows.  None: "all" for runs of predictive and generative methods, which peak before their end, else "last".
    draws: few-label draws, the same for every arm; seeds: untrained networks, the run's own initial weights among them; seed: of splits, draws and bootstrap.
    controls: of blind, raw, untrained, scratch, of texts tf-idf and fasttext, of sounds log-mel and random-filters; shelf: {name: encoder, or (encoder, modality) where it reads texts with a tokenizer
    of its own} off the shelf, shown beside them.
    column: of the data, where the guess is wrong; max_bad: share of rows that may be broken; names: a template of the files' names whose fields
    become columns ("{label}_{speaker}_{take}").
    Where a run continued a pretrained model, that model as it was is an arm, "start", and the result holds a second answer under "start":
    did continuing help?
    task: classify, multilabel or regress, where the guess is wrong; language-model scores `data` (or `test`) without labels: see `evaluate_language`.
    robustness: the verdict's read-outs on spoiled test rows too (noise, blur, ...), at the modality's severities.
    pretraining: what the encoder was pretrained on, where that is other data: searched for copies of test rows.
    Raises RequestError, DataError or ModelError.  Cost: one pass of each network over the labelled rows, and the probes.
    """
    listener = listener or Listener()
    if task is not None and tasks.find(task) is LanguageModel:
        texts = data if test is None else test
        said: dict[str, Any] = {"column": column, "max_bad": max_bad, "device": device, "listener": listener}
        return evaluate_language(run, texts, seed=seed, **said)
    if task is not None:
        tasks.refuse_parts(tasks.find(task), task)
    _check_options(controls, draws, seeds)
    layer = _layer(run, layer)
    encoders, modality = open_encoders(run)
    data, test = (open_dataset(d, modality, listener, column=column, max_bad=max_bad, names=names) for d in (data, test))  # fmt: skip
    if split != "holdout":
        group = _left_out(split, group, data, test, robustness, pretraining)
        options = Options(labels, task, layer, budgets, draws, seeds, seed, controls, dict(shelf or {}), batch, str(device_of(device)), listener)  # fmt: skip
        return leave_one_out(run, data, group, options)
    problem = _problem(run, data, listener, labels=labels, test=test, group=group, task=task, seed=seed)
    spoiled = spoil(problem.test, seed) if robustness else {}
    curve_budgets = budgets_of(problem, budgets)
    at = verdict_budget(problem, curve_budgets, budgets)
    for note in _announce(problem, at, layer):
        listener.say(note)
    work = Work(problem, few_label_draws(problem, curve_budgets, draws, seed), at, seed, batch, str(device_of(device)), listener)  # fmt: skip
    begun = started(run, listener)
    arms = probe_arms(work, encoders, layer, seeds, controls, shelf or {}, first_seed(run), starts=begun.encoders, shifted=spoiled)  # fmt: skip
    before = open_dataset(pretraining, modality, listener, max_bad=1.0)
    same = pretrained_on(run, data if test is None else test)
    leaks = leakage.search(problem, work.kept["pretrained"], before, encoders[0], same, work.device)
    found = result(work, arms, leaks, begun, spoiled)
    found["verdict"]["sentence"] += shared_groups(data, test, group)
    return found


def _problem(run, data, listener: Listener, *, test, **asked) -> Problem:
    """The task with its split: tested are the rows of `test`, those that pretraining left out, or a fifth."""
    held = held_out(run, data, listener) if test is None else None
    return prepare(data, test=test, duplicates=leakage.clusters(data, near=test is None), held=held, **asked)


def _check_options(controls: Sequence[str], draws: int, seeds: int) -> None:
    for name in controls:
        if name not in control.NAMES:
            raise nearest(name, control.NAMES, "control")
    if not set(controls) & set(CONTROLS):
        raise RequestError(
            "The verdict needs something to compare with.", "Keep 'untrained' or 'raw' among --controls."
        )
    if draws < 1 or seeds < 1:
        raise RequestError(
            f"{draws} draws and {seeds} seeds are not enough.", "Give at least 1 of each; 10 and 5 are usual."
        )


def _left_out(split: str, group: str | None, data, test, robustness: bool, pretraining) -> str:
    """The column by which groups are left out."""
    if split != "leave-one-out":
        raise nearest(split, ("holdout", "leave-one-out"), "split")
    if test is not None or robustness or pretraining is not None:
        raise RequestError(
            "Where each group is left out in turn, all of DATA is tested.",
            "Leave out --test, --robustness and --pretraining.",
        )
    found = guess_group(data.source) if group is None else (group, "")
    if not found:
        raise RequestError("No column looks like a group.", "Name it: --group speaker.")
    return found[0]


def _layer(run, layer: Layer | str | None) -> Layer | str:
    layer = default_layer(run) if layer is None else layer
    if isinstance(layer, str) and layer not in ("last", "all"):
        raise RequestError(f"Layer {layer!r} does not exist.", "Say 'last', 'all' or a stage's number.")
    return layer


def default_layer(run) -> Layer | str:
    """The word "all" where the (first) run's method is of a family that peaks before its end; else, and for an Encoder, the word "last"."""
    name = method_of(run)
    return "all" if name in methods.names() and methods.find(name).family in PEAK_BEFORE_THE_END else "last"


def _announce(problem: Problem, at: Budget, layer: Layer | str) -> Iterator[str]:
    """What is fixed before anything is measured."""
    yield from problem.notes
    rows = len(problem.targets)
    where = "all labels" if at == "all" else f"{at} labels{'' if problem.classes is None else ' a class'}"
    yield f"verdict: linear probe, pretrained - the better of untrained and raw (chosen on validation), at {where}, on {rows} test rows."
    if layer == "all":
        yield "each stage is probed; both networks are read out where they are best on validation rows (--layer last: at the end)."
    if problem.classes is not None:
        yield f"{rows} test rows show a difference of {visible_difference(rows):.3f} four times in five (where the two disagree on one row in ten)."
