"""`finetune` and `predict` for tasks whose answer is a text: translation and summarisation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import modalities, nets, tasks
from ..core import DataError, Encoder, Kept, ModelError, RequestError
from ..core.listener import Listener
from ..core.task import Task
from ..data import duplicates, splits
from ..data.pairs import TextPairs, open_pairs, open_sources
from ..nets.search import Written
from ..nets.seq2seq import EncoderDecoder, LeftToRight
from ..nets.text_decoder import TextDecoder
from ..train.finetune import Plan
from ..train.precision import device_of
from ..train.sequences import SequencePlan, Writer, build, tune, write
from . import label_file, resample
from .adapt import Finetuned
from .statistics import units

if TYPE_CHECKING:
    import pyarrow as pa

PLAN = SequencePlan()
SPLIT = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""The test share goes to training where there is a test set."""
SHOWN = 3
"""Test rows whose answers stand in the result."""


@dataclass(kw_only=True)
class SequenceFinetuned(Finetuned):
    """A model that writes texts, and what was measured of it."""

    model: Writer  # type: ignore[assignment]
    tally: Any = None
    """What was counted in the test texts: for intervals of differences between models."""

    def save(self, folder: str | Path) -> Path:
        """Writes the model folder: encoder, decoder or head, labels.json and the modality's own files."""
        room = getattr(self.model, "room", None)
        return label_file.write(folder, self.model.keep(), self.task, self.result, self.modality, room=room)


def load_sequences(folder: str | Path) -> SequenceFinetuned | None:
    """The model that `finetune` wrote; None where the folder holds a model of another kind, or none.  ModelError where it is broken."""
    found = label_file.read(folder, ("text",))
    if found is None:
        return None
    with label_file.checked(folder):
        room, kept = found.held["room"], nets.store.load(found.home)
        model: Writer
        if isinstance(kept.parts.get("decoder"), TextDecoder):
            model = EncoderDecoder(kept.encoder, kept.parts["decoder"])  # type: ignore[arg-type]
        else:
            model = LeftToRight(kept.encoder, kept.parts["head"], int(room))
    return SequenceFinetuned(
        model=model.eval(), task=found.task, modality=modalities.load(found.home), result=found.result
    )


def finetune_sequences(
    run, data, *, task: str, mode: str = "full", labels: str | None = None, test=None, group: str | None = None,
    beams: int | None = None, length_penalty: float | None = None, longest: int | None = None, labels_per_class: int | None = None,
    plan: Plan | None = None, out: str | Path | None = None, seed: int = 0, column: str | None = None, max_bad: float = 0.01,
    device: str | None = "cpu", listener: Listener | None = None,
) -> SequenceFinetuned:  # fmt: skip
    """Teaches a pretrained network to write the texts in column `labels` of those in `column`, and scores it once on the test rows.

    run: with a decoder (t5, bart) both halves go on from pretraining; else a fresh decoder stands beside the encoder, or the trunk writes by itself where it reads
    from left to right.  data, test: see data.pairs.open_pairs.  mode: "head" leaves the encoder as it is.  beams, length_penalty, longest: see the task; longest is
    fitted to the targets where None.  The epoch with the lowest loss on validation rows is kept.  The result holds the test figures with an interval, those
    of an answer that takes no learning ("blind") and the difference.  Raises RequestError, DataError or ModelError.
    """
    listener, where = listener or Listener(), str(device_of(device))
    kind = tasks.find(task)
    _check(task, mode, labels, labels_per_class)
    kept, modality = _open_run(run)
    known = open_pairs(data, modality, source=column, target=labels, max_bad=max_bad, say=listener.say)
    columns = known.sources.column, known.targets.column  # type: ignore[union-attr]
    tested = None
    if test is not None:
        tested = open_pairs(test, modality, source=columns[0], target=columns[1], max_bad=max_bad, say=listener.say)
    rows = _split(known, tested, group, seed)
    fitted, room = _fitted(kind, known, rows["train"], kept.encoder, columns[0], longest)
    fitted = replace_options(fitted, beams=beams, length_penalty=length_penalty)
    model, said = build(kept, room, seed)
    fitted = replace_options(fitted, longest=min(fitted.longest, model.longest))  # type: ignore[attr-defined]
    listener.say(f"{task}: {said}; answers of at most {fitted.longest} tokens.")  # type: ignore[attr-defined]
    chosen = replace(plan or PLAN, seed=seed)
    if not isinstance(chosen, SequencePlan):
        raise RequestError(f"The plan of {task} is a train.sequences.SequencePlan.", "Give one, or none.")
    history = tune(
        model, known, rows["train"], rows["validation"], mode=mode, plan=chosen, device=where, listener=listener  # type: ignore[arg-type]
    )  # fmt: skip
    held = tested if tested is not None else known.subset(rows["test"])
    done = _scored(model, fitted, modality, held, group, seed, where, listener)
    done.result |= {"mode": mode, "epochs": history.kept, "network": said}
    done.result["rows"] |= {part: len(rows[part]) for part in ("train", "validation")}
    done.result["validation"] = min(history.validation, key=lambda h: h["loss"], default={})
    if out is not None:
        done.result["model"] = str(out)
        done.save(out)
    return done


def replace_options(task: Task, **changes: Any) -> Task:
    """The task with those options changed that are not None; RequestError where one makes no sense."""
    given = {name: value for name, value in changes.items() if value is not None}
    for name in ("beams", "longest"):
        if given.get(name, 1) < 1:
            raise RequestError(f"{name} = {given[name]} writes nothing.", "Give a number from 1.")
    return type(task)(**{**vars(task), **given})


def _check(task: str, mode: str, labels, labels_per_class: int | None) -> None:
    """RequestError for what has a meaning for other tasks only."""
    if mode not in ("head", "full"):
        raise RequestError(f"{mode!r} is no way to finetune for {task}.", "Accepted: head, full.")
    if labels_per_class is not None:
        raise RequestError(f"--labels-per-class has no meaning for {task}: texts are no classes.", "Leave it out.")
    if labels is not None and not isinstance(labels, str):
        raise RequestError(f"{task} reads its targets from the data.", "Give labels the name of a column.")


def _open_run(run) -> tuple[Kept, Any]:
    """What a run, a folder, an encoder or Kept holds, and the modality beside it; RequestError where that is not text."""
    folder = getattr(run, "folder", run)
    if not isinstance(folder, str | os.PathLike):
        raise RequestError("A network that writes needs its tokenizer beside it.", "Give the folder of a run.")
    home = nets.store.find(os.fspath(folder))
    modality = modalities.load(home)
    if modality.name != "text":
        raise RequestError(f"The encoder in {str(home)!r} reads {modality.name}, not text.", "Pretrain on texts.")
    return nets.store.load(home), modality


def _fitted(
    kind: type[Task], known: TextPairs, train: np.ndarray, encoder: Encoder, column: str, longest: int | None
) -> tuple[Task, int]:
    """The task with the length of its answers, and the tokens that a network which reads and writes in one row keeps for them."""
    context = int(getattr(encoder, "context", known.sources.modality.context))
    if longest is None:  # nearly all targets and a quarter more, with the end mark
        longest = int(np.ceil(1.25 * np.quantile(known.lengths()[train, 1], 0.995))) + 2
    task = kind(source=column, longest=min(longest, context))  # type: ignore[call-arg]
    return task, max(1, min(longest, context // 2))


def _split(known: TextPairs, tested: TextPairs | None, group: str | None, seed: int) -> dict[str, np.ndarray]:
    """{"train", "validation"[, "test"]: places}: groups and copies of a source stay together."""
    shares = SPLIT if tested is None else {"train": 0.9, "validation": 0.1}
    if len(known) < 4 * len(shares):
        raise DataError(f"{len(known)} pairs are too few to learn from and to test on.", "Give a few thousand.")
    copies = duplicates.exact_duplicates(known.sources)
    return splits.split(len(known), shares, seed=seed, groups=known.sources.groups(group), duplicates=copies)


def _scored(model: Writer, task: Task, modality, held: TextPairs, group: str | None, seed: int, where: str, listener: Listener) -> SequenceFinetuned:  # fmt: skip
    """The model with its figures on the pairs `held`, looked at once, beside the blind answer."""
    places = np.arange(len(held))
    answers = texts_of(write(model, task, held, places, device=where, listener=listener), modality)
    sources, truth = held.texts(places), held.truth(places)
    ours, blind = task.tally(answers, truth), task.tally(task.blind(sources), truth)
    groups = units(held.sources.groups(group), listener.say, group or "group")
    got, other = (resample.interval([tally], groups=groups, seed=seed) for tally in (ours, blind))
    more = resample.interval([ours], [blind], groups=groups, seed=seed)
    result = {
        "task": tasks.name_of(task), "metric": task.metric, "rows": {"test": len(held)},
        "test": {**ours.figures(()), "low": got.low, "high": got.high},
        "blind": [
            {
                "name": task.blind_name, **blind.figures(()), "low": other.low, "high": other.high,  # type: ignore[attr-defined]
                "difference": {"mean": more.mean, "low": more.low, "high": more.high},
            }
        ],
        "examples": [{"source": s, "written": a, "target": t} for s, a, t in zip(sources[:SHOWN], answers, truth)],
    }  # fmt: skip
    return SequenceFinetuned(model=model.cpu(), task=task, modality=modality, result=result, tally=ours)


def texts_of(written: Sequence[Written], modality) -> list[str]:
    """The texts of what was written, without space around them."""
    return [modality.text_of(one.ids).strip() for one in written]


def predict_sequences(
    model: str | Path | Finetuned, data, *, batch: int = 64, device: str | None = "cpu", column: str | None = None, max_bad: float = 1.0,
    listener: Listener | None = None,
) -> pa.Table:  # fmt: skip
    """One line a row: row, name, label (what was written) and confidence, the geometric mean of the probabilities of its tokens.

    column: default the one that was learned from, where the data have it.  Rows that cannot be read have no line: they are counted in the
    table's metadata ("rejected").  Raises ModelError, DataError or RequestError.
    """
    import pyarrow as pa

    found = (
        model
        if isinstance(model, SequenceFinetuned)
        else None
        if isinstance(model, Finetuned)
        else load_sequences(model)
    )
    if found is None:
        raise ModelError(
            f"{str(model)!r} is no model that writes.", "selftaught finetune --task translate or summarise makes one."
        )
    listener, where = listener or Listener(), device_of(device)
    learned = getattr(found.task, "source", "")
    pairs = open_sources(data, found.modality, source=column, usual=learned, max_bad=max_bad)
    places = np.arange(len(pairs))
    listener.say(f"{pairs.sources.name}: {len(pairs)} texts, column {pairs.sources.column!r}.")
    if pairs.sources.rejected:
        listener.say(pairs.sources.rejected.summary())
    written = write(found.model, found.task, pairs, places, device=where, batch=batch, listener=listener)
    table = pa.table({
        "row": pa.array(pairs.sources.source_rows(places), pa.int64()),
        "name": pa.array(pairs.sources.names(places), pa.string()),
        "label": pa.array(texts_of(written, found.modality), pa.string()),
        "confidence": pa.array([float(np.exp(w.nats / w.tokens)) for w in written], pa.float64()),
    })  # fmt: skip
    about = {"rejected": str(len(pairs.sources.rejected)), "task": tasks.name_of(found.task)}
    return table.replace_schema_metadata(about)
