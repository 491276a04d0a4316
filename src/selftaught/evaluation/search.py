"""`search`: the rows of a dataset that are nearest to a query, by cosine of their representations; exact."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import measures
from ..core import DataError, Encoder, RequestError
from ..core.listener import Listener
from ..nets import store
from ..train.precision import device_of
from .embed import embed
from .opening import open_dataset, open_encoders
from .texts import is_text, shortened, texts_of

ROW = "row:"
"""A query that is a row of the data: "row:17"."""


def search(
    run, data, queries: Sequence, *, k: int = 10, column: str | None = None, query_column: str | None = None, max_bad: float = 0.01,
    batch: int = 256, device: str | None = "cpu", listener: Listener | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The `k` nearest rows of `data` to each query: {"rows", "dimensions", "queries": [{"query", "hits": [{"row", "name", "score"}]}]}.

    data: what `embed` takes, or the Parquet file or folder of parts that `embed` wrote with the same encoder.  A query is data itself
    (a file, a folder or table: each row asks, its column `query_column`), a row of `data` ("row:17", which does not find itself), or for text the words.
    Where `data` are texts, a hit holds the beginning of its "text".  Scores are cosines in -1 to 1, best first.  Cost: one pass of the encoder over what is not embedded, and 2 Q N D operations.
    Raises RequestError where embeddings are another model's, or where a query is nothing.
    """
    if k < 1:
        raise RequestError(f"-k {k} finds nothing.", "Give 1 or more.")
    if not queries:
        raise RequestError("There is nothing to search for.", 'Name files, "row:17", or words where the data are text.')
    listener, where = listener or Listener(), str(device_of(device))
    encoders, modality = open_encoders(run)
    encoder = encoders[0]
    held = None
    if is_embedded(data):
        ids, names, bank = read_embedded(Path(data), encoder)
    else:
        rows = open_dataset(data, modality, listener, column=column, max_bad=max_bad)
        modality = modality or rows.modality
        ids, names = rows.ids, rows.names()
        held = rows if is_text(rows) else None
        bank = embed(encoder, rows, batch=batch, device=where, listener=listener)
    asked, vectors, own = [], [], []
    for query in queries:
        for label, vector, row in _asked(query, ids, names, bank, encoder, modality, query_column, max_bad, batch, where, listener):  # fmt: skip
            asked.append(label)
            vectors.append(vector)
            own.append(row)
    found = _nearest(np.stack(vectors), bank, k, np.array(own))
    text = _texts(held, {i for hits in found for i, _ in hits})
    return {
        "rows": len(bank),
        "dimensions": bank.shape[1],
        "queries": [
            {"query": label, "hits": [{"row": int(ids[i]), "name": names[i], "score": round(s, 6), **text.get(i, {})} for i, s in hits]}
            for label, hits in zip(asked, found, strict=True)
        ],
    }  # fmt: skip


def _texts(held, places: set[int]) -> dict[int, dict[str, str]]:
    """{place: {"text": its beginning}} of the rows that were found; empty where rows are no texts, or are embeddings alone."""
    some = sorted(places)
    if held is None or not some:
        return {}
    return {i: {"text": shortened(text)} for i, text in zip(some, texts_of(held.subset(some)), strict=True)}


def _nearest(queries: np.ndarray, bank: np.ndarray, k: int, own: np.ndarray) -> list[list[tuple[int, float]]]:
    """(place, cosine) of the nearest rows to each query, best first, without the row `own` that it is (-1: none)."""
    more = min(k + 1, len(bank))
    score, index = measures.nearest(torch.from_numpy(queries), torch.from_numpy(bank), more)
    out = []
    for scores, places, itself in zip(score.tolist(), index.tolist(), own.tolist(), strict=True):
        out.append([(i, s) for i, s in zip(places, scores, strict=True) if i != itself][:k])
    return out


def _asked(query, ids, names, bank, encoder: Encoder, modality, column: str | None, max_bad: float, batch: int, device: str, listener: Listener):  # fmt: skip
    """(name, vector, place among the rows or -1) of what one query asks with."""
    if isinstance(query, str) and not query.strip():
        raise RequestError("An empty query finds nothing.", f'Name a file, "{ROW}0", or words where the data are text.')
    if isinstance(query, str) and query.startswith(ROW):
        place = _place(query, ids)
        return [(names[place], bank[place], place)]
    is_path = not isinstance(query, str) or Path(query).expanduser().exists() or query.startswith("hf:")
    if not is_path and getattr(modality, "name", "") != "text":
        raise RequestError(
            f"There is no {query!r} to search with.",
            f'Name a file, a folder or a table, or a row of the data: "{ROW}0".',
        )
    source = query if is_path else {"text": [query]}
    rows = open_dataset(source, modality, listener, column=column if is_path else None, max_bad=max_bad)
    vectors = embed(encoder, rows, batch=batch, device=device, listener=listener)
    labels = rows.names() if is_path else [query]
    return [(label, vector, -1) for label, vector in zip(labels, vectors, strict=True)]


def _place(query: str, ids: np.ndarray) -> int:
    text = query[len(ROW) :]
    found = np.flatnonzero(ids == int(text)) if text.isdecimal() else np.empty(0, np.int64)
    if not len(found):
        raise RequestError(f"{query!r} is no row of the data.", f"Rows are {ROW}{ids.min()} to {ROW}{ids.max()}.")
    return int(found[0])


def is_embedded(data) -> bool:
    """Whether this is a file, or a folder of parts, with the columns that `embed` writes."""
    if not isinstance(data, str | Path):
        return False
    return bool(parts := _parts(Path(data))) and {"row", "name", "embedding"} <= set(_schema(parts[0]))


def _parts(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return sorted(path.glob("part-*.parquet")) if path.is_dir() else []


def _schema(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path).names
    except (pa.ArrowException, OSError):
        return []  # whoever opens it as data says what is wrong with it


def read_embedded(path: Path, encoder: Encoder) -> tuple[np.ndarray, list[str], np.ndarray]:
    """(ids, names, vectors) of what `embed` wrote; refused where it was another model's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check_model(path, encoder)
    try:
        table = pa.concat_tables([pq.read_table(part, columns=["row", "name", "embedding"]) for part in _parts(path)])
        flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:160]}.", "Embed again.") from None
    if not table.num_rows or flat.size != table.num_rows * encoder.dim:
        raise RequestError(
            f"{path} holds {table.num_rows} rows, which are not of this encoder's {encoder.dim} dimensions.",
            "Embed the data again with this run.",
        )
    vectors = flat.reshape(table.num_rows, encoder.dim).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise DataError(f"{path} holds numbers that are not finite.", "Embed the data again.")
    return table["row"].to_numpy(), table["name"].to_pylist(), vectors


def _check_model(path: Path, encoder: Encoder) -> None:
    beside = [path.with_name(f"{path.name}.manifest.json")] if path.is_file() else sorted(path.glob("_manifest*.json"))
    for manifest in (m for m in beside if m.is_file()):
        try:
            held = json.loads(manifest.read_text("utf-8"))
        except ValueError:
            continue  # cut short: the dimensions are compared all the same
        if isinstance(held, dict) and (held.get("model") != store.fingerprint(encoder) or held.get("layer") != "last"):
            raise RequestError(
                f"{path} was embedded with another model or layer.",
                "Embed the data again with this run, or name the run that did.",
            )
