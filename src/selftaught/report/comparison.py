"""compare.html: one offline file about a comparison.  The advice first, then quality against time, then the scores."""

import html
from pathlib import Path
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
    body = verdict + _against_time(result) + _scores(result) + _failed(result)
    write_text(Path(out), document(title, body))
    return Path(out)


def _against_time(result: dict[str, Any]) -> str:
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for c in result["choice"]:
        if "mean" in c and c["budget"]:
            lines.setdefault(c["arm"], []).append((c["seconds"], c["mean"], c["low"], c["high"]))
    drawn = [Curve(name, [p[:2] for p in sorted(points)]) for name, points in lines.items()]
    longest = max((p[0] for points in lines.values() for p in points), default=1.0)
    for c in result["choice"]:
        if "mean" in c and not c["budget"]:
            drawn.append(Curve(c["arm"], [(0.0, c["mean"]), (longest, c["mean"])]))
    chart = curves(drawn, x="seconds of pretraining", y=f"{result['metric']}, few labels")
    note = f"<p class='soft'>Probes of {result['chosen_with']} labelled rows, each guessed by a read-out that had not seen it. What chose is not what is reported below.</p>"
    return section("Quality against time", chart + note)


def _scores(result: dict[str, Any]) -> str:
    groups: dict[str, list[tuple[str, float, float, float]]] = {}
    for row in result["rows"]:
        labels = {"all": "all labels", 0: "no labels"}.get(
            row["labels_per_class"], f"{row['labels_per_class']} labels a class"
        )
        groups.setdefault(f"{row['probe']}, {labels}", []).append(
            (row["features"], row["mean"], row["low"], row["high"])
        )
    charts = "".join(
        f"<h3>{html.escape(name)}</h3>{intervals(sorted(rows, key=lambda r: -r[1]))}" for name, rows in groups.items()
    )
    return section(f"On {result['test_rows']} test rows", charts)


def _failed(result: dict[str, Any]) -> str:
    said = [f"<li>{html.escape(c['arm'])}: {html.escape(c['failed'])}</li>" for c in result["choice"] if "failed" in c]
    return section("Could not be trained", f"<ul>{''.join(said)}</ul>") if said else ""
