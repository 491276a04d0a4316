"""`selftaught predict MODEL DATA`"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import tyro

from ..core.errors import RequestError
from .arguments import Common, parse
from .outcome import emit
from .screen import listener


@dataclass(kw_only=True)
class Arguments(Common):
    model: Annotated[str, tyro.conf.Positional]
    """A folder that finetune wrote, or cluster --save."""
    data: Annotated[str, tyro.conf.Positional]
    out: Annotated[str | None, tyro.conf.arg(aliases=("-o",))] = None
    """A .parquet, .csv or .jsonl file; detect: or .json, COCO's results; segment: a folder, or .parquet (default: the first rows on the screen)."""
    probabilities: bool = False
    """A column for each class."""
    batch: int = 256
    column: str | None = None
    """The column that holds the data, where the guess is wrong; of pairs two, sentence1,sentence2."""
    max_bad: float = 1.0
    """Share of rows that may be broken before it is an error; they get no prediction and are counted."""
    device: str = "auto"


def run(argv: list[str]) -> None:
    from ..evaluation import load_model, predict

    arguments = parse(
        Arguments,
        argv,
        "predict",
        "Labels and calibrated confidences for new data; numbers of pairs; clusters; objects; masks; tags; answers; texts; transcripts.",
    )
    model = load_model(arguments.model)
    _check_out(arguments.out, model.task.wants)
    ears = listener(quiet=arguments.quiet)
    try:
        table = predict(
            model,
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
        write(table, Path(arguments.out), model.task.wants)
        rejected = int(table.schema.metadata[b"rejected"])
        lost = f"; {rejected} row{'s' * (rejected > 1)} could not be read" if rejected else ""
        result = {"rows": table.num_rows, "rejected": rejected, "out": arguments.out}
        emit(result, arguments.json, f"{table.num_rows} predictions in {arguments.out}{lost}")
        return
    rows = table.to_pylist()
    lines = [_line(r) for r in rows[:20]]
    more = [f"... and {len(rows) - 20} more; -o FILE keeps all"] if len(rows) > 20 else []
    emit(rows, arguments.json, "\n".join(lines + more))


def _check_out(out: str | None, wants: str) -> None:
    """RequestError, before anything is computed, where this kind of answer is not written so."""
    accepted = {
        "boxes": (".parquet", ".csv", ".jsonl", ".json"),
        "mask": ("", ".parquet"),
    }.get(wants, (".parquet", ".csv", ".jsonl"))
    if out and Path(out).suffix not in accepted:
        listed = ", ".join(a or "a folder" for a in accepted)
        raise RequestError(f"--out {out}: this kind of file is not written.", f"Accepted: {listed}.")
    if wants == "mask" and not out:
        raise RequestError("Masks are not printed.", "Give -o FOLDER (or -o FILE.parquet).")
    if wants == "mask" and not Path(out or "").suffix and Path(out or "").exists() and any(Path(out or "").iterdir()):
        raise RequestError(f"{out!r} is not empty: masks are not mixed with what is there.", "Give -o a new folder.")


def check_table(out: str | None) -> None:
    """RequestError, before anything is computed, where `out` is no kind of table that is written."""
    _check_out(out, "class")


def _line(row: dict) -> str:
    """One answer on the screen."""
    if "question" in row:
        found = "no answer" if row["answer"] is None else f"{row['answer']} ({row['start']} to {row['stop']})"
        return "\t".join([row["name"], _words(row["question"]), found, _words(row["score"])])
    if "seconds" in row:
        parts = zip(row["label"], row["start"], row["end"], row["confidence"])
        return "\t".join([row["name"], *(f"{k} {a:.2f}-{b:.2f} s ({_words(c)})" for k, a, b, c in parts)])
    if "words" in row:
        spans = zip(row["text"], row["label"], row["start"], row["stop"], row["confidence"])
        return "\t".join([row["name"], *(f"{t} = {k} ({a} to {b}, {_words(c)})" for t, k, a, b, c in spans)])
    if "text" in row:
        return "\t".join([row["name"], row["text"], _words(row["confidence"])])
    if "cluster" in row:
        return "\t".join([row["name"], f"cluster {row['cluster']}", f"distance {_words(row['distance'])}"])
    if "cosine" in row:
        return "\t".join([row["name"], _words(row["label"]), f"cosine {_words(row['cosine'])}"])
    label = str(row["label"]) if isinstance(row["label"], float) else _words(row["label"])
    place = "\t".join(f"{row[k]:.1f}" for k in ("x", "y", "width", "height")) if "width" in row else ""
    return "\t".join(filter(None, [row["name"], label, _words(row["confidence"]), place]))


def _words(value) -> str:
    """A cell for the screen; several labels divided by semicolons."""
    if isinstance(value, list):
        return "; ".join(map(_words, value))
    return "" if value is None else format(value, ".3f") if isinstance(value, float) else str(value)


def write_masks(table, folder: Path) -> None:
    """folder/NAME.png for every row, in the folders of its name."""
    from ..data.folders import type_of

    for row in table.to_pylist():
        name = PurePosixPath(row["name"].replace(":", "-"))
        path = folder / (name.with_suffix(".png") if type_of(name.name) == "image" else f"{name}.png")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise RequestError(f"The name {row['name']!r} leads out of {str(folder)!r}.", "Give -o FILE.parquet.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["mask"])


def coco_results(table) -> list[dict]:
    """COCO's results: image_id, category_id, bbox (left, top, width, height) and score of every object."""
    return [
        {
            "image_id": r["image_id"], "category_id": r["category_id"],
            "bbox": [round(r[k], 2) for k in ("x", "y", "width", "height")], "score": round(r["confidence"], 5),
        }
        for r in table.to_pylist()
    ]  # fmt: skip


def write(table, path: Path, wants: str = "class") -> None:
    """Whole or not at all; masks one file after another."""
    import json
    import os

    if wants == "mask" and not path.suffix:
        write_masks(table, path)
        return
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
    elif path.suffix == ".json":
        beside.write_text(json.dumps(coco_results(table)), "utf-8")
    else:
        beside.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), "utf-8")
    os.replace(beside, path)


def _plain(value):
    """A cell that a spreadsheet does not take for a formula; several labels divided by semicolons."""
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
