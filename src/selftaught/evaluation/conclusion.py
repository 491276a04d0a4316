"""What a comparison ends in: the table on rows that chose nothing, paired differences from the controls, one sentence of advice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .. import tasks
from . import keeps
from .contest import Arm, Contest, Fixed, Standing
from .embed import Layer, embed, raw
from .opening import read_again
from .probe import Features, Probed, probe
from .protocol import Budget, Problem
from .sounds import Heard
from .statistics import Scores, interval
from .texts import TfIdf


@dataclass
class Conclusion:
    """The end of a contest: `alive` came to the end of `total`, `standing` needed none of it."""

    contest: Contest
    alive: list[Arm]
    standing: list[Standing]
    total: float
    seeds: Sequence[int]
    at: Budget
    """Labels a class at which the advice names test scores."""
    draws: dict[Budget, list[np.ndarray]]
    full: bool
    """Whether the table holds the linear probe of all labels."""
    factors: dict[str, Problem] = field(default_factory=dict)
    """Further columns that every arm is probed for, on the same rows."""

    def result(self) -> dict[str, Any]:
        """What `compare` returns; it is written into compare.json too."""
        contest = self.contest
        tested = {name: self._joined(several) for name, several in self.opened().items()}
        cells = {a.name: [contest.cell_of(a, self.total, s) for s in self.seeds] for a in self.alive}
        cells |= {one.name: one.cells(self.seeds) for one in self.standing}
        rows = [row for name, found in tested.items() for row in self._rows(name, found, cells[name])]
        result = {
            "task": tasks.name_of(contest.problem.task), "metric": contest.problem.task.metric, "rows": rows,
            "differences": self._differences(tested), "choice": contest.trials(self.standing, self.seeds),
            "recommendation": self._recommend(rows), "chosen_with": len(contest.choice.rows),
            "test_rows": len(contest.problem.targets), "unit": contest.unit,
            **({"keeps": keeps.told(self, self.factors)} if self.factors else {}),
        }  # fmt: skip
        contest.ledger.write(result=result)
        return result

    def opened(self) -> dict[str, dict[str, Callable[[], Fixed]]]:
        """{arm: {cell: what opens its encoder}}: the arms that came to the end, those that needed no training behind."""
        contest = self.contest
        out: dict[str, dict[str, Callable[[], Any]]] = {}
        for arm in self.alive:
            cells = {contest.cell_of(arm, self.total, s): s for s in self.seeds}
            good = {cell: s for cell, s in cells.items() if "mean" in contest.ledger.cells[cell]}
            out[arm.name] = {cell: partial(contest.encoder, arm, self.total, s) for cell, s in good.items()}
        for one in self.standing:
            out[one.name] = {c: partial(_same, e) for c, e in zip(one.cells(self.seeds), one.encoders, strict=False)}
        return out

    def _joined(self, several: dict[str, Callable[[], Fixed]]) -> Probed:
        """The test scores of cells, measured once and kept in the ledger's folder; seeds side by side."""
        wanted = {("knn", "all"), *(("linear", b) for b in self.draws), *([("linear", "all")] if self.full else [])}
        total: Probed | None = None
        for cell, opened in several.items():
            found = self.contest.ledger.kept(cell)
            if found is None or not wanted <= found.scores.keys():
                found = self._tested(opened(), self.contest.ledger.cells[cell]["layer"])
                self.contest.ledger.keep(cell, found)
            found = Probed({key: held for key, held in found.scores.items() if key in wanted})
            if total is None:
                total = found
            else:
                total.join(found)
        assert total is not None
        return total

    def _tested(self, encoder: Fixed, layer: Layer) -> Probed:
        contest = self.contest
        if isinstance(encoder, TfIdf):
            return encoder.probed(self.draws, seed=contest.choice.seed, full=self.full)
        held = self.features(encoder, layer, contest.problem)
        assert held is not None
        return probe(contest.problem, held, self.draws, full=self.full, clusters=False, seed=contest.choice.seed)

    def features(self, encoder: Fixed, layer: Layer, problem: Problem) -> Features | None:
        """What a probe reads of an arm; None of TF-IDF, which has no features."""
        contest, own = self.contest, None
        if isinstance(encoder, TfIdf):
            return None
        if isinstance(encoder, Heard):
            return Features(encoder.features(problem.pool), encoder.features(problem.test))
        if isinstance(encoder, tuple):
            encoder, own = encoder
        some = {"batch": contest.batch, "device": contest.device, "listener": contest.listener}
        pool, test = (
            raw(d) if encoder is None else embed(encoder, d, layer=layer, **some)  # type: ignore[arg-type]
            for d in (read_again(d, own) for d in (problem.pool, problem.test))
        )
        return Features(pool, test)

    def _rows(self, name: str, found: Probed, cells: list[str]) -> list[dict[str, Any]]:
        """One row a probe and budget."""
        contest = self.contest
        own = [c for n in cells if "mean" in (c := contest.ledger.cells[n])]
        seconds, layers = [c["seconds"] for c in own], list(dict.fromkeys(c["layer"] for c in own))
        out = []
        for (how, budget), held in found.scores.items():
            got = interval(held, contest.problem.test_groups, seed=contest.choice.seed)
            out.append({
                "features": name, "method": name, "seconds": round(max(seconds), 1), "probe": how, "layer": layers[0] if len(layers) == 1 else ", ".join(map(str, layers)),
                "labels_per_class": budget, "mean": round(got.mean, 6), "low": round(got.low, 6), "high": round(got.high, 6),
                "draws": held.numerator.shape[1], "seeds": held.numerator.shape[0],
            })  # fmt: skip
        return out

    def _differences(self, tested: dict[str, Probed]) -> list[dict[str, Any]]:
        """Every arm that was trained minus every one that needed no training: paired by test row and draw."""
        groups, seed, out = self.contest.problem.test_groups, self.contest.choice.seed, []
        for arm in self.alive:
            for one in self.standing:
                for (how, budget), held in tested[arm.name].scores.items():
                    if (how, budget) not in tested[one.name].scores:
                        continue  # TF-IDF has no nearest neighbours
                    gap = interval(held.minus(tested[one.name].scores[how, budget]), groups, seed=seed)
                    span = {"mean": round(gap.mean, 6), "low": round(gap.low, 6), "high": round(gap.high, 6)}
                    out.append({"a": arm.name, "b": one.name, "probe": how, "labels_per_class": budget, **span})
        return out

    def _few(self, names: Sequence[str]) -> Scores:
        """The few-label scores of an arm, a seed each, from its cells."""
        cells = [self.contest.ledger.cells[n] for n in names if "items" in self.contest.ledger.cells[n]]
        bounded = (0.0, 1.0) if self.contest.problem.task.wants != "number" else None
        return Scores(np.array([[c["items"][0]] for c in cells]), np.array(cells[0]["items"][1]), bounded)

    def _recommend(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The arm with the best few-label score, what it is ahead of, and how surely."""
        contest, standing = self.contest, [s.name for s in self.standing]
        few = {a.name: self._few([contest.cell_of(a, self.total, s) for s in self.seeds]) for a in self.alive}
        few |= {s.name: self._few(s.cells(self.seeds)) for s in self.standing}
        order = sorted(few, key=lambda name: -few[name].mean)
        best, second = order[0], order[1]
        gap = interval(few[best].minus(few[second]), contest.choice.groups, seed=contest.choice.seed)
        sure = gap.low > 0
        held = {r["features"]: r for r in rows if r["probe"] == "linear" and r["labels_per_class"] == self.at}
        sentence = recommend(best, second, few[best].mean, gap, sure, len(contest.choice.rows), standing)
        test = f" On {len(contest.problem.targets)} test rows: {held[best]['mean']:.3f} [{held[best]['low']:.3f}, {held[best]['high']:.3f}]"
        test += "".join(f", {n} {held[n]['mean']:.3f}" for n in order[1:3] if n in held)
        test += f" ({'all' if self.at == 'all' else self.at} labels{'' if self.at == 'all' or contest.problem.classes is None else ' a class'})."
        return {
            "method": best, "sure": sure, "second": second, "ahead": round(gap.mean, 6), "low": round(gap.low, 6),
            "high": round(gap.high, 6), "sentence": sentence + test,
        }  # fmt: skip


def _same(encoder: Fixed) -> Fixed:
    return encoder


def recommend(best: str, second: str, score: float, gap, sure: bool, rows: int, standing: Sequence[str]) -> str:
    """One sentence of advice with its reason."""
    span = f"{gap.mean:+.3f}, 95 % interval {gap.low:+.3f} to {gap.high:+.3f}"
    basis = f"a linear probe of {rows} labelled rows scores {score:.3f} on those it was not fitted on"
    if best in standing:
        return f"Take no pretext task: {best} features do best ({basis}; {span} over {second}). Longer runs or more data may change that."
    if sure:
        return f"Take {best}: {basis}, surely more than {second} ({span})."
    other = "which costs nothing" if second in standing else "which may be as good"
    return f"Take {best}: {basis}; it is not surely ahead of {second} ({span}), {other}."
