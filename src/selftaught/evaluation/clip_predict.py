"""`predict` for tasks on the tokens of sounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import tasks
from ..core import ModelError
from ..core.listener import Listener
from ..modalities.sound import ROW_VALUES
from ..train.clip_feed import AT_ONCE
from ..train.clips import predictions
from ..train.precision import device_of
from .adapt import Finetuned
from .clip_data import lengths_of, open_sounds
from .clips import ClipFinetuned, load_clips

if TYPE_CHECKING:
    import pyarrow as pa


def predict_clips(
    model: str | Path | Finetuned, data, *, batch: int = AT_ONCE, device: str | None = "cpu", column: str | None = None,
    max_bad: float = 1.0, listener: Listener | None = None,
) -> pa.Table:  # fmt: skip
    """transcribe: one line a clip of row, name, text and confidence (the likelihood of the text, to the power of 1 / frames); frames: row, name, seconds, and lists of
    start, end (seconds), label and confidence.  Clips that cannot be read have no line: they are counted in the table's metadata ("rejected").
    Raises ModelError, DataError or RequestError.
    """
    import pyarrow as pa

    found = model if isinstance(model, ClipFinetuned) else None if isinstance(model, Finetuned) else load_clips(model)
    if found is None:
        raise ModelError(
            f"{str(model)!r} is no model for stretches of sound.",
            "selftaught finetune --task transcribe or frames makes one.",
        )
    listener, where = listener or Listener(), device_of(device)
    sounds = open_sounds(data, found.modality, column=column, max_bad=max_bad)
    places = np.arange(len(sounds))
    cut = int((lengths_of(sounds) >= ROW_VALUES).sum())
    if cut:
        listener.say(
            f"{cut} clips are longer than {ROW_VALUES / found.modality.rate:.0f} s: only their beginning is heard."
        )
    answers = predictions(found.model.to(where), found.task, sounds, places, device=where, batch=batch, listener=listener)  # fmt: skip
    table = {"row": pa.array(sounds.source_rows(), pa.int64()), "name": pa.array(sounds.names(), pa.string())}
    if found.task.wants == "transcript":
        sure = [float(np.exp(a.nats / a.frames)) if a.frames else 0.0 for a in answers]
        table |= {"text": pa.array([a.text for a in answers], pa.string()), "confidence": pa.array(sure, pa.float64())}
    else:
        numbers, words = pa.list_(pa.float64()), pa.list_(pa.string())
        labels = found.task.labels  # type: ignore[attr-defined]
        ends = (lengths_of(sounds) / sounds.modality.rate).tolist()
        table |= {
            "seconds": pa.array(ends, pa.float64()),
            "start": pa.array([a.events.times[:, 0].tolist() for a in answers], numbers),
            "end": pa.array([a.events.times[:, 1].clip(max=end).tolist() for a, end in zip(answers, ends)], numbers),
            "label": pa.array([[labels[k] for k in a.events.codes] for a in answers], words),
            "confidence": pa.array([a.confidence.tolist() for a in answers], numbers),
        }
    about = {"rejected": str(len(sounds.rejected)), "task": tasks.name_of(found.task)}
    return pa.table(table).replace_schema_metadata(about)
