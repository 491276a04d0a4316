"""`selftaught finetune RUN DATA`"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import tyro

from ..core.errors import RequestError
from .arguments import Common, parse, refuse
from .outcome import emit
from .screen import listener

ROWS_LEARNED = ("balance", "unlabelled", "method")
ROWS_ONLY = (*ROWS_LEARNED, "schedule", "layer_decay", "pool", "curve", "names")
NO_CURVE = (*ROWS_LEARNED, "labels_per_class", "out")
ROWS_NUMBERS = ("rounds", "confidence", "weight")
PLAN_ONLY = ("smoothing", "dropout")


@dataclass(kw_only=True)
class Arguments(Common):
    run: Annotated[str, tyro.conf.Positional]
    """A run folder or a saved encoder."""
    data: Annotated[str, tyro.conf.Positional]
    """Labelled data."""
    labels: str | None = None
    """The column of the labels, boxes, masks, tags or answers (default: the one that looks like it, said aloud); multilabel: also columns of 0 and 1, a,b,c or tag_*;
    detect: or the COCO file in the folder; tag: of a CoNLL file, the number of the column; translate, summarise: the column of the texts to be written
    (--column names what is read); transcribe: the column of the transcripts; frames: that of the labels, or a table of file, start, end and label."""
    task: str | None = None
    """classify, multilabel, regress, similarity, detect, segment, tag, answer, translate, summarise, transcribe or frames (selftaught tasks); default: what the labels are."""
    mode: Literal["head", "full", "gradual", "lora"] = "full"
    """head: a linear read-out of the frozen encoder; full: every parameter, layer-wise rates; gradual: the head first, then one
    layer after another; lora: low-rank adapters (similarity has no head)."""
    lora: bool = False
    """The same as --mode lora."""
    test: str | None = None
    group: str | None = None
    names: str | None = None
    """Columns from the names of files: "{label}_{speaker}_{take}", with slashes for folders, {} for what is not kept."""
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
    """Rows in a step (default: 64; detect, segment, transcribe and frames 16, tag, answer and similarity 32)."""
    lr: float | None = None
    """Peak learning rate of the head (default: 0.001, with lora 0.003; transcribe, below 5 million parameters: 0.003; similarity: of the top layer); layers below learn more slowly."""
    layer_decay: float | None = None
    """Each layer below the head learns at this share of the one above it (default: 0.75; ULMFiT: 0.385)."""
    schedule: Literal["cosine", "one-cycle", "slanted-triangular"] | None = None
    """How the rate rises and falls (default: cosine; one-cycle is Smith's, slanted-triangular ULMFiT's)."""
    pool: Literal["encoder", "concat", "weighted"] | None = None
    """What the head reads: the encoder's representation (default); concat: mean, maximum and last token side by side; weighted: a learned mixture of all stages."""
    curve: tuple[int, ...] = ()
    """Instead of a model: the label curve.  The pretrained network and the same one from scratch are both finetuned with so many labels a class
    (numbers: in all; transcribe, frames: clips), on the same draws, and scored on the same test rows."""
    draws: int = 3
    """Draws a point of the curve."""
    views: Literal["mild", "plain", "masked", "augment"] | None = None
    """mild: crops and mirrors; plain: rows as they are, where a mirror image would be of another class (digits, letters); masked, of sounds: bands and stretches
    of time hidden as well (SpecAugment); augment: changed as strongly as in pretraining (clips for transcribe and
    frames: another voice, room and microphone).  Default: mild; transcribe: augment."""
    boxes: Literal["xyxy", "xywh", "cxcywh"] | None = None
    """detect: how a table's boxes are written (default: what the numbers allow, said aloud)."""
    ignore: tuple[int, ...] = ()
    """segment: values of masks that count neither way (255 does without being named)."""
    size: int | None = None
    """detect, segment: shorter side in pixels to which whole pictures are fitted (default: that of pretraining)."""
    beams: int | None = None
    """translate, summarise: answers that are followed side by side while writing (default: 4; 1 is greedy); transcribe: prefixes (default: 8)."""
    length_penalty: float | None = None
    """translate, summarise: above 1 favours longer answers (default: 1)."""
    longest: int | None = None
    """translate, summarise: tokens of an answer at most (default: what the targets need)."""
    upsample: int | None = None
    """transcribe: frames that are made of each token, where tokens are fewer than characters (default: 1)."""
    normaliser: Literal["simple", "none"] | None = None
    """transcribe: what both sides go through: simple (default) is lowercase, no punctuation, single spaces."""
    smoothing: float | None = None
    """translate, summarise: label smoothing (default: 0.1)."""
    dropout: float | None = None
    """tag, answer, translate, summarise: dropout while finetuning (default: 0.1)."""
    seed: int = 0
    column: str | None = None
    """The column that holds the data, where the guess is wrong; similarity: the two of a pair, sentence1,sentence2."""
    max_bad: float = 0.01
    """Share of rows that may be broken before it is an error."""
    device: str = "auto"
    out: str | None = None
    """Where the model folder goes (default: RUN-model)."""


def run(argv: list[str]) -> None:
    from ..evaluation import Finetuned, finetune
    from ..evaluation.served import service
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
        served = service(arguments.task)
        _refuse(arguments, served)
        if arguments.curve:
            return _curve(arguments, mode, served, ears)
        usual = Plan() if served is None else served.plan
        names = (*ROWS_LEARNED, *ROWS_NUMBERS) if served is None else served.options
        own: dict[str, Any] = {name: getattr(arguments, name) for name in names}
        if served is None or "pool" in served.also:
            own["pool"] = arguments.pool or "encoder"
        if served is None:
            own["names"] = arguments.names
        way = finetune if served is None else served.finetune
        done = way(arguments.run, arguments.data, task=arguments.task, plan=_plan(arguments, usual), **own, **shared)
    finally:
        ears.finish()
    result = done.result
    emit(result, arguments.json, _words(result))


def _curve(arguments: Arguments, mode: str, served, ears) -> None:
    """--curve: the pretrained network and the same one from scratch at several numbers of labels; no model is written."""
    from ..evaluation.label_curve import PLAN, label_curve

    refuse(arguments, NO_CURVE, "a model, not for --curve")
    way, usual = (label_curve, PLAN) if served is None else (served.draw_curve, served.plan)
    own = {name: getattr(arguments, name) for name in (("names",) if served is None else served.options)}
    found = way(
        arguments.run, arguments.data, budgets=arguments.curve, labels=arguments.labels, test=arguments.test, task=arguments.task,
        mode=mode, plan=_plan(arguments, usual), pool=arguments.pool or "encoder", draws=arguments.draws, group=arguments.group,  # type: ignore[arg-type]
        seed=arguments.seed, column=arguments.column, max_bad=arguments.max_bad, device=arguments.device, listener=ears, **own,
    )  # fmt: skip
    emit(found, arguments.json, _curve_words(found))


def _curve_words(found: dict) -> str:
    unit = found.get("unit", "labels/class")
    lines = [f"{found['task']} ({found['mode']}), {found['metric']} on {found['test_rows']} test rows"]
    lines[0] += " (lower is better)" * found.get("lower_is_better", False)
    lines.append(f"{'features':<12}{'probe':<10}{unit:>13}{'mean':>9}  95 % interval")
    for row in sorted(found["rows"], key=lambda r: r["labels_per_class"]):
        lines.append(
            f"{row['features']:<12}{row['probe']:<10}{row['labels_per_class']:>13}{row['mean']:>9.3f}  [{row['low']:.3f}, {row['high']:.3f}]"
        )
    for d in found["differences"]:
        lines.append(
            f"{d['a']} - {d['b']} ({d['labels_per_class']} {unit.replace('/', ' a ')}): {d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]"
        )
    lines += [found["sentence"]] if "sentence" in found else []
    for saved in found["labels_saved"]:
        span = [
            "more than the curve" if v is None else f"{v:.0f}" for v in (saved["needs"], saved["low"], saved["high"])
        ]
        lines.append(
            f"what pretraining does with {saved['labels_per_class']} labels a class takes {span[0]} from scratch [{span[1]}, {span[2]}]"
        )
    return "\n".join(lines)


def _plan(arguments: Arguments, usual):
    asked = {
        name: getattr(arguments, name)
        for name in ("epochs", "batch", "lr", "views", "layer_decay", "schedule", *PLAN_ONLY)
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    for name in PLAN_ONLY:
        if name in asked and not hasattr(usual, name):
            told = "tag, answer, translate or summarise" if name == "dropout" else "translate or summarise"
            raise RequestError(f"--{name} is for --task {told}.", "Leave it out, or name such a task.")
    if "epochs" in asked:
        asked["steps"] = 0  # as many as were asked for, however few steps that is
    return replace(usual, **asked)


def _refuse(arguments: Arguments, served) -> None:
    """RequestError for flags that have a meaning for other tasks only."""
    from ..evaluation.served import SERVICES, tasks_of

    for name in {option for one in SERVICES.values() for option in one.options}:
        if getattr(arguments, name) not in (None, ()) and (served is None or name not in served.options):
            raise RequestError(
                f"--{name.replace('_', '-')} is for --task {' or '.join(tasks_of(name))}.",
                "Leave it out, or name such a task with --task.",
            )
    if arguments.views in ("masked", "augment") and served is not None and "views" not in served.also:
        raise RequestError(
            f"--views {arguments.views} means nothing for --task {arguments.task}.", "Take mild or plain."
        )
    if served is not None:
        refuse(
            arguments,
            tuple(n for n in ROWS_ONLY if n not in served.also),
            "tasks of whole rows (classify, multilabel, regress)",
        )


def _words(result: dict) -> str:
    """The test score first, then what it stands on."""
    test, rows = result["test"], result["rows"]
    lines = [
        f"{result['task']} ({result['mode']}): {result['metric']} {test[result['metric']]:.3f} [{test['low']:.3f}, {test['high']:.3f}] on {rows['test']} test rows",
        f"trained on {rows['train']} rows, {rows['validation']} more chose the epoch or the strength",
    ]
    lines += [f"{name}: {value:.3f}" for name, value in test.items() if name not in (result["metric"], "low", "high")]
    lines[0] += " (lower is better)" * result.get("lower_is_better", False)
    lines += _sound(result)
    lines += _beside(result, "frozen", "") + _beside(result, "blind", "blind, ") + _copies(result)
    lines += [f"  {e['source'][:80]} -> {e['written'][:80]}" for e in result.get("examples", ())]
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


def _sound(result: dict) -> list[str]:
    """What is to be said of a model that listens: stages, clips that could not be learned or spelled, a collapse."""
    lines = []
    if "stages" in result:
        lines.append("shares of the stages, from the input on: " + ", ".join(f"{s:.3f}" for s in result["stages"]))
    if result["rows"].get("too_short"):
        lines.append(f"{result['rows']['too_short']} training clips had fewer frames than characters and were left out")
    if result.get("too_short_to_spell"):
        lines.append(f"{result['too_short_to_spell']} test clips have fewer frames than their transcripts need")
    if result.get("unknown_characters"):
        lines.append(f"{result['unknown_characters']} characters of the test transcripts were never seen in training")
    return lines + ([result["collapse"]] if "collapse" in result else [])


def _beside(result: dict, kind: str, word: str) -> list[str]:
    """The rows that the model is set against, and by how much it is better."""
    lines = []
    sign = -1 if result.get("lower_is_better") else 1
    for row in result.get(kind, ()):
        less = {name: sign * value + 0.0 for name, value in row["difference"].items()}  # -0.0 becomes 0.0
        low, high = sorted((less["low"], less["high"]))
        lines.append(
            f"{word}{row['name']}: {row[result['metric']]:.3f} [{row['low']:.3f}, {row['high']:.3f}]; "
            f"the model is better by {less['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"
        )
    return lines


def _copies(result: dict) -> list[str]:
    """What the test rows share with those that were learned from, and what had to be repaired in the answers."""
    copies, repaired, repeated = result.get("copies"), result.get("repaired"), result.get("repeated")
    lines = [f"{copies} test rows are copies of training rows"] * bool(copies)
    lines += [f"{repeated} test pairs share a text with the training pairs"] * bool(repeated)
    return lines + [f"in {repaired} test sentences the likeliest tags were no sequence of spans: the likeliest such sequence is taken"] * bool(repaired)  # fmt: skip


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
