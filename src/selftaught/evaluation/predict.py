"""`predict`: a finetuned model folder and data -> a table of labels with calibrated confidences."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import measures, modalities, nets, tasks
from ..core import ModelError
from ..core.listener import Listener
from ..train.finetune import Tuned, outputs
from ..train.precision import device_of
from . import label_file, served
from .adapt import Finetuned
from .opening import open_dataset

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE_ROWS = ("class", "set", "number")


def load_model(folder: str | Path) -> Finetuned:
    """The model that `finetune` wrote; ModelError where the folder is broken or of another task version."""
    elsewhere = served.load(folder)
    if elsewhere is not None:
        return elsewhere
    name = label_file.task_name(folder)
    if name is None:
        raise ModelError(
            f"{str(folder)!r} holds an encoder without a task.",
            "Finetune it first: selftaught finetune RUN DATA. Without labels: selftaught cluster RUN DATA --save FOLDER; selftaught search RUN DATA QUERY.",
        )
    found = label_file.read(folder, WHOLE_ROWS)
    with label_file.checked(folder):
        if found is None:
            raise ValueError(f"its task, {name!r}, is none that predicts: {', '.join(tasks.names())}")
        temperature = float(found.held["temperature"])
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"its temperature is {temperature}")
    kept, task = nets.store.load(found.home, parts=["head"]), found.task
    head = kept.parts["head"]
    if getattr(head, "out_features", None) != task.outputs or getattr(head, "in_features", None) != kept.encoder.dim:
        raise ModelError(
            f"The head in {str(folder)!r} does not fit its encoder and labels.", "Finetune the model again."
        )
    return Finetuned(Tuned(kept.encoder, head).eval(), task, modalities.load(found.home), temperature, found.result)


def predict(
    model: str | Path | Finetuned, data, *, batch: int = 256, device: str | None = "cpu", probabilities: bool = False,
    column: str | None = None, max_bad: float = 1.0, listener: Listener | None = None,
) -> pa.Table:  # fmt: skip
    """A table of row (int64, of the source: rows that cannot be read leave gaps), name, label and confidence, one line a row of `data`.

    Classes: label is the class's name, confidence its probability after temperature scaling; `probabilities` adds a column
    "p:CLASS" for each.  Where a row may have several labels, label and confidence are lists, the surest first.  Numbers: label is float64 and confidence null.
    Tasks that are no label of a whole row: see served.py (`dense.predict_dense`, `sequences.predict_sequences`).  Rows that cannot be read have no line: they are said, and counted in the table's metadata ("rejected");
    `max_bad` bounds their share.  Raises ModelError or DataError.
    """
    import pyarrow as pa

    found = model if isinstance(model, Finetuned) else load_model(model)
    own = served.SERVICES.get(found.task.wants)
    if own is not None:
        return own.predict(found, data, device=device, column=column, max_bad=max_bad, listener=listener)
    listener, where = listener or Listener(), device_of(device)
    rows = open_dataset(data, found.modality, listener, column=column, max_bad=max_bad)
    out = outputs(found.model.to(where), rows, np.arange(len(rows)), device=where, batch=batch)
    guesses = found.task.predict(out)
    table = {"row": pa.array(rows.source_rows()), "name": pa.array(rows.names(np.arange(len(rows))), pa.string())}
    about = {"rejected": str(len(getattr(rows, "rejected", ())))}
    if found.task.wants == "number":
        table |= {"label": pa.array(guesses), "confidence": pa.nulls(len(rows), pa.float64())}
        return pa.table(table).replace_schema_metadata(about)
    classes = found.task.classes  # type: ignore[attr-defined]
    if found.task.wants == "set":
        p, given = measures.sigmoid(out, found.temperature), found.task.given(guesses)  # type: ignore[attr-defined]
        best_first = [np.flatnonzero(row)[np.argsort(-p[i, row], kind="stable")] for i, row in enumerate(given)]
        table |= {
            "label": pa.array([[classes[k] for k in some] for some in best_first], pa.list_(pa.string())),
            "confidence": pa.array([p[i, some] for i, some in enumerate(best_first)], pa.list_(pa.float64())),
        }
        if probabilities:
            table |= {f"p:{name}": pa.array(p[:, k]) for k, name in enumerate(classes)}
        return pa.table(table).replace_schema_metadata(about)
    p = measures.probabilities(out, found.temperature)
    table |= {"label": pa.array([classes[g] for g in guesses], pa.string()), "confidence": pa.array(p.max(1))}
    if probabilities:
        table |= {f"p:{name}": pa.array(p[:, k]) for k, name in enumerate(classes)}
    return pa.table(table).replace_schema_metadata(about)
