"""`finetune` and `predict` for pairs of texts with numbers (STS): an encoder whose cosine is the number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import modalities, nets, tasks
from ..core import DataError, Kept, ModelError, RequestError
from ..core.listener import Listener
from ..data import Aligned
from ..tasks.similarity import Correlated, Similarity
from ..train.finetune import Plan, Tuned
from ..train.pairs import PLAN as PLAN
from ..train.pairs import cosines, tune
from ..train.precision import device_of
from . import label_file, resample
from .adapt import Finetuned
from .embed import raw
from .opening import open_encoders
from .pairs import PairProblem, open_pairs, prepare

if TYPE_CHECKING:
    import pyarrow as pa

MODES = ("full", "gradual", "lora")
FLAG = "--column first,second"


@dataclass(kw_only=True)
class PairFinetuned(Finetuned):
    """An encoder of pairs, and what was measured of it."""

    tally: Correlated | None = None
    """Guesses and numbers of the test pairs: for intervals of differences between models."""

    def save(self, folder: str | Path) -> Path:
        """Writes the model folder: the encoder (there is no head), labels.json and the modality's own files."""
        return label_file.write(folder, Kept(self.model.encoder), self.task, self.result, self.modality)


def load_pairs(folder: str | Path) -> PairFinetuned | None:
    """The model of pairs that `finetune` wrote; None where the folder holds a model of another kind, or none.  ModelError where it is broken."""
    found = label_file.read(folder, ("pair",))
    if found is None:
        return None
    task: Similarity = found.task  # type: ignore[assignment]
    with label_file.checked(folder):
        if not np.isfinite([task.low, task.high]).all() or task.low >= task.high:
            raise ValueError(f"its numbers go from {task.low} to {task.high}")
    encoder = nets.store.load_encoder(found.home)
    return PairFinetuned(
        model=Tuned(encoder, task.head(encoder.dim)).eval(), task=task, modality=modalities.load(found.home), result=found.result
    )  # fmt: skip


def finetune_pairs(
    run, data, *, task: str = "similarity", mode: str = "full", labels: str | np.ndarray | None = None, test=None, group: str | None = None,
    labels_per_class: int | None = None, plan: Plan | None = None, out: str | Path | None = None, seed: int = 0,
    column: str | Sequence[str] | None = None, max_bad: float = 0.01, device: str | None = "cpu", listener: Listener | None = None,
) -> PairFinetuned:  # fmt: skip
    """Trains a pretrained encoder until the cosine of a pair is its number, and scores it once on the test pairs.

    data, test: a table with two columns of texts (`column`: "first,second"; default: the two that hold texts) and one of numbers (`labels`); or
    `data.Aligned`.  The epoch is chosen on pairs that share no text with those that are learned from, directly or through others; test pairs are kept apart in
    the same way, and by `group`.  The result holds Spearman's and Pearson's correlation with an interval, those of the same encoder before ("frozen"), and of
    guesses that understand nothing ("blind": shared tokens, lengths alone) on the same pairs, with the paired difference.
    Raises RequestError, DataError or ModelError.  Cost: two passes of the network a pair.
    """
    listener, where = listener or Listener(), str(device_of(device))
    _check(task, mode, labels_per_class)
    encoders, modality = open_encoders(run)
    if modality is not None and modality.name != "text":
        raise RequestError(
            f"{task} needs an encoder of texts; this one is of {modality.name}.",
            "Give a run that was pretrained on texts.",
        )
    known = open_pairs(data, columns_of(column), modality, listener, max_bad, FLAG)
    own = [part.column for part in known.parts.values()]
    tested = None if test is None else open_pairs(test, own, known.modality, listener, max_bad, FLAG)
    problem = prepare(known, tested, labels, seed, group)
    for note in problem.notes:
        listener.say(note)
    fitted = problem.task
    if fitted.low >= fitted.high:
        raise DataError(
            f"Every training pair has the number {fitted.low:g}: there is nothing to learn.",
            "Give pairs of unlike numbers.",
        )
    listener.say(f"a cosine of 0 stands for {fitted.low:g}, of 1 for {fitted.high:g}: the least and greatest of the training pairs.")  # fmt: skip
    model, history = tune(
        encoders[0], fitted, problem.pool, problem.labels, problem.train, problem.validation,
        plan=replace(plan or PLAN, mode=mode, seed=seed), device=where, listener=listener,  # type: ignore[arg-type]
    )  # fmt: skip
    done = _scored(model, Tuned(encoders[0], fitted.head(1)), problem, modality or known.modality, seed, where)
    done.result |= {"mode": mode, "epochs": history.kept}
    done.result["rows"] |= {"train": len(problem.train), "validation": len(problem.validation)}
    done.result["validation"] = history.validation[history.kept - 1]
    if out is not None:
        done.result["model"] = str(out)
        done.save(out)
    return done


def columns_of(column: str | Sequence[str] | None) -> list[str]:
    """The columns that "first,second" names."""
    if column is None:
        return []
    return [name.strip() for name in column.split(",")] if isinstance(column, str) else list(column)


def _check(task: str, mode: str, labels_per_class: int | None) -> None:
    """RequestError for what has a meaning for other tasks only."""
    if mode == "head":
        raise RequestError(
            f"--mode head would train nothing: {task} has no head, the cosine is the answer.",
            "Use --mode full or lora; selftaught evaluate RUN DATA --task similarity reads the frozen encoder.",
        )
    if mode not in MODES:
        raise RequestError(f"{mode!r} is no way to finetune for {task}.", f"Accepted: {', '.join(MODES)}.")
    if labels_per_class is not None:
        raise RequestError(f"--labels-per-class has no meaning for {task}: numbers are no classes.", "Leave it out.")


def _scored(model: Tuned, before: Tuned, problem: PairProblem, modality, seed: int, where: str) -> PairFinetuned:
    """The model with its figures on the test pairs, looked at once, beside the encoder as it was and guesses that understand nothing."""
    task, test, places = problem.task, problem.test, np.arange(len(problem.targets))
    tally = task.tally(cosines(model, task, test, places, device=where), problem.targets)
    at: dict[str, Any] = {"groups": problem.groups, "seed": seed}
    got = resample.interval([tally], **at)

    def beside(name: str, guesses: np.ndarray) -> dict[str, Any]:
        other = task.tally(guesses, problem.targets)
        alone, less = resample.interval([other], **at), resample.interval([tally], [other], **at)
        return {
            "name": name, **other.figures(), "low": alone.low, "high": alone.high,
            "difference": {"mean": less.mean, "low": less.low, "high": less.high},
        }  # fmt: skip

    result = {
        "task": tasks.name_of(task), "metric": task.metric, "rows": {"test": len(places)},
        "test": {**tally.figures(), "low": got.low, "high": got.high},
        "frozen": [beside("the encoder before finetuning", cosines(before, task, test, places, device=where))],
        "blind": [beside(name, guesses) for name, guesses in blind(task, test).items()],
        "repeated": problem.repeated,
    }  # fmt: skip
    before.cpu()
    return PairFinetuned(model=model.cpu(), task=task, modality=modality, result=result, tally=tally)


def blind(task: Similarity, pairs: Aligned) -> dict[str, np.ndarray]:
    """{name: (rows,) guesses} that understand nothing: the cosine of bags of tokens, and how alike the texts are in length."""
    first, second = pairs.parts.values()
    lengths = [np.array([len(str(text)) for text in pairs.contents(role)], np.float64) for role in pairs.parts]
    return {"shared tokens": task.cosine(raw(first), raw(second)), "lengths alone": np.minimum(*lengths) / np.maximum(*lengths)}  # fmt: skip


def predict_pairs(
    model: str | Path | Finetuned, data, *, batch: int = 256, device: str | None = "cpu", column: str | Sequence[str] | None = None,
    max_bad: float = 1.0, listener: Listener | None = None,
) -> pa.Table:  # fmt: skip
    """One line a pair: row (of the source), name, label (the number in the unit of the training pairs; it may lie outside their range) and cosine.

    column: default the two that were learned from, where the data have them.  Pairs of which a text cannot be read have no line: they are counted in the
    table's metadata ("rejected").  Raises ModelError, DataError or RequestError.
    """
    import pyarrow as pa

    from ..data import open_source

    found = model if isinstance(model, PairFinetuned) else None if isinstance(model, Finetuned) else load_pairs(model)
    if found is None:
        raise ModelError(f"{str(model)!r} is no model of pairs.", "selftaught finetune --task similarity makes one.")
    listener, where = listener or Listener(), device_of(device)
    task: Similarity = found.task  # type: ignore[assignment]
    source = data if isinstance(data, Aligned) else open_source(data)
    columns = columns_of(column)
    if not columns and not isinstance(source, Aligned) and {task.first, task.second} <= set(source.columns):
        columns = [task.first, task.second]
    pairs = open_pairs(source, columns, found.modality, listener, max_bad, FLAG)
    places = np.arange(len(pairs))
    said = cosines(found.model.to(where), task, pairs, places, device=where, batch=batch)
    rows = pairs.first.source_rows(places)
    table = pa.table({
        "row": pa.array(rows, pa.int64()), "name": pa.array(pairs.first.names(places), pa.string()),
        "label": pa.array(task.number(said), pa.float64()), "cosine": pa.array(said, pa.float64()),
    })  # fmt: skip
    about = {"rejected": str(pairs.first.source.rows - len(rows)), "task": tasks.name_of(task)}
    return table.replace_schema_metadata(about)
