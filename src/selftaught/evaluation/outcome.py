"""The result of an evaluation as plain data: rows, paired differences, leakage, verdict.  Other programs read it: keep it stable."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import tasks
from . import controls as control
from . import curve, diagnose, leakage, robustness, sounds, stages, texts
from .arms import Arms, Work
from .probe import Probed
from .protocol import Budget
from .retrieval import retrieval
from .started import Started, judge_start, not_compared
from .statistics import interval
from .verdict import CONTROLS, Verdict, choose_control, judge


def result(
    work: Work, arms: Arms, leaks: leakage.Leaks, begun: Started | None,
    spoiled: dict[robustness.Key, robustness.Spoiled],
) -> dict[str, Any]:  # fmt: skip
    """What `evaluate` returns, from the scores of all arms; the shape is that of `--json`."""
    problem, groups = work.problem, work.problem.test_groups
    chosen = choose_control(
        {n: p.validation[work.at] for (n, _), p in arms.items() if n in CONTROLS and work.at in p.validation}
    )
    scored: dict[str, Probed] = {}
    for (name, _), arm in arms.items():
        scored.setdefault(name, arm)  # where an arm is read out comes first
    ours, theirs = scored["pretrained"].scores["linear", work.at], scored[chosen].scores["linear", work.at]
    where = [stages.in_words(work.stages[n].chosen) if n in work.stages else "" for n in ("pretrained", chosen)]
    verdict = judge(
        ours, theirs, name=chosen, budget=work.at, metric=problem.task.metric, groups=groups,
        numbers=problem.classes is None, seen=int(leaks.seen.sum()), seed=work.seed,
        read=(where[0], where[1]),
    )  # fmt: skip
    better = ahead(work, scored)
    found = {
        "task": tasks.name_of(problem.task),
        "metric": problem.task.metric,
        "rows": rows_of(work, arms),
        "differences": differences(work, scored, verdict),
        "smallest_visible_difference": round(verdict.difference.visible, 6),
        "leakage": {
            "exact": int(leaks.exact.sum()),
            "near": int(leaks.near.sum()),
            "seen_in_pretraining": int(leaks.seen.sum()),
            "without": _without(work, arms, leaks),
        },
        "verdict": {"answer": verdict.answer, "sentence": verdict.sentence + better},
        **_start(work, scored, begun),
        "labels_saved": _saved(work, scored, chosen),
        "measures": [
            {**figures, **work.views.get(figures["features"], {})}
            for figures in diagnose.measure(work.kept, {n: a.clusters for n, a in scored.items()}, problem.targets)
        ],
        "figures": [
            {
                "features": n,
                "probe": "linear",
                "labels_per_class": "all",
                **{k: round(v, 6) for k, v in a.figures.items()},
            }
            for n, a in scored.items()
            if a.figures
        ],
        **_topics(work, scored),
        "retrieval": retrieval(work),
        "test_rows": len(problem.targets),
    }
    if work.stages:
        found["stages"] = stages.told(work.stages, work.at, groups, problem.task.metric, work.seed)
    if spoiled:
        scratch = scored.get("scratch", Probed())
        clean = next((s for (how, budget), s in scratch.scores.items() if budget == work.at), None)
        found["robustness"] = robustness.measure(work, spoiled, scratch.shifted, clean, chosen)
    return found


def ahead(work: Work, scored: dict[str, Probed]) -> str:
    """A sentence on the best of what needs no pretraining (a bag of words, random filters) at the verdict's budget, and which of the two is surely better."""
    problem, ours, found = work.problem, scored["pretrained"].scores["linear", work.at], []
    spelled = texts.SPELLED | sounds.SPELLED
    for name in spelled:
        for how in ("linear", "finetune"):
            other = scored.get(name, Probed()).scores.get((how, work.at))
            if other is not None:
                found.append((other.mean, name, interval(control.against(ours, other), problem.test_groups, seed=work.seed)))  # fmt: skip
    if not found:
        return ""
    mean, name, gap = max(found, key=lambda one: one[0])
    case = f"{spelled[name]}, without any pretraining, scores {mean:.3f} ({-gap.mean:+.3f}, 95 % interval {-gap.high:+.3f} to {-gap.low:+.3f})"
    if gap.high < 0:
        return f" But {case}: take that."
    return f" Beside it, {case}{', surely less' if gap.low > 0 else ': it cannot be told which is better'}."


def _start(work: Work, scored: dict[str, Probed], begun: Started | None) -> dict[str, Any]:
    """{"start": did continuing help?} where a run continued a model; empty where it began anew."""
    if not begun:
        return {}
    if begun.trouble:
        return {"start": not_compared(begun.trouble)}
    problem, (ours, theirs) = work.problem, (scored[n].scores["linear", work.at] for n in ("pretrained", "start"))
    answer = judge_start(
        ours, theirs, budget=work.at, metric=problem.task.metric, numbers=problem.classes is None,
        groups=problem.test_groups, seed=work.seed,
    )  # fmt: skip
    return {"start": {"model": ", ".join(begun.names), **answer}}


def _topics(work: Work, scored: dict[str, Probed]) -> dict[str, Any]:
    """{"topics": what the clusters of the pretrained features speak of} of texts; empty elsewhere."""
    clusters, problem = scored["pretrained"].clusters, work.problem
    if clusters is None or not texts.is_text(problem.test):
        return {}
    return {"topics": texts.told_clusters(texts.texts_of(problem.test), clusters, problem.targets, problem.task)}


def _order(budget: Budget) -> float:
    return float("inf") if budget == "all" else float(budget)


def rows_of(work: Work, arms: Arms, keep: np.ndarray | None = None) -> list[dict[str, Any]]:
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


def differences(work: Work, scored: dict[str, Probed], verdict: Verdict) -> list[dict[str, Any]]:
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
    return sorted(
        rows, key=lambda r: ((r["probe"], r["b"], r["labels_per_class"]) != first, _order(r["labels_per_class"]))
    )


def _without(work: Work, arms: Arms, leaks: leakage.Leaks) -> list[dict[str, Any]]:
    """The rows again, without the test rows that have a copy among the training rows; none where nothing or everything leaks."""
    keep = ~(leaks.exact | leaks.near)
    return [] if keep.all() or not keep.any() else rows_of(work, arms, keep)


def _saved(work: Work, scored: dict[str, Probed], chosen: str) -> dict | None:
    """How many labels the control needs to score what pretraining does at the verdict's budget; None without a curve."""
    control_curve = {b: s for (how, b), s in scored[chosen].scores.items() if how == "linear" and isinstance(b, int)}
    if work.at == "all" or len(control_curve) < 2:
        return None
    ours = scored["pretrained"].scores["linear", work.at]
    return curve.labels_saved(
        ours, control_curve, control=chosen, budget=int(work.at), groups=work.problem.test_groups, seed=work.seed
    ).plain()
