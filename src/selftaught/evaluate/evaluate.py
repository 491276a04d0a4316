"""`evaluate`: did pretraining help?  Probes, label curve, controls, leakage, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import modalities, nets
from ..core import Encoder, RequestError
from ..core.errors import nearest
from ..core.listener import Listener
from ..train.precision import device_of
from . import controls as control
from . import curve, diagnose, leakage
from .embed import Layer, embed, embed_layers, raw
from .probe import Features, Probed, blind, few_label_draws, probe
from .protocol import DRAWS, Budget, Problem, budgets_of, prepare, verdict_budget
from .statistics import interval, visible_difference
from .verdict import CONTROLS, Verdict, choose_control, judge


def evaluate(
    run, data, *, labels: str | np.ndarray | None = None, test=None, layer: Layer | str = "last",
    budgets: Sequence[int] | None = None, draws: int = DRAWS, seeds: int = 3, seed: int = 0, group: str | None = None,
    task: str | None = None, controls: Sequence[str] = control.NAMES, shelf: Mapping[str, Encoder] | None = None,
    pretraining=None, batch: int = 256, device: str | None = "cpu", listener: Listener | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Sets a pretrained encoder beside fixed controls on the same rows; returns what `selftaught evaluate --json` prints.

    run: a run or model folder, an Encoder, or a list of such (the same pretraining from several seeds).
    data: labelled data (path, `hf:NAME`, Dataset); test: a test set of one's own, else a fifth of `data` is held out.
    labels: column, or one label a row; group: column of what must stay together; budgets: labels a class of the curve.
    layer: "last", a stage's number, or "all" (each stage probed too; the verdict stays with the last).
    draws: few-label draws, the same for every arm; seeds: untrained networks; seed: of splits, draws and bootstrap.
    controls: of blind, raw, untrained, scratch; shelf: {name: encoder} off the shelf, shown beside them.
    pretraining: what the encoder was pretrained on, where that is other data: searched for copies of test rows.
    Raises RequestError, DataError or ModelError.  Cost: one pass of each network over the labelled rows, and the probes.
    """
    listener = listener or Listener()
    _check_options(controls, draws, seeds)
    encoders, modality = _open(run)
    data, test = _dataset(data, modality, listener), _dataset(test, modality, listener)
    problem = prepare(data, labels=labels, test=test, group=group, task=task, seed=seed, duplicates=leakage.clusters(data))
    curve_budgets = budgets_of(problem, budgets)
    at = verdict_budget(problem, curve_budgets, budgets)
    for note in _announce(problem, at):
        listener.say(note)
    work = _Work(problem, few_label_draws(problem, curve_budgets, draws, seed), at, seed, batch, str(device_of(device)), listener)  # fmt: skip
    arms = _arms(work, encoders, layer, seeds, controls, shelf or {})
    leaks = leakage.search(work.problem, work.kept["pretrained"], _dataset(pretraining, modality, listener), encoders[0], _seen(run, data))  # fmt: skip
    return _result(work, arms, leaks)


@dataclass
class _Work:
    """What every arm shares."""

    problem: Problem
    draws: dict[Budget, list[np.ndarray]]
    at: Budget
    seed: int
    batch: int
    device: str
    listener: Listener
    kept: dict[str, Features] = field(default_factory=dict)
    """Features of the last layer that leakage and diagnosis look at again."""

    def embed(self, encoder: Encoder, layer) -> Features:
        settings = {"batch": self.batch, "device": self.device, "listener": self.listener}
        pool, test = self.problem.pool, self.problem.test
        return Features(embed(encoder, pool, layer=layer, **settings), embed(encoder, test, layer=layer, **settings))

    def verdict_draws(self) -> dict[Budget, list[np.ndarray]]:
        return {self.at: self.draws[self.at]} if self.at != "all" else {}


def _check_options(controls: Sequence[str], draws: int, seeds: int) -> None:
    for name in controls:
        if name not in control.NAMES:
            raise nearest(name, control.NAMES, "control")
    if not set(controls) & set(CONTROLS):
        raise RequestError("The verdict needs something to compare with.", "Keep 'untrained' or 'raw' among --controls.")
    if draws < 1 or seeds < 1:
        raise RequestError(f"{draws} draws and {seeds} seeds are not enough.", "Give at least 1 of each; 10 and 3 are usual.")


def _open(run) -> tuple[list[Encoder], Any]:
    """Encoders, and the modality that was saved beside the first (None for an Encoder in memory)."""
    several = run if isinstance(run, list | tuple) else [run]
    if not several:
        raise RequestError("There is no run to evaluate.", "Give a run folder, a model folder or an encoder.")
    if isinstance(several[0], Encoder):
        return list(several), None
    folders = [nets.store.find(getattr(one, "folder", one)) for one in several]
    return [nets.store.load_encoder(f) for f in folders], modalities.load(folders[0])


def _dataset(data, modality, listener: Listener):
    if data is None or not isinstance(data, str | Path):
        return data
    return modalities.open_data(data, modality=modality, say=listener.say)


def _seen(run, data) -> bool:
    """Whether `data` are, by fingerprint, what the run was pretrained on."""
    one = run[0] if isinstance(run, list | tuple) else run
    if isinstance(one, Encoder):
        return False
    facts = Path(getattr(one, "folder", one)) / "data.json"
    from ..train.run import Run

    return facts.is_file() and Run(facts.parent).read_json("data.json").get("fingerprint") == data.fingerprint


def _announce(problem: Problem, at: Budget) -> Iterator[str]:
    """What is fixed before anything is measured."""
    yield from problem.notes
    rows = len(problem.targets)
    where = "all labels" if at == "all" else f"{at} labels{'' if problem.classes is None else ' a class'}"
    yield f"verdict: linear probe, pretrained - the better of untrained and raw (chosen on validation), at {where}, on {rows} test rows."
    if problem.classes is not None:
        yield f"{rows} test rows show a difference of {visible_difference(rows):.3f} four times in five (where the two disagree on one row in ten)."


def _arms(work: _Work, encoders, layer, seeds: int, controls, shelf) -> dict[tuple[str, Layer | str], Probed]:
    """{(features, layer): scores} of every arm."""
    main: Layer = "last" if layer == "all" else layer
    problem, seed = work.problem, work.seed
    arms: dict[tuple[str, Layer | str], Probed] = {}
    arms["pretrained", main] = _seeded(work, "pretrained", (work.embed(e, main) for e in encoders), len(encoders))
    if layer == "all":
        for k, features in enumerate(_stages(work, encoders[0])):
            arms["pretrained", k] = probe(problem, features, work.verdict_draws(), full=work.at == "all", extra=False, seed=seed)
    if "untrained" in controls:
        fresh = (control.untrained(encoders[0], problem.pool, seed + k) for k in range(seeds))
        arms["untrained", main] = _seeded(work, "untrained", (work.embed(e, main) for e in fresh), seeds)
    if "raw" in controls:
        arms["raw", "last"] = _seeded(work, "raw", iter([Features(raw(problem.pool), raw(problem.test))]), 1)
    if "blind" in controls:
        arms["blind", "last"] = blind(problem, work.draws)
    for name, encoder in shelf.items():
        arms[f"shelf:{name}", "last"] = _seeded(work, f"shelf:{name}", iter([work.embed(encoder, "last")]), 1)
    if "scratch" in controls:
        some = work.verdict_draws() or {"all": [problem.probe_train]}
        first = {b: d[: control.SCRATCH_DRAWS] for b, d in some.items()}
        arms["scratch", "last"] = control.scratch(problem, encoders[0], first, seed=seed, device=work.device, listener=work.listener)  # fmt: skip
    return arms


def _stages(work: _Work, encoder: Encoder) -> Iterator[Features]:
    settings = {"batch": work.batch, "device": work.device, "listener": work.listener}
    pairs = zip(embed_layers(encoder, work.problem.pool, **settings), embed_layers(encoder, work.problem.test, **settings), strict=True)  # fmt: skip
    return (Features(pool, test) for pool, test in pairs)


def _seeded(work: _Work, name: str, several: Iterator[Features], seeds: int) -> Probed:
    """The first seed is probed at every budget, the others where the verdict is given: one seed's features at a time."""
    total = Probed()
    for k, features in enumerate(several):
        work.listener.progress("probing", k, seeds, name)
        if k == 0:
            total = probe(work.problem, features, work.draws, seed=work.seed)
            work.kept[name] = features
        else:
            total.join(probe(work.problem, features, work.verdict_draws(), full=work.at == "all", extra=False, seed=work.seed))
    work.listener.progress("probing", seeds, seeds, name)
    return total


def _result(work: _Work, arms: dict[tuple[str, Layer | str], Probed], leaks: leakage.Leaks) -> dict[str, Any]:
    problem, groups = work.problem, work.problem.test_groups
    main = next(iter(arms))
    chosen = choose_control({n: p.validation[work.at] for (n, _), p in arms.items() if n in CONTROLS and work.at in p.validation})
    scored = {name: arm for (name, layer), arm in arms.items() if (name, layer) == main or name != "pretrained"}
    ours, theirs = scored["pretrained"].scores["linear", work.at], scored[chosen].scores["linear", work.at]
    verdict = judge(
        ours, theirs, name=chosen, budget=work.at, metric=problem.task.metric, groups=groups,
        numbers=problem.classes is None, seen=int(leaks.seen.sum()), seed=work.seed,
    )  # fmt: skip
    return {
        "task": _task_name(problem),
        "metric": problem.task.metric,
        "rows": _rows(work, arms),
        "differences": _differences(work, scored, verdict),
        "smallest_visible_difference": round(verdict.difference.visible, 6),
        "leakage": {"exact": int(leaks.exact.sum()), "near": int(leaks.near.sum()), "without": _without(work, arms, leaks)},
        "verdict": {"answer": verdict.answer, "sentence": verdict.sentence},
        "labels_saved": _saved(work, scored, chosen),
        "measures": diagnose.measure(work.kept, {n: a.clusters for n, a in scored.items()}, problem.targets),
        "test_rows": len(problem.targets),
    }


def _task_name(problem: Problem) -> str:
    from .. import tasks

    return tasks.name_of(problem.task)


def _order(budget: Budget) -> float:
    return float("inf") if budget == "all" else float(budget)


def _rows(work: _Work, arms: dict, keep: np.ndarray | None = None) -> list[dict[str, Any]]:
    """One row an arm, probe, layer and budget, budgets ascending; of the test rows `keep` only, where given."""
    groups = work.problem.test_groups
    rows = []
    for (name, layer), arm in arms.items():
        for (how, budget), found in arm.scores.items():
            held = found if keep is None else found.items(keep)
            got = interval(held, groups if groups is None or keep is None else groups[keep], seed=work.seed)
            seeds, draws, _ = found.numerator.shape
            rows.append(
                {
                    "features": name, "probe": how, "layer": layer, "labels_per_class": budget, "mean": round(got.mean, 6),
                    "low": round(got.low, 6), "high": round(got.high, 6), "draws": draws, "seeds": seeds,
                }
            )  # fmt: skip
    return sorted(rows, key=lambda row: _order(row["labels_per_class"]))


def _differences(work: _Work, scored: dict[str, Probed], verdict: Verdict) -> list[dict[str, Any]]:
    """Pretrained minus every other arm, the verdict's contrast first."""
    ours, rows = scored["pretrained"], []
    for name, arm in scored.items():
        for (how, budget), other in arm.scores.items():
            mine = ours.scores.get(("linear" if how == "finetune" else how, budget))
            if name == "pretrained" or mine is None:
                continue
            got = interval(control.against(mine, other), work.problem.test_groups, seed=work.seed)
            rows.append(
                {
                    "a": "pretrained", "b": name, "probe": how, "labels_per_class": budget, "mean": round(got.mean, 6),
                    "low": round(got.low, 6), "high": round(got.high, 6),
                }
            )  # fmt: skip
    first = ("linear", verdict.control, verdict.budget)
    return sorted(rows, key=lambda r: ((r["probe"], r["b"], r["labels_per_class"]) != first, _order(r["labels_per_class"])))


def _without(work: _Work, arms: dict, leaks: leakage.Leaks) -> list[dict[str, Any]]:
    """The rows again, without the test rows that have a copy among the training rows; none where nothing or everything leaks."""
    keep = ~(leaks.exact | leaks.near)
    return [] if keep.all() or not keep.any() else _rows(work, arms, keep)


def _saved(work: _Work, scored: dict[str, Probed], chosen: str) -> dict | None:
    """How many labels the control needs to score what pretraining does at the verdict's budget; None without a curve."""
    control_curve = {b: s for (how, b), s in scored[chosen].scores.items() if how == "linear" and b != "all"}
    if work.at == "all" or len(control_curve) < 2:
        return None
    ours = scored["pretrained"].scores["linear", work.at]
    return curve.labels_saved(
        ours, control_curve, control=chosen, budget=int(work.at), groups=work.problem.test_groups, seed=work.seed
    ).plain()
