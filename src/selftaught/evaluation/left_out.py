"""Leave one group out: every speaker (patient, site) is tested once by read-outs that were fitted, and tuned, on the others.

One split says how it went with the few people of its test part; people differ more than rows do.  So each is left out in turn, and the
intervals are over people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import tasks
from ..core import DataError, Encoder, RequestError
from ..core.listener import Listener
from ..data import splits
from ..data.sniff import guess_group
from . import leakage
from .arms import Arms, Work, probe_arms
from .embed import Layer, embed, raw
from .opening import first_seed, left_out_of, open_encoders
from .outcome import ahead, differences, rows_of
from .probe import Features, Probed, few_label_draws, probe
from .protocol import Budget, Problem, budgets_of, prepare, verdict_budget
from .statistics import Folds, Scores, interval
from .verdict import CONTROLS, choose_control, judge

MOST = 20
"""Folds, at most: of more groups, several are left out together."""
LEAST = 3
"""Groups, at least: one tested, one to tune on, one to learn from."""


@dataclass
class Options:
    """What all folds are evaluated with."""

    labels: str | np.ndarray | None
    task: str | None
    layer: Layer | str
    budgets: Sequence[int] | None
    draws: int
    seeds: int
    seed: int
    controls: Sequence[str]
    shelf: dict
    batch: int
    device: str
    listener: Listener


@dataclass
class Fold:
    """Groups that are left out together, and the rows they have."""

    name: str
    groups: tuple[str, ...]
    rows: np.ndarray


def leave_one_out(run, data, group: str, options: Options) -> dict[str, Any]:
    """The result of `evaluate(split="leave-one-out")`: as of any other split, with "folds" (a score by group) and "by_rows" (what a split through groups claims).

    run: one for all folds, or runs that left out a group each (`pretrain --leave-out`), as many for each.  data: an open Dataset; group: its column.
    Read-outs are tuned on whole groups of the training side.  Differences are paired by group, every group counts the same (numbers: every row), and the
    interval is a t-interval over folds, widened because they share training rows.  Raises RequestError or DataError.  Cost: the probes of every fold; a network is run anew in each.
    """
    folds = folds_of(data, group)
    runs, unseen = _runs(run, data, group, folds)
    options.listener.say(
        f"split: each {group} is left out once ({len(folds)} folds); read-outs are tuned on whole groups of the others."
    )
    problems = _problems(data, group, folds, options)
    budgets = sorted(set.intersection(*(set(budgets_of(p, options.budgets)) for p in problems)))
    wanted = {verdict_budget(p, budgets, options.budgets) for p in problems}
    at: Budget = wanted.pop() if len(wanted) == 1 else "all"
    options.listener.say(f"verdict: linear probe, pretrained - the better of untrained and raw (chosen on validation), at {at} labels{'' if at == 'all' else ' a class'}, paired by {group}.")  # fmt: skip
    arms, works, leaks = [], [], []
    for number, (fold, problem) in enumerate(zip(folds, problems, strict=True)):
        options.listener.say(f"fold {number + 1} of {len(folds)}: {fold.name} ({len(problem.targets)} test rows)")
        encoders = open_encoders(runs[number])[0]
        draws = few_label_draws(problem, budgets, options.draws, options.seed)
        work = Work(problem, draws, at, options.seed, options.batch, options.device, options.listener)
        arms.append(probe_arms(work, encoders, options.layer, options.seeds, options.controls, options.shelf, first_seed(runs[number])))  # fmt: skip
        leaks.append(leakage.search(problem, work.kept["pretrained"], None, encoders[0], False, options.device))
        works.append(work)
    seen = 0 if unseen else sum(len(p.targets) for p in problems)
    result = _result(group, folds, works, arms, leaks, seen)
    return {**result, "by_rows": _by_rows(runs[0], data, group, result, options, works[0].layer("pretrained"))}


def folds_of(data, group: str) -> list[Fold]:
    """A fold a group, in the order of their names; more than MOST groups are dealt to as many folds, the large ones first.

    Rows without a group are in no fold.  RequestError where there are fewer than three groups.
    """
    names = splits.group_names(data, group)
    known = sorted({name for name in names.tolist() if name is not None})
    if len(known) < LEAST:
        raise RequestError(
            f"Column {group!r} holds {len(known)} groups: leaving one out takes at least {LEAST}.",
            "Name another column with --group, or leave --split out.",
        )
    rows = {name: np.flatnonzero(names == name) for name in known}
    if len(known) <= MOST:
        return [Fold(name, (name,), rows[name]) for name in known]
    dealt: list[list[str]] = [[] for _ in range(MOST)]
    for name in sorted(known, key=lambda n: -len(rows[n])):
        min(dealt, key=lambda some: sum(len(rows[n]) for n in some)).append(name)
    return [
        Fold(f"fold {k + 1} ({len(some)} groups)", tuple(some), np.sort(np.concatenate([rows[n] for n in some])))
        for k, some in enumerate(dealt)
    ]


def _runs(run, data, group: str, folds: list[Fold]) -> tuple[list, bool]:
    """What is evaluated in each fold, and whether pretraining saw none of what is tested."""
    several = list(run) if isinstance(run, list | tuple) else [run]
    left = [None if isinstance(one, Encoder) else left_out_of(one, data, group) for one in several]
    if not any(left):
        return [several] * len(folds), all(one is None for one in left)
    found = [[one for one, out in zip(several, left, strict=True) if out and set(f.groups) <= set(out)] for f in folds]
    lacking = [fold.name for fold, own in zip(folds, found, strict=True) if not own]
    if lacking or len({len(own) for own in found}) > 1:
        what = f"none of the runs left out {group} {', '.join(lacking)}" if lacking else "some groups have more runs than others"  # fmt: skip
        raise RequestError(
            f"Runs and folds do not match: {what}.",
            f"Give as many runs for each: selftaught pretrain DATA --leave-out {group}={folds[0].groups[0]}, and so on; or one run for all.",
        )
    return found, True


def _problems(data, group: str, folds: list[Fold], options: Options) -> list[Problem]:
    """The split of each fold; one task for all, so that scores are of one metric.

    Copies need no care of their own: those in one group stay together with it, and those of a test row in another group are counted as leaks.
    """
    grouped = np.sort(np.concatenate([f.rows for f in folds]))
    labels = options.labels
    if len(grouped) < len(data):
        options.listener.say(f"{len(data) - len(grouped)} rows without a {group} are left out: they may be anybody's.")
        data = data.subset(grouped)
        labels = labels if labels is None or isinstance(labels, str) else np.asarray(labels)[grouped]
    out = []
    for fold in folds:
        held = np.searchsorted(grouped, fold.rows)
        out.append(prepare(data, labels=labels, group=group, task=options.task, seed=options.seed, held=held))  # fmt: skip
    for note in out[0].notes:
        options.listener.say(note)
    if out[0].task.wants != "number":
        every = out[0].labels.values, out[0].targets
        whole = replace(out[0].labels, values=np.concatenate(every))
        task = tasks.fit(whole, name=options.task)
        out = [replace(p, task=task) for p in out]
    return out


def joined(arms: list[Arms], problems: list[Problem]) -> Arms:
    """The arms of all folds as one, row after row: where each network is read out first, and what every fold has.

    But for numbers every fold counts the same, however many rows it has.
    """
    mains = []
    for fold in arms:
        own: dict[str, tuple[Layer | str, Probed]] = {}
        for (name, layer), arm in fold.items():
            own.setdefault(name, (layer, arm))
        mains.append(own)
    out: Arms = {}
    for name in mains[0]:
        layers, several = zip(*(own[name] for own in mains))
        read = layers[0] if len(set(layers)) == 1 else ", ".join(dict.fromkeys(map(str, layers)))
        total = Probed()
        for key in several[0].scores:
            if all(key in one.scores for one in several) and key[0] != "kmeans":
                total.scores[key] = _side_by_side([one.scores[key] for one in several], problems)
        for budget in several[0].validation:
            total.validation[budget] = float(np.mean([one.validation[budget] for one in several]))
        out[name, read] = total
    return out


def _side_by_side(several: list[Scores], problems: list[Problem]) -> Scores:
    seeds, draws = (min(s.numerator.shape[axis] for s in several) for axis in (0, 1))
    tops, bottoms = [], []
    for held, problem in zip(several, problems, strict=True):
        size = held.denominator.sum() / len(held.denominator) if problem.task.wants == "number" else held.denominator.sum()  # fmt: skip
        scale = 1.0 if problem.task.wants == "number" else 1 / size
        tops.append(scale * held.numerator[:seeds, :draws])
        bottoms.append(scale * held.denominator)
    return Scores(np.concatenate(tops, 2), np.concatenate(bottoms), several[0].range)


def _result(group: str, folds: list[Fold], works: list[Work], several: list[Arms], leaks, seen: int) -> dict[str, Any]:
    problems = [w.problem for w in works]
    arms, first = joined(several, problems), works[0]
    units = Folds(np.repeat(np.arange(len(folds)), [len(p.targets) for p in problems]))
    problem = replace(problems[0], targets=np.concatenate([p.targets for p in problems]), test_groups=units)  # type: ignore[arg-type]
    work = replace(first, problem=problem)
    scored = {name: arm for (name, _), arm in arms.items()}
    chosen = choose_control({n: a.validation[work.at] for n, a in scored.items() if n in CONTROLS and work.at in a.validation})  # fmt: skip
    ours, theirs = scored["pretrained"].scores["linear", work.at], scored[chosen].scores["linear", work.at]
    verdict = judge(
        ours, theirs, name=chosen, budget=work.at, metric=problem.task.metric, groups=units, numbers=problem.classes is None, seed=work.seed
    )  # fmt: skip
    table = _by_fold(folds, units, arms)
    gained = _gained(ours.minus(theirs), units)
    sentence = f"{verdict.sentence} Each {group} was left out once and counts the same; the interval is over {len(folds)} of them (widened, as they share training rows), of which {gained} gain."
    if seen:
        sentence += f" But pretraining saw the rows that were left out (without labels): with a run a fold (pretrain --leave-out {group}=...) it may be less."
    return {
        "task": tasks.name_of(problem.task), "metric": problem.task.metric, "split": "leave-one-out", "group": group,
        "rows": rows_of(work, arms), "differences": differences(work, scored, verdict), "folds": table,
        "smallest_visible_difference": round(verdict.difference.visible, 6),
        "leakage": {
            "exact": int(sum(x.exact.sum() for x in leaks)), "near": int(sum(x.near.sum() for x in leaks)), "seen_in_pretraining": seen, "without": [],
        },
        "verdict": {"answer": verdict.answer, "sentence": sentence + ahead(work, scored)},
        "test_rows": len(problem.targets),
    }  # fmt: skip


def _by_fold(folds: list[Fold], units: Folds, arms: Arms) -> list[dict[str, Any]]:
    """The mean of every fold, arm, probe and budget."""
    out = []
    for number, fold in enumerate(folds):
        own = units.of == number
        for (name, _), arm in arms.items():
            for (how, budget), held in arm.scores.items():
                mean = round(held.items(own).mean, 6)
                out.append({"fold": fold.name, "rows": int(own.sum()), "features": name, "probe": how, "labels_per_class": budget, "mean": mean})  # fmt: skip
    return out


def _gained(difference: Scores, units: Folds) -> int:
    """Folds in which the mean difference is above zero."""
    return sum(difference.items(units.of == k).mean > 0 for k in np.unique(units.of))


def _by_rows(run, data, group: str, result: dict[str, Any], options: Options, layer: Layer) -> dict[str, Any]:
    """What a split through groups claims: the data's own test part where they have one, else a random fifth of the rows.

    {"split", "test_rows", "shared": test rows whose group is learned from too, "rows", "sentence"}; all labels, linear probe.
    """
    held, what = _split_of(data, options.seed)
    names = splits.group_names(data, group)
    known = set(np.delete(names, held).tolist()) - {None}
    try:
        problem = prepare(data, labels=options.labels, group="", task=options.task, seed=options.seed, held=held)
    except DataError as error:
        return {"split": what, "sentence": f"No comparison with a split by rows: {error.message}"}
    encoder = open_encoders(run)[0][0]
    found, said = {}, []
    for name in ("pretrained", "raw"):
        pool, test = (
            embed(encoder, d, layer=layer, batch=options.batch, device=options.device) if name == "pretrained" else raw(d)  # type: ignore[arg-type]
            for d in (problem.pool, problem.test)
        )  # fmt: skip
        found[name] = probe(problem, Features(pool, test), {}, extra=False).scores["linear", "all"]
        got = interval(found[name], seed=options.seed)
        said.append({"features": name, "mean": round(got.mean, 6), "low": round(got.low, 6), "high": round(got.high, 6)})  # fmt: skip
    shared = int(sum(names[row] in known for row in held))
    left = {r["features"]: r["mean"] for r in result["rows"] if (r["probe"], r["labels_per_class"]) == ("linear", "all")}  # fmt: skip
    sentence = (
        f"On {what} ({len(problem.targets)} rows; of {shared} the {group} is learned from too) the linear probe's {problem.task.metric} is "
        f"{found['pretrained'].mean:.3f} after pretraining and {found['raw'].mean:.3f} on the raw input; where the {group} is new, {left['pretrained']:.3f}"
        f"{' and {:.3f}'.format(left['raw']) if 'raw' in left else ''}."
    )
    if shared and found["pretrained"].mean > left["pretrained"]:
        sentence += f" That split misleads: it says how well those are told whom training knew, and a {group} that is new is another matter."
    return {"split": what, "test_rows": len(problem.targets), "shared": shared, "rows": said, "sentence": sentence}


def shared_groups(data, test, group: str | None) -> str:
    """A sentence where a test set of the user's holds rows of groups that are learned from too; "" elsewhere."""
    if test is None or not (hasattr(data, "source") and hasattr(test, "source")):
        return ""
    guess = guess_group(data.source)
    column = group if group is not None else guess[0] if guess else None
    if column is None or column not in data.columns or column not in test.columns:
        return ""
    known = set(splits.group_names(data, column).tolist()) - {None}
    asked = splits.group_names(test, column).tolist()
    shared = sum(name in known for name in asked)
    if not shared:
        return ""
    return f" But of {shared} of {len(asked)} test rows the {column} is learned from too: how it goes with a new one is another matter (--split leave-one-out --group {column})."


def _split_of(data, seed: int) -> tuple[np.ndarray, str]:
    """(places, what they are in words)."""
    if data.columns.get("split") in ("category", "text"):
        own = np.array([str(v).lower() == "test" for v in data.values("split").tolist()])
        if own.any() and not own.all():
            return np.flatnonzero(own), "the data's own test part"
    return splits.split(len(data), {"rest": 0.8, "test": 0.2}, seed=seed)["test"], "a random fifth of the rows"
