"""`finetune` for tasks on the tokens of sounds: transcripts of speech, labels of stretches of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import modalities, nets, tasks
from ..core import Kept, ModelError, RequestError
from ..core.listener import Listener
from ..nets.listening import listening
from ..nets.weighted import WeightedStages
from ..train.clips import PLAN as PLAN
from ..train.clips import SPELLING as SPELLING
from ..train.clips import ClipModel, predictions, tune
from ..train.finetune import Plan
from ..train.precision import device_of
from . import label_file, resample
from .adapt import Finetuned
from .clip_data import Found, Labelled, Opener, Spoken, lengths_of, split
from .fitting import Pool
from .statistics import units

MODES = ("head", "full", "gradual", "lora")
SHOWN = 3
"""Test clips whose answers stand in the result."""
WANTS = ("transcript", "frames")
"""What the tasks served here ask for."""


@dataclass(kw_only=True)
class ClipFinetuned(Finetuned):
    """A model for a task on the tokens of sounds: encoder with head, and what was measured."""

    model: ClipModel  # type: ignore[assignment]
    tally: Any = None
    """What was counted in the test rows: for intervals of differences between models."""

    def save(self, folder: str | Path) -> Path:
        """Writes the model folder: encoder, head, labels.json and the modality's own files."""
        kept = Kept(self.model.encoder, {"head": self.model.head})
        return label_file.write(folder, kept, self.task, self.result, self.modality)


def load_clips(folder: str | Path) -> ClipFinetuned | None:
    """The model for stretches of sound that `finetune` wrote; None where the folder holds a model of another kind, or none."""
    found = label_file.read(folder, WANTS)
    if found is None:
        return None
    kept, modality, task = nets.store.load(found.home, parts=["head"]), modalities.load(found.home), found.task
    ear = listening(kept.encoder, modality.rate)
    head, own = kept.parts["head"], task.head(ear.width)
    same = [getattr(h, "options", {}).get(k) for h in (head, own) for k in ("width", "outputs", "upsample")]
    if type(head) is not type(own) or same[:3] != same[3:]:
        raise ModelError(f"The head in {str(folder)!r} does not fit its encoder and task.", "Finetune the model again.")
    return ClipFinetuned(
        model=ClipModel(kept.encoder, head, ear).eval(), task=task, modality=modality, result=found.result
    )


def finetune_clips(
    run, data, *, task: str, mode: str = "full", labels: str | Sequence[str] | None = None, test=None, group: str | None = None,
    labels_per_class: int | None = None, plan: Plan | None = None, out: str | Path | None = None, seed: int = 0, column: str | None = None,
    max_bad: float = 0.01, beams: int | None = None, upsample: int | None = None, normaliser: str | None = None, pool: Pool = "encoder",
    device: str | None = "cpu", listener: Listener | None = None,
) -> ClipFinetuned:  # fmt: skip
    """Adapts a pretrained encoder of sound to transcripts or frame labels with those of `data`, and scores it once on the test rows.

    data, test: clips.  labels: transcribe: the column of transcripts, or one text a clip (data.transcripts); frames: see data.segments.  column: that of the sounds.
    mode: "head" leaves the encoder as it is; "full", "gradual" and "lora" as elsewhere.  pool: "weighted" reads a learned mixture of all stages.  group: a column whose
    rows stay together, in the split and in the interval (default: what looks like one, speakers for instance).  beams, upsample, normaliser: see the task.
    Raises RequestError, DataError or ModelError.
    """
    listener, where = listener or Listener(), str(device_of(device))
    check(task, mode, labels_per_class)
    opener = Opener(run, task, pool, {"beams": beams, "upsample": upsample, "normaliser": normaliser}, listener)
    known = opener.open(data, labels, column, group, max_bad)
    tested = None if test is None else opener.open(test, labels, column, group, max_bad)
    rows = split(known, seed, tested=tested is not None)
    fitted, clips = opener.fit(known, rows["train"]), opener.clips(known)
    train = opener.trainable(clips, rows["train"])
    model, history = tune(
        opener.encoder, fitted, clips, train, rows["validation"], ear=opener.ear, mode=mode,  # type: ignore[arg-type]
        plan=replace(plan or opener.plan, seed=seed), device=where, listener=listener,
    )  # fmt: skip
    held, places = (known, rows["test"]) if tested is None else (tested, np.arange(len(tested.answers)))
    done = _scored(model, opener, (known, train), (held, places), seed, where)
    done.result |= {"mode": mode, "pool": pool, "epochs": history.kept}
    done.result["rows"] |= {
        "train": len(train), "validation": len(rows["validation"]), "too_short": len(rows["train"]) - len(train),
    }  # fmt: skip
    best = min if fitted.lower else max
    done.result["validation"] = {fitted.metric: best((h[fitted.metric] for h in history.validation), default=None)}
    if isinstance(model.encoder, WeightedStages):
        done.result["stages"] = model.encoder.shares()
    if out is not None:
        done.result["model"] = str(out)
        done.save(out)
    return done


def check(task: str, mode: str, labels_per_class: int | None) -> None:
    """RequestError for what has a meaning for other tasks only."""
    if mode not in MODES:
        raise RequestError(f"{mode!r} is no way to finetune for {task}.", f"Accepted: {', '.join(MODES)}.")
    if labels_per_class is not None:
        raise RequestError(
            f"--labels-per-class has no meaning for {task}: a clip holds many labels.",
            "Leave it out; --curve 20 100 learns from so many clips.",
        )


def _scored(
    model: ClipModel, opener: Opener, learned: tuple[Found, np.ndarray], held: tuple[Found, np.ndarray], seed: int, where: str
) -> ClipFinetuned:  # fmt: skip
    """The model with its figures on the test clips, looked at once, and a blind guess on the same clips."""
    task, (found, places) = opener.task, held
    clips = opener.clips(found)
    answers = predictions(model, task, clips.sounds, places, device=where, listener=opener.listener)
    truth = clips.truth(places)
    tally = task.tally(answers, truth)
    groups = None if found.groups is None else units(found.groups[places], opener.listener.say)
    got = resample.interval([tally], groups=groups, seed=seed)
    name, guesses = _blind(opener, learned, clips, places)
    other = task.tally(guesses, truth)
    alone = resample.interval([other], groups=groups, seed=seed)
    less = resample.interval([tally], [other], groups=groups, seed=seed)
    result: dict[str, Any] = {
        "task": tasks.name_of(task), "metric": task.metric, "lower_is_better": task.lower, "rows": {"test": len(places)},
        "test": {**tally.figures(task.classes), "low": max(0.0, got.low), "high": got.high},
        "blind": [{
            "name": name, task.metric: alone.mean, "low": max(0.0, alone.low), "high": alone.high,
            "difference": {"mean": less.mean, "low": less.low, "high": less.high},
        }],
        "seconds_of_a_frame": opener.ear.seconds / getattr(task, "upsample", 1),
    }  # fmt: skip
    if isinstance(clips, Spoken):
        result |= {"normaliser": task.normaliser, "unknown_characters": int(clips.unknown[places].sum())}
        short = clips.least(places) > opener.frames(clips, places)
        result["too_short_to_spell"] = int(short.sum())
        result["examples"] = [
            {"source": clips.sounds.names([place])[0], "written": a.text, "target": t}
            for place, a, t in zip(places[:SHOWN].tolist(), answers, truth)
        ]
        if said := task.collapse(tally):
            result["collapse"] = said
            opener.listener.say(said)
    return ClipFinetuned(model=model.cpu(), task=task, modality=opener.modality, result=result, tally=tally)


def _blind(opener: Opener, learned: tuple[Found, np.ndarray], clips, places: np.ndarray) -> tuple[str, list]:
    """What one answers who hears nothing: no text, or everywhere the labels that are usual in the training clips."""
    if not isinstance(clips, Labelled):
        return "write nothing", [""] * len(places)
    known, train = learned
    frames = opener.ear.count(lengths_of(known.sounds)[train])
    usual = opener.task.usual([known.answers[row] for row in train.tolist()], frames.tolist())
    name = " and ".join(label for label, on in zip(opener.task.labels, usual) if on)
    there = opener.ear.count(lengths_of(clips.sounds)[places])
    return f"{name} everywhere", [opener.task.everywhere(usual, n) for n in there.tolist()]
