"""`finetune` for tasks that answer for parts of a text: tags of words, answers to questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import modalities, nets, tasks
from ..core import DataError, Encoder, Kept, ModelError, RequestError
from ..core.listener import Listener
from ..core.task import Task
from ..data import splits
from ..data.answers import Questions, open_answers
from ..data.tags import Sentences, open_tags
from ..modalities.passages import Tagged
from ..modalities.questions import Asked
from ..tasks import answer, tag
from ..train.precision import device_of
from ..train.spans import PLAN, Parts, SpanModel, SpanPlan, predictions, tune
from . import label_file, resample
from .adapt import Finetuned
from .blind import BlindAnswers, BlindTags
from .dense import SPLIT
from .opening import open_encoders
from .statistics import units

MODES = ("head", "full", "gradual", "lora")
WANTS = ("tags", "answers")
"""What the tasks served here ask for."""


@dataclass(kw_only=True)
class SpanFinetuned(Finetuned):
    """A model for a task on parts of texts: encoder with head, and what was measured."""

    model: SpanModel  # type: ignore[assignment]
    tally: Any = None
    """What was counted in the test rows: for intervals of differences between models."""
    guessed: dict[str, Any] = field(default_factory=dict)
    """The same of each blind guess, by its name."""

    def save(self, folder: str | Path) -> Path:
        """Writes the model folder: encoder, head, labels.json and the modality's own files."""
        kept = Kept(self.model.encoder, {"head": self.model.head})
        return label_file.write(folder, kept, self.task, self.result, self.modality)


def load_spans(folder: str | Path) -> SpanFinetuned | None:
    """The model for parts of texts that `finetune` wrote; None where the folder holds a model of another kind, or none."""
    found = label_file.read(folder, WANTS)
    if found is None:
        return None
    kept, task = nets.store.load(found.home, parts=["head"]), found.task
    head = kept.parts["head"]
    own = task.head(kept.encoder.dim)
    if type(head) is not type(own) or getattr(head, "options", None) != own.options:
        raise ModelError(f"The head in {str(folder)!r} does not fit its encoder and task.", "Finetune the model again.")
    return SpanFinetuned(
        model=SpanModel(kept.encoder, head).eval(), task=task, modality=modalities.load(found.home), result=found.result
    )


@dataclass
class Opened:
    """Rows with what is to be found in them: as pieces, as they were read, and which belong together."""

    parts: Parts
    rows: Any
    texts: Sequence[str]
    groups: np.ndarray | None
    notes: list[str] = field(default_factory=list)


def finetune_spans(
    run, data, *, task: str, mode: str = "full", labels=None, test=None, group: str | None = None, labels_per_class: int | None = None,
    plan: SpanPlan | None = None, out: str | Path | None = None, seed: int = 0, column: str | None = None, max_bad: float = 0.01,
    device: str | None = "cpu", listener: Listener | None = None,
) -> SpanFinetuned:  # fmt: skip
    """Adapts a pretrained encoder to tags or answers with those of `data`, and scores it once on the test rows, beside blind guesses on the same.

    data, test: tag: a CoNLL file or a table with lists (data.tags); answer: a SQuAD file or a table (data.answers).  labels: the column of tags or answers,
    column: that of words or contexts.  mode: "head" leaves the encoder as it is; "full", "gradual" and "lora" as elsewhere.  group: a column whose rows stay
    together, in the split and in the interval.  Raises RequestError, DataError or ModelError.
    """
    listener, where = listener or Listener(), str(device_of(device))
    _check(task, mode, labels, labels_per_class)
    encoders, modality = open_encoders(run)
    encoder = encoders[0]
    if modality is None or modality.name != "text":
        read = "a network in memory" if modality is None else modality.name
        raise RequestError(f"{task} needs an encoder of texts with its tokenizer; this one is of {read}.", "Give a run that was pretrained on texts.")  # fmt: skip
    kind = _KINDS[tasks.find(task).wants](encoder, modality, labels, column, group, max_bad)
    known = kind.open(data)
    tested = None if test is None else kind.open(test)
    for note in [*known.notes, *(tested.notes if tested else [])]:
        listener.say(note)
    rows = _split(known, tested, seed)
    fitted: Task = kind.task
    model, history = tune(
        encoder, fitted, known.parts, rows["train"], rows["validation"], mode=mode,  # type: ignore[arg-type]
        plan=replace(plan or PLAN, seed=seed), device=where, listener=listener,
    )  # fmt: skip
    held, places = (known, rows["test"]) if tested is None else (tested, np.arange(len(tested.parts)))
    done = _scored(model, kind, known, rows["train"], held, places, seed, where, listener)
    done.result |= {"mode": mode, "epochs": history.kept}
    done.result["rows"] |= {part: len(rows[part]) for part in ("train", "validation")}
    done.result["validation"] = {fitted.metric: max((h[fitted.metric] for h in history.validation), default=None)}
    if out is not None:
        done.result["model"] = str(out)
        done.save(out)
    return done


def _check(task: str, mode: str, labels, labels_per_class: int | None) -> None:
    """RequestError for what has a meaning for other tasks only."""
    if mode not in MODES:
        raise RequestError(f"{mode!r} is no way to finetune for {task}.", f"Accepted: {', '.join(MODES)}.")
    if labels_per_class is not None:
        raise RequestError(f"--labels-per-class has no meaning for {task}: a text holds many labels.", "Leave it out.")
    if labels is not None and not isinstance(labels, str):
        raise RequestError(f"{task} reads its labels from the data.", "Give labels the name of a column.")


def _scored(
    model: SpanModel, kind, known: Opened, train: np.ndarray, held: Opened, places: np.ndarray, seed: int, where: str, listener: Listener,
) -> SpanFinetuned:  # fmt: skip
    """The model with its figures on the test rows, looked at once, and blind guesses on the same rows."""
    task = kind.task
    answers = predictions(model, task, held.parts, places, device=where, listener=listener)
    truth = held.parts.truth(places)
    tally = task.tally([a[0] for a in answers], truth)
    groups = None if held.groups is None else units(held.groups[places], listener.say)
    got = resample.interval([tally], groups=groups, seed=seed)
    blind, guessed = [], {}
    for name, guesses in kind.blind(known, train, held, places).items():
        other = guessed[name] = task.tally(guesses, truth)
        alone = resample.interval([other], groups=groups, seed=seed)
        less = resample.interval([tally], [other], groups=groups, seed=seed)
        blind.append({
            "name": name, task.metric: alone.mean, "low": alone.low, "high": alone.high,
            "difference": {"mean": less.mean, "low": less.low, "high": less.high},
        })  # fmt: skip
    learned = {known.texts[row] for row in train.tolist()}
    result = {
        "task": tasks.name_of(task), "metric": task.metric, "rows": {"test": len(places)},
        "test": {**tally.figures(task.classes), "low": got.low, "high": got.high}, "blind": blind,
        "copies": sum(held.texts[row] in learned for row in places.tolist()), **kind.facts(answers),
    }  # fmt: skip
    return SpanFinetuned(
        model=model.cpu(), task=task, modality=kind.modality, result=result, tally=tally, guessed=guessed
    )


def _split(known: Opened, tested: Opened | None, seed: int) -> dict[str, np.ndarray]:
    """{"train", "validation"[, "test"]: places}: groups and equal texts stay together."""
    shares = SPLIT if tested is None else {"train": 0.8, "validation": 0.2}
    if len(known.parts) < 2 * len(shares):
        raise DataError(f"{len(known.parts)} rows with answers are too few to learn from and to test on.", "Give a few dozen.")  # fmt: skip
    copies = np.unique(np.array(known.texts, dtype=object), return_inverse=True)[1]
    return splits.split(len(known.parts), shares, seed=seed, groups=known.groups, duplicates=copies)


class _Tags:
    """Opens sentences: the tags of the first are those of the task."""

    def __init__(self, encoder: Encoder, modality, labels, column, group, max_bad: float):
        self.causal = bool(getattr(encoder, "causal", False))
        self.modality = modality
        self.read: Callable[..., Sentences] = lambda spec, **more: open_tags(
            spec, words=column, tags=labels, group=group, max_bad=max_bad, **more
        )
        self.task: tag.Tag | None = None

    def open(self, spec) -> Opened:
        found = self.read(spec, scheme=self.task.scheme if self.task else None)
        if self.task is None:
            self.task = tag.fit(found.tags, found.scheme, causal=self.causal)
        return open_sentences(found, self.task, self.modality, causal=self.causal)

    def blind(self, known: Opened, train: np.ndarray, held: Opened, places: np.ndarray) -> dict[str, list[np.ndarray]]:
        assert self.task is not None
        codes = known.parts.truth(train)
        guesser = BlindTags([known.rows.words[r] for r in train], codes, self.task.tags, self.task.usual, self.task.spanned)  # fmt: skip
        return guesser.guesses([held.rows.words[r] for r in places])

    def facts(self, answers: list) -> dict[str, Any]:
        assert self.task is not None
        return {"scheme": self.task.scheme} | ({"repaired": sum(a[2] for a in answers)} if self.task.spanned else {})


def open_sentences(found: Sentences, task: tag.Tag, modality, *, causal: bool) -> Opened:
    """Sentences as pieces, with codes of the task's tags.  DataError for a tag that is none of them."""
    code: dict[str | None, int] = {None: -1, **{name: k for k, name in enumerate(task.tags)}}
    strange = sorted({t for tags in found.tags for t in tags if t not in code}, key=str)
    if strange:
        raise DataError(
            f"The tag {strange[0]!r} is none of the {len(task.tags)} tags known ({', '.join(task.tags[:8])}).",
            "Give data with the same tags.",
        )
    codes = [np.array([code[t] for t in tags], np.int64) for tags in found.tags]
    parts = Tagged.of(found.words, codes, modality, causal=causal, last=task.piece == "last", usual=task.usual)
    notes = list(found.notes)
    long = int((parts.passages.lengths > modality.context - 2).sum())
    notes += [f"{long} texts are longer than the context of {modality.context} tokens: read in overlapping windows, nothing is cut off."] * bool(long)  # fmt: skip
    notes += [f"{parts.unread} words are left out by the tokenizer and get the tag {task.tags[task.usual]!r}."] * bool(parts.unread)  # fmt: skip
    return Opened(parts, found, found.texts, found.groups, notes)


class _Answers:
    """Opens questions with their answers."""

    def __init__(self, encoder: Encoder, modality, labels, column, group, max_bad: float):
        self.causal = bool(getattr(encoder, "causal", False))
        self.modality = modality
        self.read: Callable[..., Questions] = lambda spec: open_answers(
            spec, contexts=column, answers=labels, group=group, max_bad=max_bad
        )
        self.task: answer.Answer | None = None

    def open(self, spec) -> Opened:
        found = self.read(spec)
        opened = open_questions(found, self.modality, causal=self.causal)
        if self.task is None:
            self.task = answer.fit(opened.parts.targets, [bool(a) for a in found.answers])  # type: ignore[attr-defined]
        return opened

    def blind(self, known: Opened, train: np.ndarray, held: Opened, places: np.ndarray) -> dict[str, list[str]]:
        guesser = BlindAnswers([known.rows.questions[r] for r in train], known.parts.truth(train))
        return guesser.guesses([held.rows.contexts[r] for r in places], [held.rows.questions[r] for r in places])

    def facts(self, answers: list) -> dict[str, Any]:
        return {"without_answer": sum(a[1] < 0 for a in answers)}


def open_questions(found: Questions, modality, *, causal: bool) -> Opened:
    """Questions as pieces; what is read in several windows, or cannot be learnt from, is in the notes."""
    parts = Asked.of(found.contexts, found.questions, found.answers, modality, causal=causal)
    held = parts.passages
    long = int(sum(len(p) > held.room(row) for row, p in enumerate(held.pieces)))
    cut = sum(len(q) > held.longest_question for q in held.questions or [])
    lost = int((parts.targets == -2).all(1).sum())
    notes = list(found.notes)
    notes += [f"{long} of {len(found)} texts are longer than what the context of {modality.context} tokens leaves beside the question: read in overlapping windows, nothing is cut off."] * bool(long)  # fmt: skip
    notes += [f"{cut} questions are longer than {held.longest_question} pieces: the encoder sees their beginning."] * bool(cut)  # fmt: skip
    notes += [f"{lost} answers are spelled by no pieces of the tokenizer: nothing is learnt from them."] * bool(lost)
    texts = [f"{context}\n{question}" for context, question in zip(found.contexts, found.questions, strict=True)]
    return Opened(parts, found, texts, found.groups, notes)


_KINDS: dict[str, Any] = {"tags": _Tags, "answers": _Answers}
