"""`selftaught cluster RUN DATA`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .arguments import Common, parse
from .outcome import emit
from .predict import check_table, write
from .screen import listener


@dataclass(kw_only=True)
class Arguments(Common):
    run: Annotated[str, tyro.conf.Positional]
    """A run folder or a saved encoder."""
    data: Annotated[str, tyro.conf.Positional]
    """What is clustered: data, or what `selftaught embed` wrote of it."""
    clusters: Annotated[int | None, tyro.conf.arg(aliases=("-k",))] = None
    """How many clusters (default: of 2 to 30, as many as the mean silhouette finds best)."""
    out: Annotated[str | None, tyro.conf.arg(aliases=("-o",))] = None
    """A .parquet, .csv or .jsonl file with each row's cluster and its distance from the centre."""
    save: str | None = None
    """A folder for the model: selftaught predict FOLDER DATA gives further rows their clusters."""
    seed: int = 0
    batch: int = 256
    column: str | None = None
    """The column that holds the data, where the guess is wrong."""
    names: str | None = None
    """Columns from the names of files: "{label}_{speaker}_{take}"."""
    max_bad: float = 0.01
    """Share of rows that may be broken before it is an error."""
    device: str = "auto"


def run(argv: list[str]) -> None:
    from ..evaluation import cluster

    arguments = parse(Arguments, argv, "cluster", "Rows in groups of like representations, and what each is about.")
    check_table(arguments.out)
    ears = listener(quiet=arguments.quiet)
    try:
        found = cluster(
            arguments.run, arguments.data, clusters=arguments.clusters, seed=arguments.seed, column=arguments.column, names=arguments.names,
            max_bad=arguments.max_bad, batch=arguments.batch, device=arguments.device, listener=ears,
        )  # fmt: skip
    finally:
        ears.finish()
    result = found.plain()
    if arguments.save:
        result["model"] = str(found.model.save(arguments.save))
    if arguments.out:
        write(found.table, Path(arguments.out))
        result["out"] = arguments.out
    else:
        result["assigned"] = found.table.to_pylist()
    emit(result, arguments.json, _words(result))


def _words(result: dict) -> str:
    """A block a cluster: its size, its words, the rows nearest its centre."""
    blocks = []
    for one in result["clusters"]:
        head = f"cluster {one['cluster']}: {one['rows']} rows, mean distance {one['distance']:.3f}"
        lines = [head + (f"; {', '.join(one['words'])}" if one.get("words") else "")]
        lines += [f"  {e['distance']:.3f}  {e['name']}  {e.get('text', '')}".rstrip() for e in one["examples"]]
        blocks.append("\n".join(lines))
    said = f"{result['rows']} rows in {result['out']}" if "out" in result else "-o FILE keeps each row's cluster"
    kept = [f"further rows: selftaught predict {result['model']} DATA"] if "model" in result else []
    return "\n".join([*blocks, said, *kept])
