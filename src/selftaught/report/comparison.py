"""compare.html: one offline file about a comparison.  The advice first, then quality against time, then the scores."""

import html
from pathlib import Path
from statistics import fmean
from typing import Any

from ..train.run import write_text
from .charts import Curve, curves, intervals
from .page import document, section


def comparison(result: dict[str, Any], out: str | Path, *, title: str = "Which pretext task?") -> Path:
    """Writes the page and returns its path."""
    advice = result["recommendation"]
    kind = "helped" if advice["sure"] else "open"
    verdict = (
        f'<div class="verdict {kind}"><b>{html.escape(advice["method"])}</b>{html.escape(advice["sentence"])}</div>'
    )
    styles = {name: number for number, name in enumerate(dict.fromkeys(c["arm"] for c in result["choice"]))}
    body = (
        verdict
        + _against_time(result, styles)
        + _table(result)
        + _keeps(result)
        + _scores(result, styles)
        + _failed(result)
    )
    write_text(Path(out), document(title, body))
    return Path(out)


def _against_time(result: dict[str, Any], styles: dict[str, int]) -> str:
    """A line through each method's budgets (the mean of its seeds), a mark and an interval for each trial."""
    trials = [c for c in result["choice"] if "mean" in c]
    longest = max((c["seconds"] for c in trials), default=0.0)
    unit, second = ("minutes", 1 / 60) if longest >= 120 else ("seconds", 1.0)
    drawn = []
    for name in dict.fromkeys(c["arm"] for c in trials):
        own = [c for c in trials if c["arm"] == name]
        if own[0]["budget"]:
            budgets = [[c for c in own if c["budget"] == b] for b in sorted({c["budget"] for c in own})]
            points = [(second * fmean(c["seconds"] for c in same), fmean(c["mean"] for c in same)) for same in budgets]
            bars = [(second * c["seconds"], c["low"], c["high"]) for c in own]
            drawn.append(Curve(name, points, bars=bars, style=styles[name]))
        else:
            level = [(0.0, own[0]["mean"]), (second * longest, own[0]["mean"])]
            drawn.append(Curve(f"{name} (not trained here)", level, style=styles[name], standing=True))
    chart = curves(drawn, x=f"{unit} of pretraining", y=f"{result['metric']}, few labels")
    note = (
        f"<p class='soft'>Probes of {result['chosen_with']} labelled rows, each guessed by a read-out that had not seen it; upright strokes are 95 % "
        "intervals. What chose is not what is reported below.</p>"
    )
    return section("Quality against time", chart + note)


def _budget(value: Any) -> str:
    return {"all": "all labels", 0: "no labels", 1: "1 label a class"}.get(value, f"{value} labels a class")


def _table(result: dict[str, Any]) -> str:
    """Every arm: its time, the score that chose, and the test rows' scores, each with its interval."""
    trials = [c for c in result["choice"] if "mean" in c]
    last = {c["arm"]: c for c in sorted(trials, key=lambda c: (c["budget"], -c["seed"]))}  # the first seed's longest
    kinds = list(dict.fromkeys((r["probe"], r["labels_per_class"]) for r in result["rows"]))
    tested = {(r["features"], r["probe"], r["labels_per_class"]): r for r in result["rows"]}
    heads = ["", "trained for", "few labels (chose)", *(f"{probe}, {_budget(budget)}" for probe, budget in kinds)]
    lines = []
    for name, trial in sorted(last.items(), key=lambda item: -item[1]["mean"]):
        found = [tested.get((name, *kind)) for kind in kinds]
        cells = [
            f"{trial['seconds']:.0f} s" if trial["budget"] else "-",
            _with_interval(trial),
            *map(_with_interval, found),
        ]
        lines.append(f"<tr><td>{html.escape(name)}</td>{''.join(f'<td class=n>{c}</td>' for c in cells)}</tr>")
    top = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    note = "<p class='soft'>Means with 95 % intervals. Methods that did not come to the end were not tested.</p>"
    return section("All scores", f"<div class='scroll'><table><tr>{top}</tr>{''.join(lines)}</table></div>{note}")


def _keeps(result: dict[str, Any]) -> str:
    """A line an arm, a column for each further column of the data."""
    held = result.get("keeps", [])
    columns = list(dict.fromkeys(k["column"] for k in held))
    lines = []
    for name in dict.fromkeys(k["features"] for k in held):
        own = {k["column"]: k for k in held if k["features"] == name}
        lines.append(f"<tr><td>{html.escape(name)}</td>{''.join(f'<td class=n>{_with_interval(own.get(c))}</td>' for c in columns)}</tr>")  # fmt: skip
    top = "".join(f"<th>{html.escape(head)}</th>" for head in ["", *columns])
    note = "<p class='soft'>Linear probes of all labels of further columns, on the same test rows. Keeping what a task does not need is no merit, losing what it needs is a fault.</p>"
    return section("What they keep", f"<div class='scroll'><table><tr>{top}</tr>{''.join(lines)}</table></div>{note}") if held else ""  # fmt: skip


def _with_interval(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['mean']:.3f} <span class='soft'>[{row['low']:.3f}, {row['high']:.3f}]</span>"


def _scores(result: dict[str, Any], styles: dict[str, int]) -> str:
    groups: dict[str, list[tuple[str, float, float, float]]] = {}
    for row in result["rows"]:
        groups.setdefault(f"{row['probe']}, {_budget(row['labels_per_class'])}", []).append(
            (row["features"], row["mean"], row["low"], row["high"])
        )
    charts = "".join(
        f"<h3>{html.escape(name)}</h3>{intervals(sorted(rows, key=lambda r: -r[1]), styles=styles)}"
        for name, rows in groups.items()
    )
    return section(f"On {result['test_rows']} test rows", charts)


def _failed(result: dict[str, Any]) -> str:
    said = [f"<li>{html.escape(c['arm'])}: {html.escape(c['failed'])}</li>" for c in result["choice"] if "failed" in c]
    return section("Could not be trained", f"<ul>{''.join(said)}</ul>") if said else ""
