"""`selftaught predict MODEL DATA`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..core.errors import RequestError
from .arguments import Common, parse
from .outcome import emit
from .screen import listener


@dataclass(kw_only=True)
class Arguments(Common):
    model: Annotated[str, tyro.conf.Positional]
    """A folder that finetune wrote."""
    data: Annotated[str, tyro.conf.Positional]
    out: Annotated[str | None, tyro.conf.arg(aliases=("-o",))] = None
    """A .parquet, .csv or .jsonl file (default: the first rows on the screen)."""
    probabilities: bool = False
    """A column for each class."""
    batch: int = 256
    column: str | None = None
    """The column that holds the data, where the guess is wrong."""
    max_bad: float = 1.0
    """Share of rows that may be broken before it is an error; they get no prediction and are counted."""
    device: str = "auto"


def run(argv: list[str]) -> None:
    from ..evaluation import predict

    arguments = parse(Arguments, argv, "predict", "Labels and calibrated confidences for new data.")
    if arguments.out and Path(arguments.out).suffix not in (".parquet", ".csv", ".jsonl"):
        raise RequestError(
            f"--out {arguments.out}: this kind of file is not written.", "Accepted: .parquet, .csv, .jsonl."
        )
    ears = listener(quiet=arguments.quiet)
    try:
        table = predict(
            arguments.model,
            arguments.data,
            batch=arguments.batch,
            device=arguments.device,
            column=arguments.column,
            max_bad=arguments.max_bad,
            probabilities=arguments.probabilities,
            listener=ears,
        )
    finally:
        ears.finish()
    if arguments.out:
        write(table, Path(arguments.out))
        rejected = int(table.schema.metadata[b"rejected"])
        lost = f"; {rejected} rows could not be read" if rejected else ""
        result = {"rows": table.num_rows, "rejected": rejected, "out": arguments.out}
        emit(result, arguments.json, f"{table.num_rows} predictions in {arguments.out}{lost}")
        return
    rows = table.to_pylist()
    lines = [
        f"{r['name']}\t{r['label'] if isinstance(r['label'], float) else _words(r['label'])}\t{_words(r['confidence'])}"
        for r in rows[:20]
    ]
    more = [f"... and {len(rows) - 20} more; -o FILE keeps all"] if len(rows) > 20 else []
    emit(rows, arguments.json, "\n".join(lines + more))


def _words(value) -> str:
    """A cell for the screen; several labels divided by semicolons."""
    if isinstance(value, list):
        return "; ".join(map(_words, value))
    return "" if value is None else format(value, ".3f") if isinstance(value, float) else str(value)


def write(table, path: Path) -> None:
    """Whole or not at all."""
    import json
    import os

    beside = path.with_name(f".{path.name}.{os.getpid()}")
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, beside)
    elif path.suffix == ".csv":
        import csv

        with open(beside, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(table.column_names)
            writer.writerows([_plain(v) for v in row.values()] for row in table.to_pylist())
    else:
        beside.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), "utf-8")
    os.replace(beside, path)


def _plain(value):
    """A cell that a spreadsheet does not take for a formula; several labels divided by semicolons."""
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
