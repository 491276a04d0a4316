"""The part of the report that shows what pretraining did: the run's pictures, with what to see in them."""

import base64
import html
import json
from typing import Any

from ..train import Run

STAGES = {"start": "before the first step", "middle": "half way"}
TOTAL = 1_200_000
"""Bytes of pictures in a page: earlier stages are left out beyond."""


def gallery(run: Run) -> str:
    """Every picture of the end, and those of earlier stages folded away; nothing where a run has no pictures."""
    file = run.pictures / "pictures.json"
    if not file.exists():
        return ""
    held = json.loads(file.read_text("utf-8"))
    sheets = [s for s in held["sheets"] if (run.pictures / s["file"]).is_file()]
    last = [s for s in sheets if s["stage"] == "end"] or [s for s in sheets if s["stage"] == _latest(sheets)]
    shown = sum((run.pictures / s["file"]).stat().st_size for s in last)
    body = ""
    for sheet in last:
        body += f"<h3>{html.escape(sheet['title'])}</h3>" + _figure(run, sheet, sheet["caption"])
        earlier = []
        for stage, said in STAGES.items():
            for other in sheets:
                size = (run.pictures / other["file"]).stat().st_size
                if (other["name"], other["stage"]) != (sheet["name"], stage) or other in last or shown + size > TOTAL:
                    continue
                shown += size
                earlier.append(_figure(run, other, f"The same {said} (step {other['step']})."))
        if earlier:
            body += f"<details><summary>the same earlier in the run</summary>{''.join(earlier)}</details>"
    return f"<p class='soft'>{html.escape(_rows(held['rows']))}</p>{body}" if body else ""


def _latest(sheets: list[dict[str, Any]]) -> str:
    return max(sheets, key=lambda s: s["step"], default={"stage": "end"})["stage"]


def _rows(rows: dict[str, Any]) -> str:
    ids = ", ".join(str(i) for i in rows["ids"])
    whose = "held-out rows, which training never saw" if rows["of"] == "held-out" else "training rows"
    return f"The examples are {len(rows['ids'])} {whose}, drawn by the seed and not chosen (numbers {ids}); no label took part."


def _figure(run: Run, sheet: dict[str, Any], caption: str) -> str:
    """One picture under the names of its columns, which stay above them at any width."""
    uri = "data:image/png;base64," + base64.b64encode((run.pictures / sheet["file"]).read_bytes()).decode()
    score = f" {sheet['right'][0]} of {sheet['right'][1]} right." if sheet["right"] else ""
    names = [name for _ in range(sheet["blocks"]) for name in sheet["columns"]]
    heads = "".join(f"<span>{html.escape(name)}</span>" for name in names)
    above = (
        f'<div class="heads" aria-hidden="true" style="grid-template-columns:repeat({len(names)},1fr)">{heads}</div>'
        if heads
        else ""
    )
    what = f"{sheet['title']}: {', '.join(sheet['columns'])}" if sheet["columns"] else sheet["title"]
    return (
        f'<figure class="sheet"><div style="max-width:{sheet["width"]}px">{above}<img alt="{html.escape(what + "." + score)}" '
        f'width="{sheet["width"]}" height="{sheet["height"]}" src="{uri}"></div>'
        f"<figcaption>{html.escape(caption + score)}</figcaption></figure>"
    )
