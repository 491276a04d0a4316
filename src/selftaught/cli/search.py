"""`selftaught search RUN DATA QUERY...`"""

from dataclasses import dataclass
from typing import Annotated

import tyro

from .arguments import Common, parse
from .outcome import emit
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
    batch: int = 256
    column: str | None = None
    """The column that holds the data, where the guess is wrong."""
    max_bad: float = 0.01
    """Share of rows that may be broken before it is an error."""
    device: str = "auto"


def run(argv: list[str]) -> None:
    from ..evaluation import search

    arguments = parse(Arguments, argv, "search", "The rows of DATA nearest to each query, by cosine; exact.")
    ears = listener(quiet=arguments.quiet)
    try:
        result = search(
            arguments.run, arguments.data, arguments.queries, k=arguments.k, column=arguments.column,
            max_bad=arguments.max_bad, batch=arguments.batch, device=arguments.device, listener=ears,
        )  # fmt: skip
    finally:
        ears.finish()
    blocks = [
        "\n".join([one["query"], *(f"  {hit['score']:+.3f}  {hit['name']}" for hit in one["hits"])])
        for one in result["queries"]
    ]
    emit(result, arguments.json, "\n".join(blocks))
