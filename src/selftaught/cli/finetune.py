"""`selftaught finetune RUN DATA`"""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from .arguments import Common, parse
from .outcome import emit
from .screen import listener


@dataclass(kw_only=True)
class Arguments(Common):
    run: Annotated[str, tyro.conf.Positional]
    """A run folder or a saved encoder."""
    data: Annotated[str, tyro.conf.Positional]
    """Labelled data."""
    labels: str | None = None
    """The column of the labels (default: the one that looks like it, said aloud)."""
    task: str | None = None
    """classify or regress (selftaught tasks)."""
    mode: Literal["head", "full", "lora"] = "full"
    """head: a linear read-out of the frozen encoder; full: every parameter, layer-wise rates; lora: low-rank adapters."""
    lora: bool = False
    """The same as --mode lora."""
    test: str | None = None
    group: str | None = None
    labels_per_class: int | None = None
    """Use a class-balanced draw of so many."""
    epochs: int | None = None
    seed: int = 0
    device: str = "auto"
    out: str | None = None
    """Where the model folder goes (default: RUN-TASK)."""


def run(argv: list[str]) -> None:
    from ..evaluation import finetune
    from ..train.finetune import Plan

    arguments = parse(
        Arguments,
        argv,
        "finetune",
        "Adapts RUN's encoder to a task with the labels of DATA; the test rows are scored once.",
    )
    ears = listener(quiet=arguments.quiet)
    plan = Plan() if arguments.epochs is None else Plan(epochs=arguments.epochs)
    try:
        done = finetune(
            arguments.run, arguments.data, labels=arguments.labels, test=arguments.test, task=arguments.task,
            mode="lora" if arguments.lora else arguments.mode, group=arguments.group, labels_per_class=arguments.labels_per_class,
            plan=plan, out=arguments.out or f"{arguments.run.rstrip('/')}-model", seed=arguments.seed,
            device=arguments.device, listener=ears,
        )  # fmt: skip
    finally:
        ears.finish()
    result = done.result
    lines = [
        f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}" for name, value in result.items()
    ]
    emit(result, arguments.json, "\n".join([*lines, f"next: selftaught predict {result['model']} DATA"]))
