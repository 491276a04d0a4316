"""`selftaught compare DATA`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .arguments import Common, parse
from .evaluate import shelf_encoder
from .outcome import emit
from .screen import listener

DESCRIPTION = """Which pretext task for these data?  Pretrains each on DATA for the same time and tells which to take.

The choice is made with few labels, on rows that no read-out was fitted on; the table comes from test rows that chose nothing.  The same command
goes on where it was interrupted."""


@dataclass(kw_only=True)
class Arguments(Common):
    data: Annotated[str, tyro.conf.Positional]
    """Data of which some rows have a label."""
    labels: str | None = None
    """The column of the labels (default: the one that looks like it, said aloud)."""
    methods: str | None = None
    """Names divided by commas, or by spaces where they have options: "simclr simclr:temperature=0.2 byol"."""
    minutes: float = 4.0
    """For each method that comes to the end."""
    steps: int | None = None
    """Steps instead of minutes."""
    seeds: int = 1
    """Runs of each method that comes to the end."""
    seed: int = 0
    whole: bool = False
    """Every method runs its whole time; else the field is halved at a quarter and at a half."""
    out: str = "comparison"
    """A folder for the runs, compare.json and compare.html."""
    choose_with: int = 500
    """Labelled rows that the choice uses, at most."""
    holdout: float = 0.2
    """Share of the rows that is tested and never pretrained on."""
    test: str | None = None
    """A test set of your own, in the place of the share."""
    budgets: tuple[int, ...] = ()
    """Labels a class of the linear probes in the table, beside all (default: the one of a verdict)."""
    draws: int = 10
    """Few-label draws on the test rows."""
    all_labels: bool = False
    """A probe of all labels in the table too."""
    shelf: tuple[str, ...] = ()
    """Encoders off the shelf to set beside: transformers:FOLDER, a run folder, ..."""
    encoder: str | None = None
    """The encoder that every method trains (default: each method's own)."""
    group: str | None = None
    """The column of what must stay together (patient, session, document)."""
    names: str | None = None
    """Columns from the names of files: "{label}_{speaker}_{take}", with slashes for folders, {} for what is not kept."""
    task: str | None = None
    """classify or regress (default: by the labels)."""
    column: str | None = None
    """The column that holds the data, where the guess is wrong."""
    max_bad: float = 0.01
    """Share of rows that may be broken before it is an error."""
    size: int | None = None
    """Side to which pictures are brought (default: chosen, and said)."""
    device: str = "auto"


def run(argv: list[str]) -> None:
    from ..evaluation import compare
    from ..report import comparison

    a = parse(Arguments, argv, "compare", DESCRIPTION)
    methods = None
    if a.methods:
        methods = a.methods.split() if ":" in a.methods else a.methods.replace(",", " ").split()
    ears = listener(quiet=a.quiet)
    try:
        result = compare(
            a.data, labels=a.labels, methods=methods, minutes=a.minutes, steps=a.steps, seeds=a.seeds, seed=a.seed, out=a.out,
            whole=a.whole, holdout=a.holdout, choose_with=a.choose_with, draws=a.draws, group=a.group, task=a.task,
            shelf={name: shelf_encoder(name) for name in a.shelf}, column=a.column, max_bad=a.max_bad, size=a.size,
            encoder=a.encoder, device=a.device, all_labels=a.all_labels, names=a.names, listener=ears,
        )  # fmt: skip
    finally:
        ears.finish()
    page = comparison(result, Path(a.out) / "compare.html", title=f"Pretext tasks on {Path(a.data).name}")
    emit(result, a.json, f"{words(result)}\n\nOpen {page} in a browser.")


def words(result: dict) -> str:
    """The few-label scores as they fell, the table of test rows, the recommendation last."""
    lines = [f"few-label choice, {result['chosen_with']} rows ({result['metric']})"]
    lines.append(f"{'arm':<28}{result['unit']:>9}{'seconds':>9}{'score':>8}  95 % interval")
    for c in sorted(result["choice"], key=lambda c: (c["budget"], -c.get("mean", -1e9))):
        score = f"{c['mean']:>8.3f}  [{c['low']:.3f}, {c['high']:.3f}]" if "mean" in c else f"  failed: {c['failed']}"
        lines.append(f"{c['arm']:<28}{c['budget']:>9g}{c.get('seconds', 0):>9.0f}{score}")
    lines += ["", f"on {result['test_rows']} test rows"]
    lines.append(f"{'features':<28}{'probe':<9}{'labels/class':>13}{'mean':>9}  95 % interval")
    for row in result["rows"]:
        span = f"[{row['low']:.3f}, {row['high']:.3f}]"
        name = row["features"] if row["layer"] == "last" else f"{row['features']} (stage {row['layer']})"
        lines.append(f"{name:<28}{row['probe']:<9}{row['labels_per_class']!s:>13}{row['mean']:>9.3f}  {span}")
    return "\n".join([*lines, "", result["recommendation"]["sentence"]])
