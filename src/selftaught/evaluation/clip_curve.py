"""The label curve of tasks on the tokens of sounds: the pretrained network and the same one from scratch, with the same few clips, on the same test clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .. import tasks
from ..core import Encoder, RequestError, random
from ..core.listener import Listener
from ..train.clips import predictions, tune
from ..train.finetune import Plan
from ..train.precision import device_of
from . import resample
from .clip_data import Found, Opener, split
from .clips import check
from .controls import untrained
from .fitting import Pool
from .label_curve import DRAWS
from .statistics import units


def clip_curve(
    run, data, *, budgets: Sequence[int], task: str, labels: str | Sequence[str] | None = None, test=None, mode: str = "full",
    plan: Plan | None = None, pool: Pool = "encoder", draws: int = DRAWS, group: str | None = None, seed: int = 0, column: str | None = None,
    max_bad: float = 0.01, beams: int | None = None, upsample: int | None = None, normaliser: str | None = None,
    device: str | None = "cpu", listener: Listener | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Finetunes a pretrained encoder of sound, and the same network from fresh weights, with each of `budgets` clips.

    run, data, test, labels, group, column, max_bad, plan, mode, pool, beams, upsample, normaliser as for `finetune_clips`; a network from scratch is trained
    whole and with one rate for all layers, and another one for every draw.  draws: random clips of the training part, a smaller budget's inside a larger
    one's, the same for both arms; no clips are taken off to validate, the last epoch is scored.  Only clips that can be learned are drawn, and the characters are those of
    the whole training part, so that all points spell with the same head.  Intervals are over test clips (groups) and draws.
    Returns "rows" (features, probe, labels_per_class: clips, mean, low, high, draws) and paired "differences" (pretrained - scratch).
    Raises RequestError, DataError or ModelError.  Cost: 2 x draws x budgets finetunings.
    """
    check(task, mode, None)
    if draws < 1 or not budgets or min(budgets) < 1:
        raise RequestError(
            f"{draws} draws of {tuple(budgets)} clips are no curve.", "Give --curve 5 20 100, and --draws 1 or more."
        )
    listener, where = listener or Listener(), str(device_of(device))
    opener = Opener(run, task, pool, {"beams": beams, "upsample": upsample, "normaliser": normaliser}, listener)
    known = opener.open(data, labels, column, group, max_bad)
    tested = None if test is None else opener.open(test, labels, column, group, max_bad)
    rows = split(known, seed, tested=tested is not None)
    pool_rows = np.sort(np.concatenate([rows["train"], rows["validation"]]))
    opener.fit(known, pool_rows)
    able = opener.trainable(opener.clips(known), pool_rows)
    if max(budgets) > len(able):
        raise RequestError(f"{max(budgets)} clips are asked for, of {len(able)}.", f"Give at most {len(able)}.")
    held, places = (known, rows["test"]) if tested is None else (tested, np.arange(len(tested.answers)))
    curve = _Curve(opener, known, able, (held, places), mode, plan or opener.plan, seed, where, listener)
    return curve.result(sorted(set(budgets)), draws)


class _Curve:
    """The finetunings of a curve, one after another."""

    def __init__(self, opener: Opener, known: Found, able: np.ndarray, held: tuple[Found, np.ndarray], mode: str, plan: Plan, seed: int, device: str, listener: Listener):  # fmt: skip
        self.opener, self.known, self.able, self.mode, self.plan = opener, known, able, mode, plan
        self.found, self.places = held
        self.seed, self.device, self.listener = seed, device, listener
        self.clips, self.tests = opener.clips(known), opener.clips(self.found)

    def draw(self, budget: int, number: int) -> np.ndarray:
        """`budget` of the clips that can be learned: inside the draw of that number of a larger budget."""
        key = random.key(self.seed, "clip draw", number)
        order = torch.argsort(random.bits(key, torch.from_numpy(self.able)), stable=True).numpy()
        return np.sort(self.able[order[:budget]])

    def result(self, budgets: list[int], draws: int) -> dict[str, Any]:
        """What `finetune --curve --json` prints."""
        task, groups = self.opener.task, self.found.groups
        groups = None if groups is None else units(groups[self.places], self.listener.say)
        rows, differences = [], []
        for point, budget in enumerate(budgets):
            tallies: dict[str, list] = {"pretrained": [], "scratch": []}
            for number in range(draws):
                self.listener.progress("label curve", point * draws + number, len(budgets) * draws, f"{budget} clips")
                some, key = self.draw(budget, number), random.key(self.seed, "label curve", budget, number)
                plan = replace(self.plan, seed=key)
                tallies["pretrained"].append(self._scored(self.opener.encoder, some, self.mode, plan))
                fresh = untrained(self.opener.encoder, self.known.sounds, key)
                tallies["scratch"].append(self._scored(fresh, some, "full", replace(plan, layer_decay=1.0)))
            about = {"probe": "finetune", "labels_per_class": budget}
            for name, held in tallies.items():
                got = resample.interval(held, groups=groups, seed=self.seed)
                rows.append({"features": name, **about, **_plain(got), "low": round(max(0.0, got.low), 6), "draws": draws, "seeds": 1, "figures": [t.figures(task.classes) for t in held]})  # fmt: skip
            less = resample.interval(tallies["pretrained"], tallies["scratch"], groups=groups, seed=self.seed)
            differences.append({"a": "pretrained", "b": "scratch", **about, **_plain(less)})
        self.listener.progress("label curve", len(budgets) * draws, len(budgets) * draws)
        return {
            "task": tasks.name_of(task), "metric": task.metric, "lower_is_better": task.lower, "mode": self.mode, "unit": "clips",
            "rows": rows, "differences": differences, "labels_saved": [], "test_rows": len(self.places),
            "sentence": _sentence(differences[-1], task, budgets[-1]),
        }  # fmt: skip

    def _scored(self, encoder: Encoder, rows: np.ndarray, mode: str, plan: Plan):
        task = self.opener.task
        model, _ = tune(encoder, task, self.clips, rows, ear=self.opener.ear, mode=mode, plan=plan, device=self.device)  # type: ignore[arg-type]
        answers = predictions(model, task, self.tests.sounds, self.places, device=self.device)
        return task.tally(answers, self.tests.truth(self.places))


def _plain(got) -> dict[str, float]:
    return {"mean": round(got.mean, 6), "low": round(got.low, 6), "high": round(got.high, 6)}


def _sentence(difference: dict, task, budget: int) -> str:
    """Whether pretraining helped at the largest budget."""
    better, worse = difference["low"] > 0, difference["high"] < 0
    if task.lower:
        better, worse = worse, better
    case = f"with {budget} clips, {task.metric} is {difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}] against the same network from scratch"
    if better or worse:
        return f"Pretraining {'helped' if better else 'hurt'}: {case}."
    return f"Cannot tell whether pretraining helped: {case}."
