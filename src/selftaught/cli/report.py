"""`selftaught report RUN [DATA]`"""

from dataclasses import dataclass
from typing import Annotated

import tyro

from .arguments import Common, parse
from .outcome import emit
from .screen import listener


@dataclass(kw_only=True)
class Arguments(Common):
    run: Annotated[str, tyro.conf.Positional]
    """A run folder."""
    data: Annotated[str | None, tyro.conf.Positional] = None
    """What to draw the map and the neighbours from (default: the run's own data, where they are still there)."""
    labels: str | None = None
    """A column that colours the points."""
    out: str | None = None
    """Where to write (default: report.html in the run's folder)."""
    seed: int = 0


def run(argv: list[str]) -> None:
    from .. import modalities
    from ..core.errors import SelftaughtError
    from ..nets import store
    from ..report import report
    from ..train import Run

    arguments = parse(
        Arguments,
        argv,
        "report",
        "One offline HTML page about a run: verdict, curves, map, neighbours, what the network saw.",
    )
    ears = listener(quiet=arguments.quiet)
    described = Run.open(arguments.run)
    source = arguments.data or described.config().get("data")
    data = None
    try:
        if source and source != "python object":
            try:
                data = modalities.open_data(
                    source,
                    modality=modalities.load(store.find(described.folder)),
                    names=described.config().get("names"),
                    max_bad=1.0,  # a page to look at leaves unreadable rows out and says so
                    say=ears.say,
                )
            except SelftaughtError as error:
                if arguments.data:
                    raise
                ears.say(f"no map and no neighbours: {error.message}")
        place = report(described, data, labels=arguments.labels, out=arguments.out, seed=arguments.seed, listener=ears)
    finally:
        ears.finish()
    emit({"report": str(place)}, arguments.json, f"report: {place}")
