"""docs/methods/measured.md: every image method after the same time, from benchmarks/results/methods.json, and beside lightly."""

from methods import BUDGET, DATA, SEEDS, names

WORDS = {
    "cifar10": "CIFAR-10 (JPEG copies; 50,000 pictures, 10,000 tested)",
    "fashion-mnist": "Fashion-MNIST (25,000 pictures, 10,000 tested)",
}
PROBES = (("knn", "all"), ("linear", "all"), ("linear", BUDGET))
CONTROLS = ("raw", "untrained resnet-small", "untrained vit")


def page(found: dict[str, dict]) -> str:
    """The page's text; `found` holds the result files by name."""
    parts = [_head(found.get("methods"))]
    cells = found.get("methods", {}).get("cells", {})
    parts += [_table(name, cells) for name in DATA]
    parts.append(_beside_lightly(found.get("same_compute", {}).get("cells", {})))
    return "\n\n".join(parts) + "\n"


def _head(held: dict | None) -> str:
    if not held or not held["cells"]:
        return "# Measured\n\nGenerated: `make docs`.  `benchmarks/methods.py` is not run yet."
    minutes, any_cell = held["about"]["minutes"], next(iter(held["cells"].values()))
    chip, cores = any_cell["machine"]["chip"]["name"], any_cell["machine"]["cores"]
    return (
        f"# Measured\n\nGenerated from result files: `make docs`.\n\nEvery method with its defaults for {minutes:g} minutes on {cores} cores ({chip}), {SEEDS} seeds, "
        "by `benchmarks/methods.py`, which is made of `selftaught compare`. Minutes become steps by timing the first ones on free cores; seconds are those of the slowest seed, on a machine that "
        "had other work to do by then. The last step counts, and nothing was chosen on the tested pictures. kNN: cosine, "
        f"k = 20, all labels; linear: all labels, and {BUDGET} a class (10 draws). In brackets the 95 % interval over pictures, draws and seeds. *Gain*: kNN minus that of the "
        "same encoder untrained, paired by picture, bold where its interval lies above zero. Two minutes are little: methods that need long runs stand low here, and that is what a "
        "laptop should know."
    )


def _span(row: dict) -> str:
    return f"{100 * row['mean']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _of(cell: dict) -> dict:
    return {(r["probe"], r["labels_per_class"]): r for r in cell["rows"]}


def _gain(cell: dict) -> str:
    """kNN minus the untrained network's."""
    gaps = [d for d in cell["differences"] if d["probe"] == "knn" and d["b"].startswith("untrained")]
    if not gaps:
        return ""
    text = f"{100 * gaps[0]['mean']:+.1f} [{100 * gaps[0]['low']:+.1f}, {100 * gaps[0]['high']:+.1f}]"
    return f"**{text}**" if gaps[0]["low"] > 0 else text


def _table(name: str, cells: dict[str, dict]) -> str:
    lines = [
        f"## {WORDS[name]}",
        "",
        "| method | kNN | linear | linear, 10 a class | gain | steps | seconds | commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    run = {m: cells[f"{name} {m}"] for m in names() if f"{name} {m}" in cells}
    for method in sorted(run, key=lambda m: -_of(run[m])["knn", "all"]["mean"]):
        cell, rows = run[method], _of(run[method])
        spans = " | ".join(_span(rows[p]) for p in PROBES)
        steps = f"{sum(cell['steps']) / len(cell['steps']):.0f}"
        lines.append(
            f"| [{method}]({method}.md) | {spans} | {_gain(cell)} | {steps} | {max(cell['seconds']):.0f} | {cell['commit']} |"
        )
    for control in CONTROLS:
        if f"{name} {control}" in cells:
            rows = _of(cells[f"{name} {control}"])
            lines.append(
                f"| *{control}* | {' | '.join(_span(rows[p]) for p in PROBES)} | | 0 | 0 | {cells[f'{name} {control}']['commit']} |"
            )
    unrun = [m for m in names() if m not in run]
    if unrun:
        lines += ["", f"Not run yet: {', '.join(unrun)}."]
    return "\n".join(lines)


def _beside_lightly(cells: dict[str, dict]) -> str:
    lines = ["## Beside lightly 1.6, equal pictures seen", ""]
    if not cells:
        return "\n".join([*lines, "`benchmarks/same_compute.py` is not run yet."])
    groups: dict[str, list[dict]] = {}
    for name, cell in cells.items():
        groups.setdefault(name.split(",")[0], []).append(cell)
    seen = next(iter(cells.values()))["ours"]["examples"]
    lines += [
        f"CIFAR-10, our small encoder, batch 256, {seen} pictures; kNN on the test pictures by seed; wall-clock of training, ours / lightly's (`benchmarks/same_compute.py`).",
        "", "| method | ours | lightly | wall-clock |", "|---|---|---|---|",
    ]  # fmt: skip
    for method, some in groups.items():
        ours, theirs = (", ".join(f"{100 * c[k]['knn']:.1f}" for c in some) for k in ("ours", "lightly"))
        ratio = max(c["ours"]["seconds"] / c["lightly"]["seconds"] for c in some)
        lines.append(f"| {method} | {ours} | {theirs} | {ratio:.2f} at most |")
    return "\n".join(lines)
