"""What else a representation keeps: linear probes of further columns on the same rows, so that a method shows what it throws away (speaker, noise, speed)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .probe import Features, Probed, blind, probe
from .protocol import Problem
from .statistics import interval

if TYPE_CHECKING:
    from .conclusion import Conclusion


def told(conclusion: Conclusion, factors: dict[str, Problem]) -> list[dict[str, Any]]:
    """One row an arm and column: "features", "column", "metric", "mean", "low", "high", "seeds"; all labels, strength chosen on validation; a blind guess beside.

    Each arm is read out at the stage that its few-label score chose.  TF-IDF, which has no features, is left out.
    """
    contest, rows = conclusion.contest, []
    for column, problem in factors.items():
        rows.append(_row("blind", column, problem, blind(problem, {}), conclusion.contest.choice.seed))
    for name, several in conclusion.opened().items():
        found: dict[str, Probed] = {}
        for cell, opened in several.items():
            held = {column: contest.ledger.kept(f"{cell} keeps {column}") for column in factors}
            if any(one is None for one in held.values()):
                measured = _measured(conclusion, opened(), cell, factors)
                for column, one in measured.items():
                    contest.ledger.keep(f"{cell} keeps {column}", one)
                held = {**measured}
            for column, kept in held.items():
                if kept is None:
                    continue
                one = Probed(dict(kept.scores))
                if column in found:
                    found[column].join(one)
                else:
                    found[column] = one
        rows += [_row(name, column, factors[column], one, contest.choice.seed) for column, one in found.items()]
    return rows


def _measured(conclusion: Conclusion, encoder, cell: str, factors: dict[str, Problem]) -> dict[str, Probed]:
    """{column: scores} of one arm and seed; rows are embedded once where all of them are labelled in every column."""
    contest, out = conclusion.contest, {}
    rows: tuple[np.ndarray, np.ndarray] | None = None
    features: Features | None = None
    for column, problem in factors.items():
        if rows is None or not all(np.array_equal(a, d.ids) for a, d in zip(rows, (problem.pool, problem.test))):  # type: ignore[attr-defined]
            rows = problem.pool.ids, problem.test.ids  # type: ignore[attr-defined]
            features = conclusion.features(encoder, contest.ledger.cells[cell]["layer"], problem)
        if features is None:
            return {}
        out[column] = probe(problem, features, {}, extra=False, seed=contest.choice.seed)
    return out


def _row(name: str, column: str, problem: Problem, found: Probed, seed: int) -> dict[str, Any]:
    held = found.scores["linear", "all"]
    got = interval(held, problem.test_groups, seed=seed)
    return {
        "features": name, "column": column, "metric": problem.task.metric, "mean": round(got.mean, 6), "low": round(got.low, 6),
        "high": round(got.high, 6), "seeds": held.numerator.shape[0],
    }  # fmt: skip
