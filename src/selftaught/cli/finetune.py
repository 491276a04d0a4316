"""`selftaught finetune RUN DATA`"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import tyro

from .arguments import Common, parse, refuse
from .outcome import emit
from .screen import listener

DENSE_ONLY = ("boxes", "ignore", "size")
ROWS_LEARNED = ("balance", "unlabelled", "method")
ROWS_ONLY = (*ROWS_LEARNED, "schedule", "layer_decay", "pool", "curve")
NO_CURVE = (*ROWS_LEARNED, *DENSE_ONLY, "labels_per_class", "out")


@dataclass(kw_only=True)
class Arguments(Common):
    run: Annotated[str, tyro.conf.Positional]
    """A run folder or a saved encoder."""
    data: Annotated[str, tyro.conf.Positional]
    """Labelled data."""
    labels: str | None = None
    """The column of the labels, boxes or masks (default: the one that looks like it, said aloud); multilabel: also columns of 0 and 1, a,b,c or tag_*;
    detect: or the COCO file in the folder."""
    task: str | None = None
    """classify, multilabel, regress, detect or segment (selftaught tasks); default: what the labels are."""
    mode: Literal["head", "full", "gradual", "lora"] = "full"
    """head: a linear read-out of the frozen encoder; full: every parameter, layer-wise rates; gradual: the head first, then one
    layer after another; lora: low-rank adapters."""
    lora: bool = False
    """The same as --mode lora."""
    test: str | None = None
    group: str | None = None
    labels_per_class: int | None = None
    """Use a class-balanced draw of so many (numbers, several labels a row: so many rows)."""
    balance: bool = False
    """Several labels a row: positives of rare classes weigh more."""
    unlabelled: str | None = None
    """Data without labels: predictions on it that are sure enough become labels of the next round.  DATA itself serves where labels are missing or withheld."""
    rounds: int = 3
    """Rounds of pseudo-labels at most; validation chooses how many are kept, none included."""
    confidence: float = 0.9
    """What a calibrated prediction must reach to become a label."""
    method: str | None = None
    """Instead of pseudo-labels: add this pretext task's loss on the rows without labels to the task's (--mode full)."""
    weight: float = 1.0
    """What that loss counts for."""
    epochs: int | None = None
    batch: int | None = None
    """Rows in a step (default: 64; detect and segment 16)."""
    lr: float | None = None
    """Peak learning rate of the head (default: 0.001, with --lora 0.003); layers below learn more slowly."""
    layer_decay: float | None = None
    """Each layer below the head learns at this share of the one above it (default: 0.75; ULMFiT: 0.385)."""
    schedule: Literal["cosine", "one-cycle", "slanted-triangular"] | None = None
    """How the rate rises and falls (default: cosine; one-cycle is Smith's, slanted-triangular ULMFiT's)."""
    pool: Literal["encoder", "concat"] | None = None
    """What the head reads: the encoder's representation (default), or concat: mean, maximum and last token side by side."""
    curve: tuple[int, ...] = ()
    """Instead of a model: the label curve.  The pretrained network and the same one from scratch are both finetuned with so many labels a class
    (numbers: in all), on the same draws, and scored on the same test rows."""
    draws: int = 3
    """Draws a point of the curve."""
    views: Literal["mild", "plain"] = "mild"
    """mild: crops and mirrors; plain: rows as they are, where a mirror image would be of another class (digits, letters)."""
    boxes: Literal["xyxy", "xywh", "cxcywh"] | None = None
    """detect: how a table's boxes are written (default: what the numbers allow, said aloud)."""
    ignore: tuple[int, ...] = ()
    """segment: values of masks that count neither way (255 does without being named)."""
    size: int | None = None
    """detect, segment: shorter side in pixels to which whole pictures are fitted (default: that of pretraining)."""
    seed: int = 0
    column: str | None = None
    """The column that holds the data, where the guess is wrong."""
    max_bad: float = 0.01
    """Share of rows that may be broken before it is an error."""
    device: str = "auto"
    out: str | None = None
    """Where the model folder goes (default: RUN-model)."""


def run(argv: list[str]) -> None:
    from ..evaluation import Finetuned, finetune
    from ..evaluation.dense import finetune_dense, serves
    from ..train import dense
    from ..train.finetune import Plan

    arguments = parse(
        Arguments,
        argv,
        "finetune",
        "Adapts RUN's encoder to a task with the labels of DATA; the test rows are scored once.",
    )
    ears = listener(quiet=arguments.quiet)
    mode = "lora" if arguments.lora else arguments.mode
    shared: dict[str, Any] = {
        "labels": arguments.labels, "test": arguments.test, "mode": mode, "group": arguments.group, "seed": arguments.seed,
        "out": arguments.out or f"{arguments.run.rstrip('/')}-model", "column": arguments.column, "max_bad": arguments.max_bad,
        "device": arguments.device, "listener": ears, "labels_per_class": arguments.labels_per_class,
    }  # fmt: skip
    done: Finetuned
    try:
        if arguments.curve and not serves(arguments.task):
            return _curve(arguments, mode, ears)
        if serves(arguments.task):
            refuse(arguments, ROWS_ONLY, "tasks of whole rows (classify, multilabel, regress)")
            own: dict[str, Any] = {name: getattr(arguments, name) for name in DENSE_ONLY}
            done = finetune_dense(arguments.run, arguments.data, task=str(arguments.task), plan=_plan(arguments, dense.PLAN), **own, **shared)  # fmt: skip
        else:
            refuse(arguments, DENSE_ONLY, "--task detect or segment")
            own = {name: getattr(arguments, name) for name in (*ROWS_LEARNED, "rounds", "confidence", "weight")}
            done = finetune(
                arguments.run, arguments.data, task=arguments.task, pool=arguments.pool or "encoder", plan=_plan(arguments, Plan()),
                **own, **shared,
            )  # fmt: skip
    finally:
        ears.finish()
    result = done.result
    emit(result, arguments.json, _words(result))


def _curve(arguments: Arguments, mode: str, ears) -> None:
    """--curve: the pretrained network and the same one from scratch at several numbers of labels; no model is written."""
    from ..evaluation.label_curve import PLAN, label_curve

    refuse(arguments, NO_CURVE, "a model, not for --curve")
    found = label_curve(
        arguments.run, arguments.data, budgets=arguments.curve, labels=arguments.labels, test=arguments.test, task=arguments.task,
        mode=mode, plan=_plan(arguments, PLAN), pool=arguments.pool or "encoder", draws=arguments.draws, group=arguments.group,  # type: ignore[arg-type]
        seed=arguments.seed, column=arguments.column, max_bad=arguments.max_bad, device=arguments.device, listener=ears,
    )  # fmt: skip
    emit(found, arguments.json, _curve_words(found))


def _curve_words(found: dict) -> str:
    lines = [f"{found['task']} ({found['mode']}), {found['metric']} on {found['test_rows']} test rows"]
    lines.append(f"{'features':<12}{'probe':<10}{'labels/class':>13}{'mean':>9}  95 % interval")
    for row in sorted(found["rows"], key=lambda r: r["labels_per_class"]):
        lines.append(
            f"{row['features']:<12}{row['probe']:<10}{row['labels_per_class']:>13}{row['mean']:>9.3f}  [{row['low']:.3f}, {row['high']:.3f}]"
        )
    for d in found["differences"]:
        lines.append(
            f"{d['a']} - {d['b']} ({d['labels_per_class']} labels a class): {d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]"
        )
    for saved in found["labels_saved"]:
        span = [
            "more than the curve" if v is None else f"{v:.0f}" for v in (saved["needs"], saved["low"], saved["high"])
        ]
        lines.append(
            f"what pretraining does with {saved['labels_per_class']} labels a class takes {span[0]} from scratch [{span[1]}, {span[2]}]"
        )
    return "\n".join(lines)


def _plan(arguments: Arguments, usual):
    asked = {name: getattr(arguments, name) for name in ("epochs", "batch", "lr", "views", "layer_decay", "schedule")}
    asked = {name: value for name, value in asked.items() if value is not None}
    if "epochs" in asked:
        asked["steps"] = 0  # as many as were asked for, however few steps that is
    return replace(usual, **asked)


def _words(result: dict) -> str:
    """The test score first, then what it stands on."""
    test, rows = result["test"], result["rows"]
    lines = [
        f"{result['task']} ({result['mode']}): {result['metric']} {test[result['metric']]:.3f} [{test['low']:.3f}, {test['high']:.3f}] on {rows['test']} test rows",
        f"trained on {rows['train']} rows, {rows['validation']} more chose the epoch or the strength",
    ]
    lines += [f"{name}: {value:.3f}" for name, value in test.items() if name not in (result["metric"], "low", "high")]
    if "semi" in result:
        lines.append(
            f"with {result['semi']['weight']:g} x the loss of {result['semi']['method']} on {result['semi']['unlabelled']} rows without labels"
        )
    lines += _rounds(result["pseudo"], result["metric"]) if "pseudo" in result else []
    if "threshold" in result:
        lines.append(f"a label is given from a probability of {result['threshold']:.3f} on (chosen on validation)")
    if "calibration" in result:
        error = result["calibration"]
        lines.append(f"calibration error of the confidences: {error['before']:.3f} before, {error['after']:.3f} after")
    return "\n".join([*lines, f"model: {result['model']}", f"next: selftaught predict {result['model']} DATA"])


def _rounds(pseudo: dict, metric: str) -> list[str]:
    """What the rounds of pseudo-labels did."""
    lines = [f"{pseudo['unlabelled']} rows without labels; round {pseudo['kept_round']} is kept (best on validation):"]
    for one in pseudo["rounds"]:
        right = "" if one["right"] is None else f", {one['right']:.3f} of those whose label is known are right"
        same = "" if one["agreement"] is None else f", agrees with the round before on {one['agreement']:.3f}"
        lines.append(
            f"  round {one['round']}: {one['taken']} taken{right}; validation {metric} {one['validation'][metric]:.3f}{same}"
        )
    return lines
