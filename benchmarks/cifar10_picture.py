"""Draws benchmarks/results/cifar10_cpu.json:  python benchmarks/cifar10_cpu.py --draw  (needs matplotlib).

One picture: kNN accuracy against wall-clock in minutes, on a logarithmic axis, for every method and for lightly; seeds as a band
from the least to the greatest; raw pixels and the untrained network as lines across.
"""

import re

import numpy as np
from record import ROOT, Results

PLACE = ROOT / "docs" / "pictures" / "cifar10_cpu.svg"
NAMED = {
    "lightly ours": "lightly, SimCLR with our encoder, crop and batch",
    "lightly documented": "lightly, its documented SimCLR",
}


def seeds_of(results: Results) -> dict[str, list[list[tuple[float, float]]]]:
    """{method: a curve of (minutes, kNN) a seed}."""
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for cell, figures in results.cells.items():
        if "curve" in figures:
            name = re.sub(r" \d+ min, seed \d+$", "", cell)
            found.setdefault(NAMED.get(name, name), []).append(
                [(p["seconds"] / 60, p["knn"]) for p in figures["curve"]]
            )
    return found


def draw(results: Results) -> None:
    """Writes docs/pictures/cifar10_cpu.svg."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {"svg.hashsalt": "cifar10", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    )
    figure, axes = plt.subplots(figsize=(8.4, 4.8))
    closed = {k: v for k, v in results.cells.items() if k.startswith("sparse-manifold")}
    minutes, scores = [v["seconds"] / 60 for v in closed.values()], [100 * v["knn"] for v in closed.values()]
    axes.plot(minutes, scores, "D-", color="black", label="sparse-manifold (quick, full, best)")
    for name, curves in seeds_of(results).items():
        count = min(map(len, curves))
        x = np.mean([[p[0] for p in c[:count]] for c in curves], 0)
        y = 100 * np.array([[p[1] for p in c[:count]] for c in curves])
        seeds = f" ({len(curves)} seeds)" if len(curves) > 1 else ""
        (line,) = axes.plot(x, y.mean(0), "--" if "lightly" in name else "o-", markersize=4, label=name + seeds)
        axes.fill_between(x, y.min(0), y.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
    if "baselines" in results.cells:
        base = results.cells["baselines"]
        for text, score in (("raw pixels", base["raw"]), ("untrained", float(np.mean(base["untrained"])))):
            axes.axhline(100 * score, color="grey", linewidth=0.8, linestyle=":")
            axes.annotate(
                text, (0.01, 100 * score), xycoords=("axes fraction", "data"), ha="left", va="bottom", color="grey"
            )
    axes.set(xscale="log", xlabel="minutes on two CPU cores", ylabel="kNN accuracy on CIFAR-10's test pictures, %")
    axes.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"], minor=False)
    axes.minorticks_off()
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1))
    PLACE.parent.mkdir(exist_ok=True)
    figure.savefig(PLACE, bbox_inches="tight", metadata={"Date": None})
    print("wrote", PLACE.relative_to(ROOT))
