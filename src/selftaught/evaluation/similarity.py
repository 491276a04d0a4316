"""`evaluate --task similarity`: did pretraining make cosines mean something?  Pairs with numbers, controls beside, intervals over pairs.

The contrast is named beforehand: Spearman's correlation of the cosine with the numbers, without any label, pretrained minus the better of
untrained and raw (chosen on validation pairs), on the same test pairs.  The probe on |u - v| and u * v is description.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .. import tasks
from ..core import Encoder
from ..core.listener import Listener
from ..tasks.similarity import Correlated
from ..train.precision import device_of
from . import controls, resample
from .embed import embed, raw
from .opening import first_seed, open_encoders, pretrained_on
from .pairs import PairProblem, open_pairs, prepare
from .probe import read_out
from .protocol import SEEDS
from .statistics import Interval
from .verdict import CONTROLS, HELPED, HURT, OPEN, choose_control

WORDS = {
    "raw": "bags of tokens",
    "untrained": "the same network untrained",
}


def serves(task: str | None) -> bool:
    """Whether the task is one of pairs."""
    return task is not None and tasks.find(task).wants == "pair"


SEEN = " But texts of the test pairs were among the data that pretraining saw (without numbers): on new ones it may be less."
WIDEST = 2_048
"""Numbers of a pair that are probed at most: bags of thousands of tokens are wider than there are pairs, and only their cosine is given."""


@dataclass
class Arm:
    """What one set of representations scored on the test pairs: a tally a seed for each probe; and the cosine's score on validation."""

    tallies: dict[str, list[Correlated]] = field(default_factory=lambda: {"cosine": [], "linear": []})
    validation: list[float] = field(default_factory=list)


def similarity(
    run, data, *, labels: str | np.ndarray | None = None, test=None, columns: Sequence[str] = (), seeds: int = SEEDS, seed: int = 0,
    arms: Sequence[str] = ("raw", "untrained", "embeddings"), shelf: Mapping[str, Encoder] | None = None, max_bad: float = 0.01,
    batch: int = 256, device: str | None = "cpu", listener: Listener | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Sets a pretrained encoder beside controls on pairs of texts; returns what `evaluate --task similarity --json` prints.

    run, test, seeds, seed, shelf as for `evaluate`.  data: a table with two `columns` of texts (default: the two that hold texts) and one of numbers
    (`labels`); or `data.Aligned`.  arms: of raw (bags of tokens), untrained (the same network), embeddings (the mean of the encoder's own
    token embeddings: averaged word vectors).  Rows: probe "cosine" with 0 labels, and "linear" with all of them.
    Raises RequestError, DataError or ModelError.  Cost: one pass of each network over both columns.
    """
    listener, where = listener or Listener(), str(device_of(device))
    encoders, modality = open_encoders(run)
    pool = open_pairs(data, columns, modality, listener, max_bad)
    tested = None if test is None else open_pairs(test, columns, pool.modality, listener, max_bad)
    problem = prepare(pool, tested, labels, seed)
    for note in problem.notes:
        listener.say(note)
    listener.say(
        f"verdict: Spearman of cosines, no labels, pretrained - the better of untrained and raw (chosen on validation), on {len(problem.targets)} test pairs."
    )
    keys = controls.untrained_keys(seed, seeds, first_seed(run))
    networks: dict[str, Iterator[Encoder]] = {"pretrained": iter(encoders)}
    if "untrained" in arms:
        networks["untrained"] = (controls.untrained(encoders[0], problem.pool.first, key) for key in keys)
    networks |= {f"shelf:{name}": iter([encoder]) for name, encoder in (shelf or {}).items()}
    found: dict[str, Arm] = {}
    for name, several in networks.items():
        for number, encoder in enumerate(several):
            listener.progress("embedding pairs", number, 0, name)
            _enter(found, name, problem, lambda part, e=encoder: embed(e, part, batch=batch, device=where))
    if "raw" in arms:
        _enter(found, "raw", problem, raw)
    if "embeddings" in arms and "tokens" in encoders[0].can:
        for encoder in encoders:
            words = _Embeddings.of(encoder)
            _enter(found, "embeddings", problem, lambda part, e=words: embed(e, part, batch=batch, device=where))
    known = any(pretrained_on(run, part) for part in (tested or pool).parts.values())
    seen = len(problem.targets) if known else 0
    return _result(problem, found, seed, seen)


class _Embeddings(Encoder):
    """The mean of an encoder's token embeddings, before any block: its averaged word vectors."""

    @classmethod
    def of(cls, encoder: Encoder) -> _Embeddings:
        made = cls()
        made.inner = encoder
        return made

    @torch.no_grad()
    def forward(self, view):
        return self.inner.tokenize(view).mean()  # type: ignore[operator, union-attr]


def _enter(found: dict[str, Arm], name: str, problem: PairProblem, of) -> None:
    """Scores the representations that `of(dataset)` gives, as a further seed of the arm `name`."""
    arm, task = found.setdefault(name, Arm()), problem.task
    (u, v), (s, t) = ([of(part) for part in side.parts.values()] for side in (problem.pool, problem.test))
    train, held = problem.train, problem.validation
    arm.tallies["cosine"].append(task.tally(task.cosine(s, t), problem.targets))
    arm.validation.append(task.metrics(task.cosine(u[held], v[held]), problem.labels[held])[task.metric])
    if 2 * u.shape[1] > WIDEST:
        return
    pairs, labels = task.features(u, v), problem.labels
    model = read_out(task, pairs[train], labels[train], pairs[held], labels[held])
    arm.tallies["linear"].append(task.tally(task.predict(model.outputs(task.features(s, t))), problem.targets))


def _result(problem: PairProblem, found: dict[str, Arm], seed: int, seen: int) -> dict[str, Any]:
    groups, budget = problem.groups, {"cosine": 0, "linear": "all"}
    at: dict[str, Any] = {"groups": groups, "seed": seed}
    table = {(n, probe): arm.tallies[probe] for probe in budget for n, arm in found.items() if arm.tallies[probe]}
    rows = [
        {"features": name, "probe": probe, "layer": "last", "labels_per_class": budget[probe], **_plain(resample.interval(tallies, **at)), "draws": 1, "seeds": len(tallies)}
        for (name, probe), tallies in table.items()
    ]  # fmt: skip
    differences = {
        (name, probe): resample.interval(table["pretrained", probe], tallies, **at)
        for (name, probe), tallies in table.items() if name != "pretrained" and ("pretrained", probe) in table
    }  # fmt: skip
    chosen = choose_control({n: float(np.mean(a.validation)) for n, a in found.items() if n in CONTROLS})
    difference = differences[chosen, "cosine"]
    means = {n: float(np.mean([t.value()[0] for t in a.tallies["cosine"]])) for n, a in found.items()}
    answer = HELPED if difference.low > 0 else HURT if difference.high < 0 else OPEN
    return {
        "task": "similarity", "metric": problem.task.metric, "rows": rows,
        "differences": [
            {"a": "pretrained", "b": name, "probe": probe, "labels_per_class": budget[probe], **_plain(d)}
            for (name, probe), d in differences.items()
        ],
        "smallest_visible_difference": round(difference.visible, 6),
        "leakage": {"exact": problem.repeated, "near": None, "seen_in_pretraining": seen, "without": []},
        "verdict": {"answer": answer, "sentence": _sentence(answer, difference, means, chosen, len(problem.targets)) + SEEN * bool(seen)},
        "figures": [
            {"features": name, "probe": probe, "labels_per_class": budget[probe], **{k: round(v, 6) for k, v in tallies[0].figures().items()}}
            for (name, probe), tallies in table.items()
        ],
        "test_rows": len(problem.targets),
    }  # fmt: skip


def _plain(got: Interval) -> dict[str, float]:
    return {"mean": round(got.mean, 6), "low": round(got.low, 6), "high": round(got.high, 6)}


def _sentence(answer: str, difference: Interval, means: dict[str, float], control: str, pairs: int) -> str:
    case = (
        f"without labels, Spearman's correlation of cosines with the numbers on {pairs} test pairs is {means['pretrained']:.3f} after pretraining and "
        f"{means[control]:.3f} on {WORDS[control]} ({difference.mean:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f})"
    )
    if answer == OPEN:
        return f"Cannot tell whether pretraining helped: {case}. A true difference of {difference.visible:.3f} would have been seen four times in five."
    return f"Pretraining {answer}: {case}."
