"""What is said in each clip: a column of a table, or texts beside the sounds (NAME.txt beside NAME.wav, LibriSpeech's *.trans.txt)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core import DataError, RequestError
from .bad import Bad
from .dataset import Dataset
from .folders import Folder
from .paths import inside, read_text_file
from .tables import usual_column

USUAL = ("text", "transcript", "transcription", "sentence", "normalized_text", "words", "utterance")
"""Names of columns that hold transcripts."""


def transcripts(dataset: Dataset, column: str | None = None) -> tuple[np.ndarray, str, list[str]]:
    """((len,) object: the transcript of each row, None where there is none; where they come from; sentences to say aloud).

    column: a column of texts; None takes what is called so, else the texts beside the sounds of a folder.  RequestError where nothing is found,
    DataError where every row is without.
    """
    source = dataset.source
    if column is None:
        column = usual_column(list(source.columns), USUAL)
    if column is None and isinstance(source, Folder):
        found, column = _beside(source)[dataset.source_rows()], "the texts beside the sounds"
    elif column is None:
        texts = source.of_kind("text", "category")
        raise RequestError(
            f"No column of {source.name} looks like transcripts.",
            f"Name it with --labels; columns of text: {', '.join(texts) or 'none'}.",
        )
    else:
        if source.need(column) not in ("text", "category"):
            raise RequestError(
                f"Column {column!r} of {source.name} holds {source.columns[column]}, not text.",
                f"Columns of text: {', '.join(source.of_kind('text', 'category')) or 'none'}.  Numbers are written as words or in quotes.",
            )
        found = dataset.values(column)
    known = np.array([isinstance(text, str) for text in found], bool)
    if not known.any():
        raise DataError(f"No clip of {source.name} has a transcript ({column}).", "Name their column with --labels.")
    out = np.empty(len(found), object)
    out[:] = [text if isinstance(text, str) else None for text in found]
    notes = [f"transcripts: {column if ' ' in column else f'column {column!r}'}, of {int(known.sum())} of {len(known)} clips."]  # fmt: skip
    return out, column, notes


def _beside(source: Folder) -> np.ndarray:
    """(rows of the source,) the text of NAME.txt beside each sound, or its line in a *.trans.txt of the same folder; None without."""
    chapters: dict[Path, dict[str, str]] = {}
    out = np.empty(source.rows, object)
    for row, name in enumerate(source.names):
        path = source.root / name
        if path.parent not in chapters:
            chapters[path.parent] = _chapter(source.root, path.parent)
        held = path.with_suffix(".txt")
        if held.is_file():
            try:
                out[row] = read_text_file(inside(source.root, held.relative_to(source.root).as_posix())).strip()
            except Bad:
                out[row] = None
        else:
            out[row] = chapters[path.parent].get(path.stem)
    return out


def _chapter(root: Path, folder: Path) -> dict[str, str]:
    """{name of a sound: text} of the lines "NAME TEXT" of a folder's *.trans.txt."""
    lines: dict[str, str] = {}
    for path in sorted(folder.glob("*.trans.txt")):
        try:
            text = read_text_file(inside(root, path.relative_to(root).as_posix()))
        except Bad as bad:
            raise DataError(f"{path.name!r} cannot be read: {bad.reason}.", "Repair it, or take it away.") from None
        for line in text.splitlines():
            name, _, said = line.strip().partition(" ")
            lines[name] = said
    return lines
