"""docs/methods/measured-sound.md and README's rows of sound, from benchmarks/results/spoken_digits.json, spoken_words.json and instruments.json."""

CONTROLS = ("raw", "log-mel", "random-filters")


def page(found: dict[str, dict]) -> str:
    """The page's text; `found` holds the result files by name."""
    parts = ["# Measured on sound\n\nGenerated from result files: `make docs`.", _digits(found.get("spoken_digits"))]
    parts.append(_factors(found.get("spoken_words")))
    parts.append(_instruments(found.get("instruments")))
    return "\n\n".join(parts) + "\n"


def _span(row: dict, signed: bool = False) -> str:
    mark = "+" if signed else ""
    return f"{100 * row['mean']:{mark}.1f} [{100 * row['low']:{mark}.1f}, {100 * row['high']:{mark}.1f}]"


def _of(rows: list[dict], name: str, budget) -> dict | None:
    return next((r for r in rows if (r["features"], r["probe"], r["labels_per_class"]) == (name, "linear", budget)), None)  # fmt: skip


def _digits(held: dict | None) -> str:
    head = "## Spoken digits, one speaker of six left out"
    if not held or not held["cells"]:
        return f"{head}\n\n`benchmarks/spoken_digits.py` is not run yet."
    cells, about = held["cells"], held["about"]
    first = next(iter(cells.values()))
    budgets = [b for b in (1, 5, 10, "all") if str(b) in first["over_best"]]
    columns = [f"{b} a class" if b != "all" else "all labels" for b in budgets]
    lines = [
        head, "",
        f"Pretrained on the other five for {about['minutes']:g} minutes on one thread, a run for each speaker; accuracy of a linear probe, in brackets the 95 % interval over speakers. "
        "*Over the best control*: with all labels, paired by speaker, from the best of the frozen controls, and how many speakers gain.", "",
        f"| method | {' | '.join(columns)} | over the best control | speakers that gain | commit |", f"|{'---|' * (len(columns) + 4)}",
    ]  # fmt: skip
    for name, cell in sorted(cells.items(), key=lambda item: -item[1]["over_best"]["all"]["mean"]):
        spans = " | ".join(_span(row) if (row := _of(cell["rows"], "pretrained", b)) else "" for b in budgets)
        gap = cell["over_best"]["all"]
        lines.append(f"| [{name}]({name}.md) | {spans} | {_span(gap, True)} ({gap['control']}) | {gap['gained']} of {gap['of']} | {cell['commit']} |")  # fmt: skip
    for name in CONTROLS:
        spans = " | ".join(_span(row) if (row := _of(first["rows"], name, b)) else "" for b in budgets)
        lines.append(f"| *{name}* | {spans} | | | {first['commit']} |")
    return "\n".join([*lines, "", f"The official split: {first['by_rows']['sentence']}"])


def _factors(held: dict | None) -> str:
    head = "## What each method keeps of spoken words"
    if not held or not held["cells"]:
        return f"{head}\n\n`benchmarks/spoken_words.py` is not run yet."
    cells = {name: cell for name, cell in held["cells"].items() if cell.get("rows")}
    columns = list(dict.fromkeys(k["column"] for cell in cells.values() for k in cell["keeps"]))
    lines = [
        head, "",
        f"{held['about']['rows']} words made with espeak-ng, {_minutes(held)} and {held['about']['seeds']} seeds a method, by `selftaught compare`: the accuracy of linear probes of all "
        "labels on the same test clips. The styles are pitch and tempo that were planted, not emotions.", "",
        f"| method | word | {' | '.join(columns)} | commit |", f"|{'---|' * (len(columns) + 3)}",
    ]  # fmt: skip
    for name, cell in sorted(cells.items(), key=lambda item: -_mean(item[1])):
        kept = {k["column"]: k for k in cell["keeps"]}
        word = _of(cell["rows"], name, "all") or _any(cell)
        spans = " | ".join(_span(kept[c]) if c in kept else "" for c in columns)
        lines.append(f"| {name} | {_span(word)} | {spans} | {cell['commit']} |")
    return "\n".join([*lines, "", held["cells"].get("advice", {}).get("sentence", "")]).rstrip()


def _any(cell: dict) -> dict:
    """The row of the linear probe of all labels: cells of a comparison name no features."""
    return next(r for r in cell["rows"] if (r["probe"], r["labels_per_class"]) == ("linear", "all"))


def _minutes(held: dict) -> str:
    minutes = held["about"]["minutes"]
    return f"{minutes:g} minute{'s' * (minutes != 1)}"


def _mean(cell: dict) -> float:
    return _any(cell)["mean"]


def _instruments(held: dict | None) -> str:
    head = "## Ten instruments, 200 clips to learn from"
    if not held or not held["cells"]:
        return f"{head}\n\n`benchmarks/instruments.py` is not run yet."
    budget = held["about"]["labels_per_class"]
    cells = {name: cell for name, cell in held["cells"].items() if cell.get("rows")}
    lines = [head, "", f"{_minutes(held)} and {held['about']['seeds']} seeds a method; accuracy on 100 clips. Pretraining from scratch is known to need far more.", "",
             f"| method | all labels | {budget} a class | commit |", "|---|---|---|---|"]  # fmt: skip
    for name, cell in sorted(cells.items(), key=lambda item: -_mean(item[1])):
        few = next((r for r in cell["rows"] if (r["probe"], r["labels_per_class"]) == ("linear", budget)), None)
        lines.append(f"| {name} | {_span(_any(cell))} | {_span(few) if few else ''} | {cell['commit']} |")
    return "\n".join([*lines, "", held["cells"].get("advice", {}).get("sentence", "")]).rstrip()


def digits(found: dict):
    """README's rows: the method with the largest gain over the best control, with all labels and with ten a class."""
    for budget, said in (("all", "all labels"), ("10", "10 labels a class")):
        cells = {name: cell for name, cell in found["cells"].items() if budget in cell["over_best"]}
        if cells:
            name, cell = max(cells.items(), key=lambda item: item[1]["over_best"][budget]["mean"])
            gap = cell["over_best"][budget]
            text = f"{name}: {_span(gap, True)} points over {gap['control']}, the best of the frozen controls; {gap['gained']} of {gap['of']} speakers gain: [table](docs/methods/measured-sound.md)"
            yield f"spoken digits of a speaker left out, {said}", text, cell


def advised(what: str):
    """README's row of a comparison: its sentence of advice."""

    def rows(found: dict):
        if cell := found["cells"].get("advice"):
            yield what, f"{cell['sentence']} [table](docs/methods/measured-sound.md)", cell

    return rows


def joined(found: dict):
    """README's rows of written-down digits: word error rates of both arms over all seeds."""
    for name, cell in found["cells"].items():
        if "difference" in name:
            pre, fresh = (cell[arm] for arm in ("pretrained", "scratch"))
            said = f"WER {_span(pre)} % pretrained, {_span(fresh)} % from scratch; paired by speaker {_span(cell['difference'], True)} points"
            gain = sum(one["pretrained"] < one["scratch"] for one in cell["speakers"].values())
            budget, _, _, seeds = name.split(" | ")
            what = f"digits said one after another, speakers never heard, {budget} with transcripts ({len(seeds.split(','))} seeds)"
            yield what, f"{said}; {gain} of {len(cell['speakers'])} speakers gain", cell


def speed(found: dict):
    """README's row of wav2vec 2.0's speed."""
    cells = found["cells"]
    if cells:
        ratios = ", ".join(f"{name} lengths {cell['ratio']:.2f}" for name, cell in cells.items())
        yield "wav2vec 2.0: seconds of sound a second in training, of transformers' pretraining example", ratios, next(iter(cells.values()))  # fmt: skip
