"""`selftaught demo`"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .arguments import Common, parse
from .evaluate import save, words
from .outcome import emit
from .screen import listener

DESCRIPTION = """The whole story on 1,797 handwritten digits that come with scikit-learn; no network, about a minute on two cores.

Pretrains without labels on four fifths of them, then asks with 5 labels a class whether that helped on the rest, and writes a report."""


@dataclass(kw_only=True)
class Arguments(Common):
    out: str | None = None
    """Where the run goes (default: runs/demo, or the next free name)."""
    method: str | None = None
    seed: int = 0
    draws: int = 10
    """Few-label draws."""


def run(argv: list[str]) -> None:
    import torch

    from .. import modalities, train
    from ..evaluation import evaluate
    from ..report import report

    arguments = parse(Arguments, argv, "demo", DESCRIPTION)
    ears = listener(quiet=arguments.quiet)
    torch.set_num_threads(1)  # pictures of 8 x 8: a second thread waits more than it works
    began = time.perf_counter()
    try:
        done = train.pretrain(
            "digits",
            method=arguments.method,
            seed=arguments.seed,
            holdout=0.2,
            out=arguments.out or _free(),
            listener=ears,
        )
        result = evaluate(
            done.run,
            "digits",
            labels="label",
            budgets=(1, 2, 5),
            draws=arguments.draws,
            seed=arguments.seed,
            listener=ears,
        )
        save(result, str(done.run.folder), None)
        data = modalities.open_data("digits", modality=modalities.load(done.run.encoder))
        page = report(done.run, data, labels="label", seed=arguments.seed, listener=ears)
    finally:
        ears.finish()
    seconds = time.perf_counter() - began
    emit(result, arguments.json, f"{words(result)}\n\n{seconds:.0f} s in all.  Open {page} in a browser.")


def _free() -> Path:
    """runs/demo, or the next name that is not taken; a temporary folder where this one cannot be written."""
    try:
        Path("runs").mkdir(exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="selftaught-")) / "demo"
    names = ("demo", *(f"demo-{n}" for n in range(2, 10_000)))
    return next(Path("runs") / name for name in names if not (Path("runs") / name).exists())
