"""report.html: one offline file about a run.  The verdict first, then what it rests on.  Everything from the data is escaped."""

import base64
import hashlib
import html
import json
from importlib import resources
from pathlib import Path
from typing import Any

from .. import __version__
from ..train import Run, held_out
from .atlas import Atlas
from .charts import Curve, curves, intervals
from .pictures import gallery

SPHERE = (
    "<p class='soft'>alignment: how far two views of one row lie apart (0 to 4, low is good); uniformity: how evenly rows spread "
    "(down to -4 and below; 0 is a single point). Both fall in a healthy run; alignment alone falls in a collapse too.</p>"
)
ANSWERS = {"helped": "helped", "hurt": "hurt", "cannot tell": "open"}


def document(title: str, body: str) -> str:
    """A whole page with this body: style and script inside, nothing loaded from anywhere."""
    script = resources.files(__package__).joinpath("page.js").read_text("utf-8")
    style = resources.files(__package__).joinpath("page.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}"><title>{html.escape(title)}</title><style>{style}</style></head>'
        f"<body><main><h1>{html.escape(title)}</h1>{body}</main><script>{script}</script></body></html>\n"
    )


def page(run: Run, evaluation: dict | None, atlas: Atlas | None) -> str:
    """The whole page as text."""
    config = run.config()
    sections = [
        _verdict(evaluation), _alarms(run), _scores(evaluation), _folds(evaluation), _label_curve(evaluation), _robustness(evaluation),
        section("What it learned, in pictures", gallery(run)), _training(run), _views(run),
        _map(atlas), _neighbours(atlas), _topics(evaluation), _leakage(evaluation), _about(run, config),
    ]  # fmt: skip
    return document(f"{config.get('method')} on {Path(str(config.get('data'))).name}", "".join(sections))


def section(title: str, body: str) -> str:
    """A titled part of the page; nothing where there is no body."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>" if body else ""


def _verdict(evaluation: dict | None) -> str:
    if not evaluation:
        return '<div class="verdict open"><b>not evaluated yet</b>Say <code>selftaught evaluate RUN DATA</code> to learn whether pretraining helped.</div>'
    verdict = evaluation["verdict"]
    kind = ANSWERS.get(verdict["answer"], "open")
    return (
        f'<div class="verdict {kind}"><b>{html.escape(verdict["answer"])}</b>{html.escape(verdict["sentence"])}</div>'
        + _start(evaluation)
    )


def _start(evaluation: dict) -> str:
    """Did continuing help?  Where the run continued a model."""
    start = evaluation.get("start")
    if not isinstance(start, dict):
        return ""
    kind, answer = ANSWERS.get(start["answer"], "open"), f"against its start: {start['answer']}"
    return f'<div class="verdict {kind}"><b>{html.escape(answer)}</b>{html.escape(start["sentence"])}</div>'


def _alarms(run: Run) -> str:
    path = run.folder / "result.json"
    result = json.loads(path.read_text("utf-8")) if path.exists() else {}
    alarms = [*result.get("alarms", []), *result.get("guard", {}).get("warnings", [])]
    return "".join(f'<div class="alarm">{html.escape(text)}</div>' for text in alarms)


def _budget(value: Any) -> str:
    return {"all": "all labels", 0: "no labels", 1: "1 label a class"}.get(value, f"{value} labels a class")


def _scores(evaluation: dict | None) -> str:
    """The probes' scores and the paired differences."""
    if not evaluation:
        return ""
    rows, main = evaluation["rows"], _read_out(evaluation)
    budgets = list(dict.fromkeys(r["labels_per_class"] for r in rows))
    body = ""
    for budget in budgets[-1:] + budgets[:-1]:
        chosen = [r for r in rows if r["labels_per_class"] == budget]
        for probe in dict.fromkeys(r["probe"] for r in chosen):
            bars = [
                (r["features"], r["mean"], r["low"], r["high"])
                for r in chosen
                if r["probe"] == probe and r.get("layer") == main.get(r["features"], r.get("layer"))
            ]
            if len(bars) > 1 and (probe in ("linear", "knn") and budget in (budgets[-1], "all")):
                body += f"<p class='soft'>{html.escape(probe)}, {_budget(budget)}: {html.escape(str(evaluation['metric']))} with 95 % intervals</p>{intervals(bars)}"
    pairs = [
        (f"{d['a']} - {d['b']}, {d['probe']}, {_budget(d['labels_per_class'])}", d["mean"], d["low"], d["high"])
        for d in evaluation["differences"]
        if d["b"] != "blind"
    ]
    told = evaluation.get("stages", {}).get("sentence", "")
    body += f"<p>{html.escape(told)}</p>" if told else ""
    return section("Scores", body) + section("Paired differences", intervals(pairs, zero=True))


def _folds(evaluation: dict | None) -> str:
    """Where each group was left out once: a score by group, and what a split by rows would claim."""
    cells = [c for c in (evaluation or {}).get("folds", []) if c["labels_per_class"] == "all" and c["probe"] in ("linear", "finetune")]  # fmt: skip
    names = list(dict.fromkeys(c["fold"] for c in cells))
    lines = []
    for arm in dict.fromkeys(c["features"] for c in cells):
        own = {c["fold"]: c["mean"] for c in cells if c["features"] == arm}
        lines.append(f"<tr><td>{html.escape(arm)}</td>{''.join(f'<td class=n>{own[n]:.3f}</td>' for n in names)}</tr>")
    top = "".join(f"<th>{html.escape(str(name))}</th>" for name in ["", *names])
    said = f"<p>{html.escape(str((evaluation or {}).get('by_rows', {}).get('sentence', '')))}</p>"
    group = html.escape(str((evaluation or {}).get("group", "group")))
    body = f"<p class='soft'>Linear probe of all labels of the others.</p><div class='scroll'><table><tr>{top}</tr>{''.join(lines)}</table></div>{said}"
    return section(f"Each {group} left out once", body) if cells else ""


def _read_out(evaluation: dict) -> dict[str, Any]:
    """{features: layer} of arms that were probed at several stages: the one that was chosen, else the representation."""
    layers: dict[str, list] = {}
    for row in evaluation["rows"]:
        layers.setdefault(row["features"], []).append(row.get("layer"))
    main = {name: "last" for name, found in layers.items() if "last" in found}
    return main | {r["features"]: r["layer"] for r in evaluation.get("stages", {}).get("rows", []) if r["chosen"]}


def _robustness(evaluation: dict | None) -> str:
    """Scores against severity, a chart a corruption, and a table of what is lost."""
    found = (evaluation or {}).get("robustness")
    if not found:
        return ""
    clean = {r["features"]: r for r in found["rows"] if r["corruption"] == "none"}
    body = f"<p>{html.escape(found['sentence'])}</p>"
    for name in dict.fromkeys(r["corruption"] for r in found["rows"] if r["corruption"] != "none"):
        lines = []
        for arm, first in clean.items():
            rows = [
                first,
                *(
                    r
                    for r in found["rows"]
                    if (r["features"], r["corruption"]) == (arm, name) and r["severity"] != "mean"
                ),
            ]
            lines.append(
                Curve(
                    arm,
                    [(r["severity"], r["mean"]) for r in rows],
                    [(r["severity"], r["low"], r["high"]) for r in rows],
                )
            )
        ticks = {float(p[0]): str(p[0]) if p[0] else "clean" for p in lines[0].points}
        body += f"<h3>{html.escape(name)}</h3>" + curves(
            lines, x="severity", y=str((evaluation or {})["metric"]), ticks=ticks
        )
    cells = "".join(
        f"<tr><td>{html.escape(d['features'])}</td><td>{html.escape(d['corruption'])}</td><td class='n'>{d['mean']:.3f}</td>"
        f"<td class='n'>[{d['low']:.3f}, {d['high']:.3f}]</td></tr>"
        for d in found["drops"]
        if d["severity"] == "mean"
    )
    head = "<tr><th>features</th><th>corruption</th><th>lost against clean</th><th>95 % interval</th></tr>"
    note = f"<p class='soft'>{found['test_rows']} test rows, {_budget(found['labels_per_class'])}; read-outs were fitted on clean rows and not again.</p>"
    return section("On spoiled test rows", body + note + f"<table>{head}{cells}</table>")


def _label_curve(evaluation: dict | None) -> str:
    if not evaluation:
        return ""
    lines: dict[str, dict[int, dict]] = {}
    main = _read_out(evaluation)
    for row in evaluation["rows"]:
        if main.get(row["features"], row.get("layer")) != row.get("layer"):
            continue
        if row["probe"] in ("linear", "finetune") and isinstance(row["labels_per_class"], int):
            name = row["features"] + (" (finetuned)" if row["probe"] == "finetune" else "")
            lines.setdefault(name, {})[row["labels_per_class"]] = row
    drawn = [
        Curve(
            name,
            [(b, r["mean"]) for b, r in sorted(by.items())],
            [(b, r["low"], r["high"]) for b, r in sorted(by.items())],
        )
        for name, by in lines.items()
    ]
    budgets = sorted({b for by in lines.values() for b in by})
    if len(budgets) < 2:
        return ""
    ticks = {float(b): str(b) for b in budgets}
    return section(
        "How many labels it takes",
        curves(drawn, x="labels a class", y=str(evaluation["metric"]), log_x=True, ticks=ticks),
    )


def _training(run: Run) -> str:
    rows = run.metrics()
    if not rows:
        return ""
    names = {"loss": "loss", "baseline": "a blind guess"}
    losses = [Curve(said, [(r["step"], r[key]) for r in rows if r.get(key) is not None]) for key, said in names.items()]
    losses.append(Curve("held-out rows", [(r["step"], r["loss"]) for r in held_out.rows(run.folder) if "loss" in r]))
    loss = curves(losses, x="step", y="loss")
    rank = curves(
        [Curve("effective rank", [(r["step"], r["effective_rank"]) for r in rows if "effective_rank" in r])],
        x="step",
        y="effective rank",
    )
    sphere = curves(
        [
            Curve(name, [(r["step"], r[name]) for r in rows if r.get(name) is not None])
            for name in ("alignment", "uniformity")
        ],
        x="step",
        y="on the unit sphere",
    )
    wait = sum(r.get("data_wait", 0) for r in rows) / len(rows)
    speed = f"<p class='soft'>{rows[-1]['examples_per_second']:,.0f} examples/s, {wait:.0%} of the time waiting for data. The rank is a trend inside this run, no ranking of methods.</p>"
    return section("Training", loss + rank + sphere + (SPHERE if sphere else "") + speed)


def _views(run: Run) -> str:
    path = run.folder / "views.png"
    if not path.exists():
        return ""
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    return section(
        "What the network saw",
        f'<img class="views" alt="stored pictures on the left, their views beside them" src="{uri}">',
    )


def _map(atlas: Atlas | None) -> str:
    if atlas is None:
        return ""
    classes = sorted(set(atlas.labels)) if atlas.labels else []
    colour = {name: n % 8 for n, name in enumerate(classes)}
    marks = []
    for number, (x, y) in enumerate(atlas.xy):
        shade = colour[atlas.labels[number]] if atlas.labels else 0
        marks.append(
            f'<circle class="dot c{shade}" data-i="{number}" cx="{12 + 616 * x:.1f}" cy="{12 + 396 * y:.1f}" r="4"/>'
        )
    texts = [t + (f" [{atlas.labels[n]}]" if atlas.labels else "") for n, t in enumerate(atlas.texts)]
    items = json.dumps([{"picture": p, "text": t} for p, t in zip(atlas.pictures, texts, strict=True)])
    safe = items.replace("<", "\\u003c")  # so that no text can close the script element
    legend = "".join(f'<span class="key c{colour[c]}">{html.escape(c)}</span>' for c in classes[:24])
    note = f"<p class='soft'>{len(atlas.xy)} rows by {atlas.how}; colours are labels that training did not see. Touch or hover a point.</p>"
    drawing = f'<svg viewBox="0 0 640 420" role="img" aria-label="map of representations">{"".join(marks)}</svg>'
    return section(
        "Map",
        f'{note}<div class="map">{drawing}<div id="tip"></div></div><p>{legend}</p><script type="application/json" id="items">{safe}</script>',
    )


def _neighbours(atlas: Atlas | None) -> str:
    if atlas is None:
        return ""
    lines = []
    for row in atlas.neighbours:
        cells = []
        for place, number in enumerate(row):
            picture = f'<img alt="" src="{atlas.pictures[number]}">' if atlas.pictures[number] else ""
            text = atlas.labels[number] if atlas.labels else ("" if picture else atlas.texts[number])
            cells.append(f'<figure class="{"query" if place == 0 else ""}">{picture}{html.escape(text)}</figure>')
        lines.append(f'<div class="neighbours">{"".join(cells)}</div>')
    return section(
        "Nearest neighbours",
        "<p class='soft'>The first of each line is drawn by the seed, not chosen; the rest are its nearest rows.</p>"
        + "".join(lines),
    )


def _topics(evaluation: dict | None) -> str:
    """What clusters of texts speak of."""
    found = (evaluation or {}).get("topics", [])
    rows = "".join(
        f"<tr><td class='n'>{t['rows']}</td><td>{html.escape(', '.join(t['words']))}</td><td>{html.escape(str(t['class']))} ({t['share']:.0%})</td></tr>"
        for t in found
    )
    note = "<p class='soft'>k-means of the pretrained features of the test rows; the words that are commoner in each cluster than in the others (class-based tf-idf).</p>"
    table = f"<table><tr><th>rows</th><th>words</th><th>commonest class</th></tr>{rows}</table>"
    return section("What clusters speak of", note + table if found else "")


def _leakage(evaluation: dict | None) -> str:
    leak = (evaluation or {}).get("leakage")
    if not leak:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(str(r.get('features')))}</td><td>{html.escape(str(r.get('probe')))}</td><td class='n'>{r['mean']:.3f}</td></tr>"
        for r in leak.get("without", [])
    )
    table = (
        f"<p>The same scores without them:</p><table><tr><th>features</th><th>probe</th><th>score</th></tr>{rows}</table>"
        if rows
        else ""
    )
    near = "(near ones were not searched)" if leak["near"] is None else f"and {leak['near']} near"
    return section(
        "Leakage",
        f"<p>{leak['exact']} exact {near} duplicates between the pretraining data and the test rows.</p>{table}",
    )


def _about(run: Run, config: dict) -> str:
    pieces = [f"<p class='soft'>selftaught {html.escape(__version__)}; run folder {html.escape(str(run.folder))}</p>"]
    for title, text in (
        ("config.toml", run.config_file.read_text("utf-8")),
        ("env.json", _read(run.folder / "env.json")),
    ):
        if text:
            pieces.append(f"<details><summary>{title}</summary><pre>{html.escape(text)}</pre></details>")
    return section("About", "".join(pieces))


def _read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""
