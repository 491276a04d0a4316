"""`selftaught search RUN DATA QUERY...`"""

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
    """What is searched: data, or what `selftaught embed` wrote of it."""
    queries: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Files or tables (each row asks), rows of DATA as row:17, or words where the data are text."""
    k: Annotated[int, tyro.conf.arg(aliases=("-k",))] = 10
    """Rows that are found for each query."""
    out: Annotated[str | None, tyro.conf.arg(aliases=("-o",))] = None
    """A .parquet, .csv or .jsonl file: a line a query and hit, with its rank and score."""
    batch: int = 256
    column: str | None = None
    """The column that holds the data, where the guess is wrong."""
    query_column: str | None = None
    """The column that asks, where queries are tables and the guess is wrong."""
    max_bad: float = 0.01
    """Share of rows that may be broken before it is an error."""
    device: str = "auto"


def run(argv: list[str]) -> None:
    from ..evaluation import search

    arguments = parse(Arguments, argv, "search", "The rows of DATA nearest to each query, by cosine; exact.")
    check_table(arguments.out)
    ears = listener(quiet=arguments.quiet)
    try:
        result = search(
            arguments.run, arguments.data, arguments.queries, k=arguments.k, column=arguments.column,
            query_column=arguments.query_column, max_bad=arguments.max_bad, batch=arguments.batch, device=arguments.device, listener=ears,
        )  # fmt: skip
    finally:
        ears.finish()
    if arguments.out:
        table = hits_table(result)
        write(table, Path(arguments.out))
        said = {"queries": len(result["queries"]), "hits": table.num_rows, "out": arguments.out}
        return emit(said, arguments.json, f"{table.num_rows} hits of {said['queries']} queries in {arguments.out}")
    blocks = [
        "\n".join([one["query"], *(f"  {hit['score']:+.3f}  {hit['name']}  {hit.get('text', '')}".rstrip() for hit in one["hits"])])
        for one in result["queries"]
    ]  # fmt: skip
    emit(result, arguments.json, "\n".join(blocks))


def hits_table(result: dict):
    """One line a query and hit: query (its number), asked (its name or words), rank from 1, row, name, score, and text where rows are texts."""
    import pyarrow as pa

    lines = [
        {"query": number, "asked": one["query"], "rank": rank, **hit}
        for number, one in enumerate(result["queries"])
        for rank, hit in enumerate(one["hits"], 1)
    ]
    return pa.Table.from_pylist(lines)
