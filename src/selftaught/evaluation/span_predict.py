"""`predict` for tasks that answer for parts of a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import tasks
from ..core import ModelError, RequestError
from ..core.listener import Listener
from ..data import open_source
from ..data.answers import open_answers
from ..data.bad import Bad, Rejected
from ..data.opening import type_of
from ..data.tags import Sentences, open_tags
from ..measures.tags import spans
from ..tasks.tag import Tag
from ..train.precision import device_of
from ..train.spans import EVALUATED, predictions
from .adapt import Finetuned
from .spans import SpanFinetuned, load_spans, open_questions, open_sentences

if TYPE_CHECKING:
    import pyarrow as pa

WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")
"""What is a word of a running text: letters and digits with hyphens and apostrophes inside; any other sign alone."""


def predict_spans(
    model: str | Path | Finetuned, data, *, batch: int = EVALUATED, device: str | None = "cpu", column: str | None = None,
    max_bad: float = 1.0, listener: Listener | None = None,
) -> pa.Table:  # fmt: skip
    """Tags: one line a row of row, name, words, tags, and for every span (plain tags: every word) its label, text, start, stop and confidence, each a list;
    start and stop are characters of the row's text: as it is where DATA holds running text, the words with a space between them where it holds words.

    Answers: one line a question of row, name, id, question, answer (null: the text holds none), start and stop in characters of the text, and score, the probability
    that the model gives it.

    Rows that cannot be read have no line: they are counted in the table's metadata ("rejected").  Raises ModelError or DataError.
    """
    found = model if isinstance(model, SpanFinetuned) else None if isinstance(model, Finetuned) else load_spans(model)
    if found is None:
        raise ModelError(f"{str(model)!r} is no model for tags or answers.", "selftaught finetune --task tag or answer makes one.")  # fmt: skip
    listener, where = listener or Listener(), device_of(device)
    found.model.to(where)
    made = _tags if found.task.wants == "tags" else _answers
    return made(found, data, column, batch, where, max_bad, listener)


def _answers(found: SpanFinetuned, data, column: str | None, batch: int, where, max_bad: float, listener: Listener):
    import pyarrow as pa

    questions = open_answers(data, contexts=column, answered=False, max_bad=max_bad)
    opened = open_questions(questions, found.modality, causal=bool(getattr(found.model.encoder, "causal", False)))
    for note in opened.notes:
        listener.say(note)
    answers = predictions(found.model, found.task, opened.parts, np.arange(len(questions)), device=where, batch=batch, listener=listener)  # fmt: skip
    table = {
        "row": pa.array(questions.rows, pa.int64()), "name": pa.array(questions.names, pa.string()), "id": pa.array(questions.ids, pa.string()),
        "question": pa.array(questions.questions, pa.string()), "answer": pa.array([a[0] or None for a in answers], pa.string()),
        "start": pa.array([a[1] if a[1] >= 0 else None for a in answers], pa.int64()),
        "stop": pa.array([a[2] if a[2] >= 0 else None for a in answers], pa.int64()), "score": pa.array([a[3] for a in answers], pa.float64()),
    }  # fmt: skip
    about = {"rejected": str(len(questions.rejected)), "task": tasks.name_of(found.task)}
    return pa.table(table).replace_schema_metadata(about)


def _tags(found: SpanFinetuned, data, column: str | None, batch: int, where, max_bad: float, listener: Listener):
    import pyarrow as pa

    task: Tag = found.task  # type: ignore[assignment]
    sentences, texts, places = _sentences(data, column, max_bad)
    opened = open_sentences(sentences, task, found.modality, causal=task.piece == "last")
    for note in opened.notes:
        listener.say(note)
    answers = predictions(found.model, task, opened.parts, np.arange(len(sentences)), device=where, batch=batch, listener=listener)  # fmt: skip
    lines: dict[str, list] = {name: [] for name in ("tags", "label", "text", "start", "stop", "confidence")}
    for row, (codes, chance, _) in enumerate(answers):
        tags = task.named(codes)
        got = spans(tags) if task.spanned else [(tag, n, n + 1) for n, tag in enumerate(tags)]
        start = [int(places[row][first, 0]) for _, first, _ in got]
        stop = [int(places[row][last - 1, 1]) for _, _, last in got]
        for name, value in (
            ("tags", tags), ("label", [kind for kind, _, _ in got]), ("text", [texts[row][a:b] for a, b in zip(start, stop)]), ("start", start),
            ("stop", stop), ("confidence", [float(chance[first:last].min()) for _, first, last in got]),
        ):  # fmt: skip
            lines[name].append(value)
    words, integers, numbers = pa.list_(pa.string()), pa.list_(pa.int64()), pa.list_(pa.float64())
    kinds = {"tags": words, "label": words, "text": words, "start": integers, "stop": integers, "confidence": numbers}
    table = {
        "row": pa.array(sentences.rows, pa.int64()), "name": pa.array(sentences.names, pa.string()),
        "words": pa.array([list(w) for w in sentences.words], words), **{name: pa.array(lines[name], kind) for name, kind in kinds.items()},
    }  # fmt: skip
    about = {"rejected": str(len(sentences.rejected)), "task": tasks.name_of(task)}
    return pa.table(table).replace_schema_metadata(about)


def _sentences(data, column: str | None, max_bad: float) -> tuple[Sentences, Sequence[str], list[np.ndarray]]:
    """(sentences, their texts, first and last character of every word): running text where the column holds such, else lists of words."""
    running = _running(data, column, max_bad)
    if running is not None:
        return running
    found = open_tags(data, words=column, tagged=False, max_bad=max_bad)
    places = []
    for words in found.words:
        stops = np.cumsum([len(w) + 1 for w in words]) - 1
        places.append(np.stack([stops - [len(w) for w in words], stops], 1))
    return found, found.texts, places


def _running(data, column: str | None, max_bad: float):
    """As `_sentences`, of texts whose words are not divided; None where DATA holds words."""
    if isinstance(data, str | Path) and type_of(Path(data).name) is None and Path(data).expanduser().is_file():
        return None  # a CoNLL file of its own suffix
    try:
        source = open_source(data)
    except RequestError:
        return None
    columns = source.of_kind("text")
    if column is not None and source.columns.get(column) != "text":
        return None
    if not columns or source.of_kind("labels"):
        return None
    chosen = column or columns[0]
    out = Sentences([], [], [], np.zeros(0, np.int64), Rejected(source.rows))
    texts, places, rows = [], [], []
    for row, payload in enumerate(source.payloads(chosen)):
        found = [] if isinstance(payload, Bad) else list(WORD.finditer(str(payload)))
        if not found:
            bad = payload if isinstance(payload, Bad) else Bad("no words")
            out.rejected.add(row, source.row_name(row), bad)
            continue
        out.words.append(tuple(m[0] for m in found))
        out.tags.append((None,) * len(found))
        out.names.append(source.row_name(row))
        texts.append(str(payload))
        places.append(np.array([m.span() for m in found]))
        rows.append(row)
    out.rejected.check(max_bad)
    out.rows = np.array(rows, np.int64)
    out.notes.append(f"{source.name}: {source.rows} texts, column {chosen!r}; words are divided at spaces and signs.")
    if out.rejected:
        out.notes.append(out.rejected.summary())
    return out, texts, places
