"""`evaluate --task verify`: did pretraining make representations that tell speakers apart whom nothing was fitted to?

The contrast is named beforehand: equal error rate of the cosine over trials of held-out speakers, no labels, pretrained minus the better of untrained and raw
(chosen on trials of the other speakers).  The linear discriminant of the other speakers is description.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import tasks
from ..core import DataError, Encoder, RequestError, random
from ..core.listener import Listener
from ..data.sniff import guess_group
from ..measures.verification import Trials
from ..tasks.verify import Verify
from ..train.precision import device_of
from . import controls, resample
from .embed import embed, raw
from .opening import first_seed, open_dataset, open_encoders, pretrained_on
from .protocol import SEEDS
from .statistics import Interval, generator
from .verdict import CONTROLS, HELPED, HURT, OPEN, choose_control

MOST = 20_000
"""Trials at most: half of one speaker, half of two."""
TESTED = 0.5
"""Share of the speakers whose trials are scored, where there is no test set; the others standardise and discriminate."""
WORDS = {"raw": "log-mel statistics", "untrained": "the same network untrained"}
LEAST = 3
"""Speakers of whom an interval can tell anything."""
FEW = 10
"""Speakers below which it is said that intervals over them say little."""


def serves(task: str | None) -> bool:
    """Whether the task compares speakers."""
    return task is not None and tasks.find(task).wants == "speakers"


@dataclass(frozen=True)
class Pairs:
    """Trials before they are scored: places (M, 2) of clips in a dataset, and the speakers (M, 2), counted from 0 to `count` - 1."""

    places: np.ndarray
    speakers: np.ndarray
    count: int

    def digest(self, names: Sequence[str]) -> str:
        """A hash of the list: names of the clips and whether they are of one speaker."""
        lines = (f"{names[a]}\t{names[b]}\t{int(s == t)}" for (a, b), (s, t) in zip(self.places.tolist(), self.speakers.tolist()))  # fmt: skip
        return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def draw_pairs(speakers: np.ndarray, *, seed: int, most: int = MOST) -> Pairs:
    """Trials of clips whose speakers are `speakers` (N,) int64: at most `most`, half of one speaker and half of two where there are as many.

    A pure function of its arguments; each speaker, and each pair of speakers, gives about as many as any other.  DataError where there are not two speakers, or
    none has two clips.
    """
    names, code = np.unique(speakers, return_inverse=True)
    clips = [np.flatnonzero(code == k) for k in range(len(names))]
    if len(names) < 2 or max(map(len, clips)) < 2:
        raise DataError(
            f"{len(names)} speakers with at most {max(map(len, clips), default=0)} clips make no trials.",
            "Trials need two speakers or more, of whom some have several clips.",
        )
    rng = generator(seed, "trials")
    target = [np.stack(np.triu_indices(len(c), 1), 1) for c in clips]
    found = []
    own = [c[pairs] for c, pairs in zip(clips, target) if len(pairs)]
    for pairs in _shared(own, most // 2, rng):
        found.append(pairs)
    count = sum(map(len, found))
    couples = [(a, b) for a in range(len(names)) for b in range(a)]
    if len(couples) > most:
        couples = [couples[k] for k in rng.permutation(len(couples))[:most].tolist()]
    other = max(most // 2, most - count)
    each = -(-4 * other // len(couples))
    crossed = []
    for a, b in couples:
        size = len(clips[a]) * len(clips[b])
        some = rng.permutation(size)[:each] if size <= 1 << 20 else np.unique(rng.integers(0, size, each))
        crossed.append(np.stack([clips[a][some // len(clips[b])], clips[b][some % len(clips[b])]], 1))
    found += _shared(crossed, min(other, max(count, 1)), rng)
    places = np.concatenate(found)
    return Pairs(places, code[places], len(names))


def _shared(parts: list[np.ndarray], most: int, rng) -> list[np.ndarray]:
    """At most `most` rows of all parts together, as evenly over the parts as their sizes let."""
    left = most
    out: list[np.ndarray] = []
    for number in np.argsort([len(p) for p in parts], kind="stable").tolist():
        take = min(len(parts[number]), left // (len(parts) - len(out)))
        out.append(parts[number][np.sort(rng.permutation(len(parts[number]))[:take])])
        left -= take
    return out


@dataclass(frozen=True)
class Problem:
    """Clips of speakers that are not tested, those that are, and the trials of both."""

    task: Verify
    pool: Any
    pool_speakers: np.ndarray
    test: Any
    trials: Pairs
    validation: Pairs | None
    column: str


@dataclass
class Arm:
    """What one set of representations scored: a tally a seed for each probe; and the cosine's error on the other speakers' trials."""

    tallies: dict[str, list[Trials]] = field(default_factory=lambda: {"cosine": [], "discriminant": []})
    validation: list[float] = field(default_factory=list)


def verify(
    run, data, *, group: str | None = None, labels: str | None = None, test=None, seeds: int = SEEDS, seed: int = 0, shelf: Mapping[str, Any] | None = None,
    arms: Sequence[str] = ("raw", "untrained"), column: str | None = None, max_bad: float = 0.01, batch: int = 256, device: str | None = "cpu",
    listener: Listener | None = None,
) -> tuple[dict[str, Any], list[tuple[str, str, bool]]]:  # fmt: skip
    """(what `evaluate --task verify --json` prints, the trials as (name, name, of one speaker)): a pretrained encoder beside controls on trials of held-out speakers.

    run, seeds, seed, shelf as for `evaluate`.  group (or labels): the column of speakers (default: what looks like one).  test: clips of other speakers; without it half
    of the speakers are tested.  Speakers of `test` that `data` hold too are left out of it.  Rows: probe "cosine" with 0 labels, and "discriminant" with the labels of the
    speakers that are not tested.  Raises RequestError, DataError or ModelError.  Cost: one pass of each network over all clips.
    """
    listener, where = listener or Listener(), str(device_of(device))
    encoders, modality = open_encoders(run)
    data, test = (open_dataset(d, modality, listener, column=column, max_bad=max_bad) for d in (data, test))
    problem = prepare(data, test, group or labels, seed, listener)
    settings: dict[str, Any] = {"batch": batch, "device": where}
    found: dict[str, Arm] = {}
    for number, encoder in enumerate(encoders):
        listener.progress("embedding clips", number, len(encoders), "pretrained")
        _enter(found, "pretrained", problem, lambda part, e=encoder: embed(e, part, **settings), seed)
    for name, network, count in _controls(encoders[0], problem, arms, seeds, seed, first_seed(run), shelf or {}):
        listener.progress("embedding clips", count, 0, name)
        _enter(found, name, problem, (lambda part: raw(part)) if network is None else (lambda part, e=network: embed(e, part, **settings)), seed)  # fmt: skip
    names = problem.test.names()
    listed = [(names[a], names[b], bool(s)) for (a, b), s in zip(problem.trials.places.tolist(), found["pretrained"].tallies["cosine"][0].same.tolist())]  # fmt: skip
    seen = pretrained_on(run, data if test is None else test)
    return _result(problem, found, seed, seen, problem.trials.digest(names), listener), listed


def _controls(encoder: Encoder, problem: Problem, arms: Sequence[str], seeds: int, seed: int, first: int | None, shelf: Mapping[str, Any]) -> Iterator[tuple[str, Encoder | None, int]]:  # fmt: skip
    if "untrained" in arms:
        for k, key in enumerate(controls.untrained_keys(seed, seeds, first)):
            yield "untrained", controls.untrained(encoder, problem.pool, key), k
    for name, held in shelf.items():
        yield f"shelf:{name}", held[0] if isinstance(held, tuple) else held, 0
    if "raw" in arms:
        yield "raw", None, 0


def prepare(data, test, column: str | None, seed: int, listener: Listener) -> Problem:
    """The speakers that are tested, those that are not, and the trials of both.  RequestError without a column of speakers, DataError for too few of them."""
    if column is None:
        guess = guess_group(data.source)
        if guess is None:
            raise RequestError(
                f"No column of {data.name} looks like speakers.",
                f"Name it: --group COLUMN; columns: {', '.join(data.columns)}.",
            )
        column = guess[0]
    speakers = _speakers(data, column)
    if test is None:
        names = np.unique(speakers[speakers != ""])
        if len(names) < 4:
            raise DataError(
                f"Column {column!r} names {len(names)} speakers: two are tested, and two more are needed.",
                "Give clips of more speakers, or a test set of others.",
            )
        order = random.permutation(random.key(seed, "speakers"), len(names)).numpy()
        tested = set(names[order[: max(2, round(TESTED * len(names)))]].tolist())
        there = np.array([s in tested for s in speakers.tolist()])
        pool, held = data.subset(~there & (speakers != "")), data.subset(there)
        pool_speakers, test_speakers = speakers[~there & (speakers != "")], speakers[there]
    else:
        theirs = _speakers(test, column)
        held, test_speakers = test.subset(theirs != ""), theirs[theirs != ""]
        free = ~np.isin(speakers, np.unique(test_speakers)) & (speakers != "")
        if (shared := int((~free & (speakers != "")).sum())) > 0:
            listener.say(f"{shared} clips are of speakers that are tested, and are left out of what is fitted.")
        pool, pool_speakers = data.subset(free), speakers[free]
        if len(pool) < 2:
            raise DataError("All clips are of speakers that are tested.", "Give clips of others.")
    trials = draw_pairs(np.unique(test_speakers, return_inverse=True)[1], seed=seed)
    codes = np.unique(pool_speakers, return_inverse=True)[1]
    enough = codes.max() > 0 and np.bincount(codes).max() > 1
    validation = draw_pairs(codes, seed=seed) if enough else None
    same = trials.speakers[:, 0] == trials.speakers[:, 1]
    listener.say(
        f"speakers: column {column!r}; {trials.count} are tested in {len(same)} trials ({int(same.sum())} of one speaker), {codes.max() + 1} others standardise and discriminate."
    )
    if trials.count < FEW:
        known = "and are wide" if trials.count >= LEAST else "of whom two tell nothing"
        listener.say(f"{trials.count} speakers are few: intervals are over speakers, {known}.")
    return Problem(Verify(), pool, codes, held, trials, validation, column)


def _speakers(data, column: str) -> np.ndarray:
    """(len,) str, empty where it is not known."""
    if data.columns.get(column) is None:
        data.source.need(column)
    return np.array(["" if v is None or v != v else str(v) for v in data.values(column).tolist()])


def _enter(found: dict[str, Arm], name: str, problem: Problem, of, seed: int) -> None:
    """Scores the representations that `of(dataset)` gives, as a further seed of the arm `name`."""
    arm, task = found.setdefault(name, Arm()), problem.task
    pool, test = (of(part).astype(np.float64) for part in (problem.pool, problem.test))
    mean, scale = pool.mean(0), pool.std(0)
    scale = np.where(scale > 1e-9 * max(1.0, scale.max(initial=0.0)), scale, np.inf)  # a flat dimension says nothing
    pool, test = (pool - mean) / scale, (test - mean) / scale
    arm.tallies["cosine"].append(_scored(task, test, problem.trials))
    if problem.validation is not None:
        arm.validation.append(float(_scored(task, pool, problem.validation).value()[0]))
    if problem.pool_speakers.max() > 1:  # two speakers are told apart along one line, on which every cosine is 1 or -1
        arm.tallies["discriminant"].append(_scored(task, _discriminant(pool, problem.pool_speakers)(test), problem.trials))  # fmt: skip


def _scored(task: Verify, vectors: np.ndarray, pairs: Pairs) -> Trials:
    first, second = pairs.places.T
    return Trials(task.cosine(vectors[first], vectors[second]), pairs.speakers, pairs.count)


def _discriminant(vectors: np.ndarray, speakers: np.ndarray):
    """The projection that tells the pool's speakers apart, with a shrunken covariance (Ledoit & Wolf)."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(vectors, speakers).transform


def _result(problem: Problem, found: dict[str, Arm], seed: int, seen: bool, digest: str, listener: Listener) -> dict[str, Any]:  # fmt: skip
    budget = {"cosine": 0, "discriminant": "all"}
    table = {(n, probe): arm.tallies[probe] for probe in budget for n, arm in found.items() if arm.tallies[probe]}
    rows = [
        {"features": name, "probe": probe, "layer": "last", "labels_per_class": budget[probe], **_rate(_interval(t, None, seed)), "draws": 1, "seeds": len(t)}
        for (name, probe), t in table.items()
    ]  # fmt: skip
    differences = {
        (name, probe): _interval(table["pretrained", probe], t, seed)
        for (name, probe), t in table.items() if name != "pretrained" and ("pretrained", probe) in table
    }  # fmt: skip
    warnings = [f"{name} ({probe}): {t[0].warning}" for (name, probe), t in table.items() if t[0].warning]
    for said in warnings:
        listener.say(said)
    errors = {n: -float(np.mean(a.validation)) if a.validation else 0.0 for n, a in found.items() if n in CONTROLS}
    chosen = choose_control(errors)
    difference = differences[chosen, "cosine"]
    means = {n: float(np.mean([t.value()[0] for t in a.tallies["cosine"]])) for n, a in found.items()}
    answer = HELPED if difference.high < 0 else HURT if difference.low > 0 else OPEN
    same = problem.trials.speakers[:, 0] == problem.trials.speakers[:, 1]
    return {
        "task": "verify", "metric": problem.task.metric, "lower_is_better": True, "rows": rows,
        "differences": [
            {"a": "pretrained", "b": name, "probe": probe, "labels_per_class": budget[probe], **_plain(d)} for (name, probe), d in differences.items()
        ],
        "trials": {"count": len(same), "of_one_speaker": int(same.sum()), "speakers": problem.trials.count, "seed": seed, "hash": digest, "column": problem.column},
        "smallest_visible_difference": round(difference.visible, 6),
        "leakage": {"exact": 0, "near": None, "seen_in_pretraining": len(problem.test) if seen else 0, "without": []},
        "verdict": {"answer": answer, "sentence": _sentence(answer, difference, means, chosen, problem.trials.count, len(same), seen)},
        "figures": [
            {"features": name, "probe": probe, "labels_per_class": budget[probe], **{k: round(v, 6) for k, v in t[0].figures().items()}} for (name, probe), t in table.items()
        ],
        "warnings": warnings, "test_rows": len(problem.test),
    }  # fmt: skip


def _interval(ours: Sequence[Trials], theirs: Sequence[Trials] | None, seed: int) -> Interval:
    """The interval over speakers; of two it is all there can be: a resampling of two holds both once, or no trial of different speakers."""
    found = resample.interval(ours, theirs, seed=seed)
    if ours[0].count >= LEAST:
        return found
    return Interval(found.mean, -1.0 if theirs else 0.0, 1.0)


def _plain(got: Interval) -> dict[str, float]:
    return {"mean": round(got.mean, 6), "low": round(got.low, 6), "high": round(got.high, 6)}


def _rate(got: Interval) -> dict[str, float]:
    """As `_plain`, of a share: an interval widened for few speakers does not reach beyond 0 and 1."""
    return {name: min(1.0, max(0.0, value)) for name, value in _plain(got).items()}


def _sentence(answer: str, difference: Interval, means: dict[str, float], control: str, speakers: int, trials: int, seen: bool) -> str:  # fmt: skip
    case = (
        f"without labels, the equal error rate (lower is better) over {trials} trials of {speakers} held-out speakers is {means['pretrained']:.3f} after pretraining and "
        f"{means[control]:.3f} on {WORDS[control]} ({difference.mean:+.3f}, 95 % interval over speakers {difference.low:+.3f} to {difference.high:+.3f})"
    )
    more = " But their clips were among the data that pretraining heard (without labels): on new speakers it may be less." * seen  # fmt: skip
    if speakers < LEAST:
        return f"Cannot tell whether pretraining helped: {case}. Two speakers give no interval: test at least {LEAST}, better {FEW}.{more}"
    if answer == OPEN:
        return f"Cannot tell whether pretraining helped: {case}. A true difference of {difference.visible:.3f} would have been seen four times in five.{more}"
    return f"Pretraining {answer}: {case}.{more}"
