"""The verdict's read-outs on spoiled test rows: fitted on clean ones, not fitted again.

What a representation is worth on data of another camera, another file format, another light.  Which corruptions there are, and how
strong, is the modality's to say (`corruptions()`); every spoiled row is a pure function of (seed, row), the same for every arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..core import Draw, RequestError, Transform, random
from ..core.batch import View
from .arms import Work
from .controls import against
from .embed import embed, raw
from .probe import predictions, scores, verdict_read_outs
from .statistics import Scores, interval

ROWS = 2_000
"""Test rows that are spoiled, at most: drawn by the seed."""
Key = tuple[str, int | str]
"""(corruption, severity); a severity "mean" is the mean over severities."""
CLEAN: Key = ("none", 0)


@dataclass(frozen=True)
class Spoiled:
    """Some rows of a dataset after a transform of their raw view: what evaluation asks of a dataset, and no more."""

    data: Any
    places: np.ndarray
    """Of `data` among the test rows."""
    change: Transform
    seed: int
    purpose: str

    @property
    def modality(self):
        return self.data.modality

    @property
    def ids(self) -> np.ndarray:
        return self.data.ids

    def __len__(self) -> int:
        return len(self.data)

    def fetch(self, places: np.ndarray) -> View:
        ids = torch.from_numpy(np.ascontiguousarray(self.data.ids[places]))
        return self.change(self.data.fetch(places), Draw(ids, random.key(self.seed, "corruption", self.purpose)))


def rows_of(test, seed: int) -> np.ndarray:
    """Places of the test rows that are spoiled."""
    return np.sort(random.permutation(random.key(seed, "robustness"), len(test)).numpy()[:ROWS])


def spoil(test, seed: int) -> dict[Key, Spoiled]:
    """{(corruption, severity): spoiled test rows}; RequestError where the modality has no corruptions."""
    modality = test.modality
    if not hasattr(modality, "corruptions"):
        raise RequestError(f"There are no corruptions of {modality.name} data.", "Leave out --robustness.")
    places = rows_of(test, seed)
    some = test.subset(places)
    return {  # one draw a corruption: severities differ in strength alone
        (name, severity): Spoiled(some, places, change, seed, name)
        for name, by in modality.corruptions().items()
        for severity, change in by.items()
    }


def measure(work: Work, spoiled: dict[Key, Spoiled], scratch: dict[Key, Scores], clean_scratch: Scores | None, control: str) -> dict[str, Any]:  # fmt: skip
    """What `--json` holds under "robustness": rows, drops against the clean rows, and differences pretrained - every other arm.

    `scratch`: that control's scores on spoiled rows, and on clean ones, which only its trained networks could tell; `control`: the
    verdict's.  Cost: a pass of every network, one seed each, over 2,000 rows for every corruption and severity.
    """
    names = [
        n
        for n in ("pretrained", "untrained", "raw", *(k for k in work.kept if k.startswith("shelf:")))
        if n in work.kept
    ]
    where = rows_of(work.problem.test, work.seed)
    found = {name: _scored(work, name, where, spoiled) for name in names}
    if clean_scratch is not None:
        found["scratch"] = {CLEAN: clean_scratch.items(where), **scratch}
    for by in found.values():
        by.update(_means(by))
    groups = None if work.problem.test_groups is None else work.problem.test_groups[where]

    def shown(held: Scores) -> dict[str, float]:
        got = interval(held, groups, seed=work.seed)
        return {"mean": round(got.mean, 6), "low": round(got.low, 6), "high": round(got.high, 6)}

    named = [(name, key, held) for name, by in found.items() for key, held in by.items()]
    tell = lambda key: {"corruption": key[0], "severity": key[1]}  # noqa: E731
    drops = [{"features": n, **tell(k), **shown(by[CLEAN].minus(held))} for n, by in found.items() for k, held in by.items() if k != CLEAN]  # fmt: skip
    differences = [
        {"a": "pretrained", "b": name, **tell(key), **shown(against(found["pretrained"][key], held))}
        for name, key, held in named
        if name != "pretrained"
    ]
    return {
        "labels_per_class": work.at, "test_rows": len(where),
        "rows": [{"features": name, **tell(key), **shown(held)} for name, key, held in named],
        "drops": drops, "differences": differences,
        "sentence": sentence(drops, differences, control, work.problem.task.metric),
    }  # fmt: skip


def _scored(work: Work, name: str, where: np.ndarray, spoiled: dict[Key, Spoiled]) -> dict[Key, Scores]:
    """Scores of one arm's first seed on clean and spoiled rows, by the read-outs of the verdict."""
    problem, kept = work.problem, work.kept[name]
    models = verdict_read_outs(problem, kept.pool, work.draws, work.at, work.seed)
    encoder, layer = work.networks.get(name), work.layer(name) if name in ("pretrained", "untrained") else "last"
    found = {CLEAN: kept.test[where]}
    for k, (key, rows) in enumerate(spoiled.items()):
        work.listener.progress("robustness", k, len(spoiled), name)
        found[key] = raw(rows) if encoder is None else embed(encoder, rows, batch=work.batch, device=work.device, layer=layer)  # fmt: skip
    return {key: scores(problem.task, predictions(problem.task, models, x), problem.targets[where]) for key, x in found.items()}  # fmt: skip


def _means(by: dict[Key, Scores]) -> dict[Key, Scores]:
    """{(corruption, "mean"): the mean over severities}, item by item."""
    out: dict[Key, Scores] = {}
    for name in dict.fromkeys(key[0] for key in by if key != CLEAN):
        several = [held for key, held in by.items() if key[0] == name]
        out[name, "mean"] = Scores(np.mean([s.numerator for s in several], 0), several[0].denominator, several[0].range)
    return out


def sentence(drops: list[dict], differences: list[dict], control: str, metric: str) -> str:
    """One sentence: what is lost, and where pretrained features stay ahead of the verdict's control; means over severities."""
    lost = {(d["features"], d["corruption"]): d["mean"] for d in drops if d["severity"] == "mean"}
    gaps = {d["corruption"]: d for d in differences if d["b"] == control and d["severity"] == "mean"}
    unit = lambda v: f"{100 * v:.1f}"  # noqa: E731
    pieces = [
        f"{unit(lost['pretrained', name])} under {name} ({control}: {unit(lost[control, name])}; "
        f"{'surely ahead' if gap['low'] > 0 else 'surely behind' if gap['high'] < 0 else 'not surely ahead'})"
        for name, gap in gaps.items()
    ]
    return f"On spoiled test rows pretrained features lose, in points of {metric}: {', '.join(pieces)}."
