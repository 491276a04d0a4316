"""Questions about texts with answers that stand in them: SQuAD's JSON, or tables; answers are checked against their text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core import DataError, RequestError
from . import limits, streams
from .bad import Bad, Rejected
from .opening import open_source
from .paths import read_text
from .tables import Table, need_column

CONTEXTS = ("context", "passage", "paragraph", "document", "text")
ANSWERS = ("answers", "answer", "answer_text")
STARTS = ("answer_start", "answer_starts", "start", "offset")
GROUPS = ("title", "document_id", "doc_id", "source")
Answer = tuple[str, int]
"""The answer, and the character of the text at which it begins."""


@dataclass
class Questions:
    """contexts[i], questions[i], answers[i] of row i (no answers: the text holds none, or they were not read); `ids` are the file's own.

    groups: rows of one title, or of one text, belong together."""

    contexts: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    answers: list[list[Answer]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    groups: np.ndarray | None = None
    rejected: Rejected = field(default_factory=lambda: Rejected(0))
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.contexts)


@dataclass(frozen=True)
class _Row:
    context: Any
    question: Any
    answers: Any
    starts: Any
    name: str
    id: str
    group: Any


def open_answers(
    spec, *, contexts: str | None = None, answers: str | None = None, group: str | None = None, answered: bool = True, max_bad: float = 0.01,
) -> Questions:  # fmt: skip
    """Questions of a SQuAD file (1.1 or 2.0) or of a table with columns of contexts, questions and answers.

    contexts, answers, group: names of a table's columns.  Answers are {"text", "answer_start"} as SQuAD and the hub write them, or text with a column of starts;
    one without a start, or with a wrong one, is looked for in its text.  answered: False reads no answers.  A row whose answer is not in its text is set apart.
    Raises RequestError for what is not there, DataError where nothing can be used.
    """
    rows = _squad(spec)
    title = str(spec)
    if rows is None:
        source = open_source(spec)
        if not isinstance(source, Table):
            raise RequestError(
                f"{source.name} holds no questions.",
                "Give a SQuAD file (JSON), or a table with columns context, question and answers.",
            )
        rows, title = list(_of_table(source, contexts, answers, group, answered)), source.name
    elif contexts or answers or group:
        raise RequestError("A SQuAD file has no columns to name.", "Leave out --column, --labels and --group.")
    found = Questions(rejected=Rejected(len(rows)))
    kept, groups, moved = [], [], 0
    for number, row in enumerate(rows):
        try:
            context, question = _text(row.context, "context"), _text(row.question, "question")
            given, shifted = _answers(row.answers, row.starts, context) if answered else ([], 0)
        except Bad as bad:
            found.rejected.add(number, row.name, bad)
            continue
        moved += shifted
        found.contexts.append(context)
        found.questions.append(question)
        found.answers.append(given)
        found.ids.append(row.id)
        found.names.append(row.name)
        kept.append(number)
        groups.append(str(row.group) if row.group is not None else f"text {context}")
    found.rejected.check(max_bad)
    found.rows = np.array(kept, np.int64)
    found.groups = np.unique(np.array(groups), return_inverse=True)[1].astype(np.int64)
    empty = sum(not a for a in found.answers) if answered else 0
    said = f"{Path(title).name}: {len(found)} questions about {len(set(found.contexts))} texts"
    found.notes.append(f"{said}, {empty} of them without an answer." if empty else f"{said}.")
    found.notes += [f"{moved} answers did not begin where the file says (or it does not say): they were looked for in their text."] * bool(moved)  # fmt: skip
    found.notes += [found.rejected.summary()] * bool(found.rejected)
    return found


def _squad(spec) -> list[_Row] | None:
    """The questions of a SQuAD file; None where this is another file."""
    path = Path(spec).expanduser() if isinstance(spec, str | Path) else None
    if path is None or not path.is_file() or ".json" not in [s.lower() for s in path.suffixes]:
        return None
    with streams.says_when_broken(path), streams.open_stream(path) as stream:
        if b'"data"' not in stream.read(1 << 16) and b'"data"' not in stream.read(limits.ANNOTATION_BYTES)[-(1 << 16) :]:  # fmt: skip
            return None
    try:
        with streams.says_when_broken(path):
            held = json.loads(read_text(streams.read_all(path, limits.ANNOTATION_BYTES)))
        articles = held["data"] if isinstance(held, dict) else None
        if not isinstance(articles, list):
            return None
        return [row for number, article in enumerate(articles) for row in _article(article, f"{path.name}:{number}")]
    except Bad as bad:
        raise DataError(f"{str(path)!r} cannot be read: {bad.reason}.", "Save it as UTF-8.") from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, json.JSONDecodeError):
            return None  # lines of JSON are a table
        raise DataError(f"{str(path)!r} is no SQuAD file: {type(error).__name__} {error}.", "Expected: data, paragraphs, context, qas, question, answers.") from None  # fmt: skip


def _article(article: dict, name: str) -> Iterator[_Row]:
    group = article.get("title", name)
    for number, paragraph in enumerate(article["paragraphs"]):
        for order, asked in enumerate(paragraph["qas"]):
            given = [] if asked.get("is_impossible") else asked.get("answers", [])
            place = f"{name}:{number}:{order}"
            yield _Row(paragraph["context"], asked["question"], given, None, place, str(asked.get("id", place)), group)


def _of_table(source: Table, contexts: str | None, answers: str | None, group: str | None, answered: bool) -> Iterator[_Row]:  # fmt: skip
    context = need_column(source, contexts, CONTEXTS, "texts", "Name it with --column")
    question = need_column(source, None, ("question", "query"), "questions", "Call it 'question'")
    columns = [context, question]
    answer = need_column(source, answers, ANSWERS, "answers", "Name it with --labels") if answered else None
    start = next((name for name in STARTS if name in source.stored), None)
    key = next((name for name in ("id", "qid", "question_id") if name in source.stored), None)
    usual = next((name for name in GROUPS if name in source.stored), None)
    if group is not None:
        source.need(group)
    columns += [name for name in (answer, start, key, group or usual) if name]
    cells = {name: source.cells(name) for name in dict.fromkeys(columns)}
    for row in range(source.rows):
        own = {name: next(held) for name, held in cells.items()}
        place = source.row_name(row)
        of = own.get(group or usual) if (group or usual) else None  # type: ignore[arg-type]
        yield _Row(own[context], own[question], own.get(answer), own.get(start), place, str(own.get(key, place)), of)  # type: ignore[arg-type]


def _text(cell, what: str) -> str:
    if isinstance(cell, Bad):
        raise cell
    if isinstance(cell, bytes):
        cell = read_text(cell)
    if not isinstance(cell, str) or not cell.strip():
        raise Bad(f"no {what}")
    if "\x00" in cell:
        raise Bad(f"{what} holds NUL bytes")
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError:
        raise Bad(f"{what} is not UTF-8") from None
    return cell


def _answers(cell, starts, context: str) -> tuple[list[Answer], int]:
    """(answers with their places, how many places were not as given); Bad where one is not in its text."""
    pairs = _pairs(cell, starts)
    out, moved = [], 0
    for text, start in pairs:
        if not isinstance(text, str) or not text.strip():
            continue
        trimmed = text.strip()
        begin = int(start) + len(text) - len(text.lstrip()) if _is_place(start) else -1
        if begin < 0 or context[begin : begin + len(trimmed)] != trimmed:
            near = begin if begin >= 0 else 0
            places = list(_places(context, trimmed))
            if not places:
                raise Bad(f"an answer that is not in its text: {trimmed[:60]!r}")
            begin, moved = min(places, key=lambda p: abs(p - near)), moved + 1
        out.append((trimmed, begin))
    return out, moved


def _is_place(start) -> bool:
    known = isinstance(start, int | float | np.number) and not isinstance(start, bool)
    return bool(known and start == start and start >= 0)


def _places(context: str, text: str) -> Iterator[int]:
    at = context.find(text)
    while at >= 0:
        yield at
        at = context.find(text, at + 1)


def _pairs(cell, starts) -> list[tuple[Any, Any]]:
    """(text, start) of an answers cell: SQuAD's list of structs, the hub's struct of lists, text, or lists beside lists."""
    if isinstance(cell, Bad):
        raise cell
    if isinstance(cell, str) and cell.lstrip()[:1] in ("{", "["):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            cell = str(cell)
    if isinstance(cell, dict):
        texts, starts = cell.get("text", []), cell.get("answer_start", cell.get("start", starts))
        cell = texts
    if cell is None or (isinstance(cell, list) and not cell):
        return []
    if isinstance(cell, list) and isinstance(cell[0], dict):
        return [(a.get("text"), a.get("answer_start", a.get("start"))) for a in cell]
    texts = cell if isinstance(cell, list) else [cell]
    held = starts.tolist() if isinstance(starts, np.ndarray) else starts if isinstance(starts, list) else [starts]
    return list(zip(texts, [*held, *[None] * len(texts)]))
