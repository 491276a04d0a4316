"""`report` and `comparison`: one offline HTML page about a run, or about a comparison of methods."""

from pathlib import Path

from ..core.listener import Listener
from ..evaluation import embed
from ..nets import store
from ..train import Run
from ..train.run import write_text
from . import atlas as atlases
from .comparison import comparison
from .page import page

__all__ = ["comparison", "report"]


def report(
    run: str | Path | Run,
    data=None,
    *,
    labels: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    listener: Listener | None = None,
) -> Path:
    """Writes report.html into the run's folder (or `out`) and returns its path.

    data: a Dataset to draw the map and neighbours from (its labels, where it has a column `labels`, only colour the points).
    """
    run = run if isinstance(run, Run) else Run.open(run)
    evaluation = run.read_json("evaluation.json") if (run.folder / "evaluation.json").exists() else None
    atlas = None
    if data is not None:
        index = atlases.sample(len(data), seed)
        chosen = data.subset(index)
        encoder = store.load_encoder(run.encoder)
        names = None
        if labels is not None:
            found = chosen.labels(labels)
            names = found.words() if found.classes is not None else None
        atlas = atlases.build(embed(encoder, chosen), data, index, names, seed=seed)
    place = Path(out) if out else run.folder / "report.html"
    write_text(place, page(run, evaluation, atlas))
    return place
