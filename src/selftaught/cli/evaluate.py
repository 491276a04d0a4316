"""`selftaught evaluate RUN DATA`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from .arguments import Common, parse, refuse
from .outcome import emit
from .screen import listener

DESCRIPTION = """Did pretraining help?  Probes RUN's encoder on labelled DATA beside fixed controls and ends in a verdict.

The labels are read here and nowhere earlier.  The verdict's contrast is fixed beforehand: docs/protocol.md."""


@dataclass(kw_only=True)
class Arguments(Common):
    run: Annotated[str, tyro.conf.Positional]
    """A run folder or a saved encoder; several, divided by commas, are seeds of one pretraining (--split leave-one-out: runs that left out a group each)."""
    data: Annotated[str, tyro.conf.Positional]
    """Labelled data (texts without labels for --task language-model)."""
    labels: str | None = None
    """The column of the labels (default: the one that looks like it, said aloud)."""
    test: str | None = None
    """Test data of your own; else a fifth of DATA is held out."""
    group: str | None = None
    """The column of what must stay together (patient, session, document)."""
    names: str | None = None
    """Columns from the names of files: "{label}_{speaker}_{take}", with slashes for folders, {} for what is not kept."""
    split: str | None = None
    """holdout (default); or leave-one-out: each group (speaker, patient, site) is tested by read-outs that were fitted on the others."""
    task: str | None = None
    """classify, multilabel or regress, where the guess is wrong; similarity: numbers for pairs of texts; language-model: bits per byte of a language
    model's run, no labels; verify: whether two clips are of one speaker (--group names the column of speakers)."""
    columns: tuple[str, ...] = ()
    """similarity: the two columns of a pair (default: the two that hold texts)."""
    layer: str | None = None
    """last, all, or a stage's number (default: all for predictive and generative methods, which peak before their end, else last)."""
    budgets: tuple[int, ...] = ()
    """Labels a class of the label curve."""
    draws: int = 10
    """Few-label draws, the same for every arm."""
    seeds: int = 5
    """Untrained networks that are drawn."""
    seed: int = 0
    controls: tuple[str, ...] = ()
    """Of blind, raw, untrained, scratch; of texts also tf-idf and fasttext, of sounds log-mel and random-filters."""
    shelf: tuple[str, ...] = ()
    """Encoders off the shelf to set beside: transformers:FOLDER, a run folder, ..."""
    robustness: bool = False
    """The verdict's read-outs on noisy, blurred, re-encoded and recoloured test rows too."""
    pretraining: str | None = None
    """What RUN was pretrained on, where that is other data: searched for copies of test rows."""
    column: str | None = None
    """The column that holds the data, where the guess is wrong."""
    max_bad: float = 0.01
    """Share of rows that may be broken before it is an error."""
    device: str = "auto"
    out: str | None = None
    """Where to write the result (default: evaluation.json in the run's folder)."""


ROWS_ONLY = ("layer", "group", "split", "budgets", "controls", "robustness", "pretraining", "column", "names")
NOT_SPEAKERS = ("layer", "split", "names", "budgets", "controls", "robustness", "pretraining", "columns")


def run(argv: list[str]) -> None:
    from ..evaluation import evaluate
    from ..evaluation import verify as speakers
    from ..evaluation.similarity import serves, similarity

    arguments = parse(Arguments, argv, "evaluate", DESCRIPTION)
    runs = arguments.run.split(",")
    ears = listener(quiet=arguments.quiet)
    if serves(arguments.task):
        refuse(arguments, ROWS_ONLY, "tasks of rows, not of pairs")
        try:
            result = similarity(
                runs, arguments.data, labels=arguments.labels, test=arguments.test, columns=arguments.columns, seeds=arguments.seeds,
                seed=arguments.seed, shelf={name: shelf_encoder(name) for name in arguments.shelf}, max_bad=arguments.max_bad,
                device=arguments.device, listener=ears,
            )  # fmt: skip
        finally:
            ears.finish()
        save(result, runs[0], arguments.out)
        emit(result, arguments.json, words(result))
        return
    refuse(arguments, ("columns",), "--task similarity")
    if speakers.serves(arguments.task):
        return _verify(arguments, runs, ears)
    layer = layer_of(arguments.layer)
    options = {k: getattr(arguments, k) for k in ("budgets", "controls") if getattr(arguments, k)}
    try:
        result = evaluate(
            runs if len(runs) > 1 else runs[0], arguments.data, labels=arguments.labels, test=arguments.test, layer=layer,
            draws=arguments.draws, seeds=arguments.seeds, seed=arguments.seed, group=arguments.group, split=arguments.split or "holdout", task=arguments.task,
            shelf={name: shelf_encoder(name) for name in arguments.shelf}, pretraining=arguments.pretraining,
            robustness=arguments.robustness,
            column=arguments.column, max_bad=arguments.max_bad, names=arguments.names, device=arguments.device, listener=ears, **options,
        )  # fmt: skip
    finally:
        ears.finish()
    scored = result["task"] == "language-model"
    save(result, runs[0], arguments.out, "language-model.json" if scored else "evaluation.json")
    emit(result, arguments.json, (language_words if scored else left_out_words if "folds" in result else words)(result))


def _verify(arguments: Arguments, runs: list[str], ears) -> None:
    """--task verify: the result, and beside it the list of trials."""
    from ..evaluation.verify import verify
    from ..train.run import write_text

    refuse(arguments, NOT_SPEAKERS, "tasks of rows, not of pairs of clips")
    try:
        result, trials = verify(
            runs, arguments.data, group=arguments.group, labels=arguments.labels, test=arguments.test, seeds=arguments.seeds, seed=arguments.seed,
            shelf={name: shelf_encoder(name) for name in arguments.shelf}, column=arguments.column, max_bad=arguments.max_bad,
            device=arguments.device, listener=ears,
        )  # fmt: skip
    finally:
        ears.finish()
    place = Path(arguments.out) if arguments.out else Path(runs[0]) / "verification.json"
    listed = place.with_name(f"{place.stem}-trials.tsv")
    write_text(listed, "first\tsecond\tsame\n" + "".join(f"{a}\t{b}\t{int(s)}\n" for a, b, s in trials))
    result["trials"]["list"] = str(listed)
    save(result, runs[0], str(place))
    emit(result, arguments.json, words(result))


def layer_of(text: str | None) -> Any:
    """A stage's number where it is one; words and None as they are."""
    return int(text) if text is not None and text.lstrip("-").isdigit() else text


def shelf_encoder(name: str):
    """An encoder off the shelf, with its modality where it brings one: a folder that selftaught wrote; or what `nets.parse` understands."""
    from .. import modalities, nets
    from ..nets import store

    if Path(name).is_dir():
        home = store.find(name)
        return store.load_encoder(home), modalities.load(home)
    kind, options = nets.parse(name)
    return nets.build(kind, **options)


def language_words(result: dict) -> str:
    """The figures of a language model as a table, the sentence last."""
    lines = [f"{'':<14}{result['metric']:>22}  {'95 % interval':<20}{'perplexity':>12}"]
    for row in result["rows"]:
        span = f"[{row['low']:.3f}, {row['high']:.3f}]"
        lines.append(f"{row['features']:<14}{row['mean']:>22.3f}  {span:<20}{row['perplexity']:>12.1f}")
    d = result["differences"][0]
    lines.append(f"{d['a']} - {d['b']}: {d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]")
    return "\n".join([*lines, "", result["sentence"]])


def save(result: dict, folder: str, out: str | None, name: str = "evaluation.json") -> None:
    """Writes the result beside the run, so that report, runs and export find it."""
    import json

    from ..train.run import write_text

    place = Path(out) if out else Path(folder) / name
    write_text(place, json.dumps(result, indent=1, default=str) + "\n")


def _beside(result: dict) -> list[str]:
    """Figures that decide nothing: the probe's others, and retrieval."""
    lines = [
        f"{one['features']}: " + ", ".join(f"{k} {v:.3f}" for k, v in one.items() if isinstance(v, float))
        for one in result.get("figures", []) if one["features"] == "pretrained"
    ]  # fmt: skip
    lines += [
        f"cluster {one['cluster']} ({one['rows']} test rows, {one['share']:.0%} {one['class']}): {', '.join(one['words'])}"
        for one in result.get("topics", [])[:20]
    ]
    found = [one for one in result.get("retrieval", []) if one["metric"] in ("map@r", "recall@1")]
    for metric in dict.fromkeys(one["metric"] for one in found):
        some = [one for one in found if one["metric"] == metric]
        said = ", ".join(f"{one['features']} {one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" for one in some)
        lines.append(f"retrieval {metric}, {some[0]['queries']} queries among {some[0]['gallery']} rows: {said}")
    return lines


def words(result: dict) -> str:
    """The scores as a table, the differences, the verdict last."""
    lower = " (lower is better)" * result.get("lower_is_better", False)
    lines = [f"{result['task']}, {result['metric']}{lower}", *_scores(result), *_beside(result)]
    leak = result["leakage"]
    lines.append(
        f"test rows: {result['test_rows']}, of which pretraining saw {leak['seen_in_pretraining']} (without labels)"
    )
    near = "near ones not searched" if leak["near"] is None else f"{leak['near']} near"
    lines.append(f"test rows with a copy among the rows that were learned from: {leak['exact']} exact, {near}")
    if "stages" in result:
        lines.append(result["stages"]["sentence"])
    if "robustness" in result:
        lines += ["", *spoiled(result["robustness"]), result["robustness"]["sentence"]]
    lines.append(f"\nverdict: {result['verdict']['answer']}\n{result['verdict']['sentence']}")
    if "start" in result:
        lines.append(f"\nagainst its start: {result['start']['answer']}\n{result['start']['sentence']}")
    return "\n".join(lines)


def _scores(result: dict) -> list[str]:
    """The scores as a table, then the paired differences."""
    lines = [f"{'features':<22}{'probe':<10}{'layer':<7}{'labels/class':>13}{'mean':>9}  95 % interval"]
    for row in result["rows"]:
        span = f"[{row['low']:.3f}, {row['high']:.3f}]"
        lines.append(
            f"{row['features']:<22}{row['probe']:<10}{row['layer']!s:<7}{row['labels_per_class']!s:>13}{row['mean']:>9.3f}  {span}"
        )
    lines.append("")
    for d in result["differences"]:
        lines.append(
            f"{d['a']} - {d['b']} ({d['probe']}, {d['labels_per_class']} labels): {d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]"
        )
    return lines


def left_out_words(result: dict) -> str:
    """The scores over all groups, a column a group for the probe of all labels, what a split by rows claims, the verdict last."""
    lines = [f"{result['task']}, {result['metric']}; each {result['group']} left out once", *_scores(result), ""]
    cells = [c for c in result["folds"] if (c["probe"], c["labels_per_class"]) in (("linear", "all"), ("finetune", "all"))]  # fmt: skip
    names = list(dict.fromkeys(c["fold"] for c in cells))
    wide = [max(9, len(name) + 2) for name in names]
    lines.append(f"{'all labels, by ' + result['group']:<22}" + "".join(f"{n:>{w}}" for n, w in zip(names, wide)))
    for arm in dict.fromkeys(c["features"] for c in cells):
        own = {c["fold"]: c["mean"] for c in cells if c["features"] == arm}
        lines.append(f"{arm:<22}" + "".join(f"{own[n]:>{w}.3f}" for n, w in zip(names, wide)))
    leak = result["leakage"]
    lines.append(f"test rows: {result['test_rows']}, of which pretraining saw {leak['seen_in_pretraining']} (without labels)")  # fmt: skip
    lines.append(f"test rows with a copy among the rows that were learned from: {leak['exact']} exact, {leak['near']} near")  # fmt: skip
    lines += ["", result["by_rows"]["sentence"]]
    return "\n".join([*lines, f"\nverdict: {result['verdict']['answer']}\n{result['verdict']['sentence']}"])


def spoiled(found: dict) -> list[str]:
    """A line an arm and corruption: the score at each severity, clean first."""
    at: dict[tuple[str, str], dict] = {}
    for row in found["rows"]:
        at.setdefault((row["features"], row["corruption"]), {})[row["severity"]] = row["mean"]
    levels = list(dict.fromkeys(r["severity"] for r in found["rows"] if r["corruption"] != "none"))
    lines = [f"spoiled test rows ({found['test_rows']}), {found['labels_per_class']} labels/class"]
    lines.append(f"{'features':<22}{'corruption':<12}{'clean':>8}" + "".join(f"{level!s:>8}" for level in levels))
    for (name, how), scores in at.items():
        if how != "none":
            cells = [at[name, "none"][0], *(scores[level] for level in levels)]
            lines.append(f"{name:<22}{how:<12}" + "".join(f"{cell:>8.3f}" for cell in cells))
    return lines
