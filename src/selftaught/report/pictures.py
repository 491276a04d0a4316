"""The part of the report that shows what pretraining did: the run's pictures, with what to see in them."""

import base64
import html
from pathlib import Path
from typing import Any

from ..core.errors import ModelError
from ..train import Run

STAGES = {"start": "before the first step", "middle": "half way", "end": "at the end"}
TOTAL = 1_200_000
"""Bytes of pictures in a page: earlier stages are left out beyond."""


def gallery(run: Run) -> str:
    """Every picture of the end, and those of earlier stages folded away; nothing where a run has no pictures.

    ModelError where the catalogue is broken: a run's folder may come from anybody.
    """
    if not (run.pictures / "pictures.json").exists():
        return ""
    held = run.read_json("pictures/pictures.json")
    try:
        sheets = [_checked(sheet, run) for sheet in held["sheets"]]
        said = _rows(held["rows"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(
            f"{run.pictures / 'pictures.json'} is broken ({error}).", f"Remove {run.pictures} to go without."
        ) from None
    latest = max((s["step"] for s in sheets), default=0)
    last = [s for s in sheets if s["stage"] == "end"] or [s for s in sheets if s["step"] == latest]
    left, body = TOTAL - sum(len(s["png"]) for s in last), ""
    for sheet in last:
        body += f"<h3>{html.escape(sheet['title'])}</h3>" + _figure(sheet, sheet["caption"])
        earlier = ""
        for other in sorted(sheets, key=lambda s: s["step"]):
            if other["name"] == sheet["name"] and other not in last and len(other["png"]) <= left:
                left -= len(other["png"])
                earlier += _figure(other, f"The same {STAGES[other['stage']]} (step {other['step']}).")
        body += f"<details><summary>the same earlier in the run</summary>{earlier}</details>" if earlier else ""
    return f"<p class='soft'>{html.escape(said)}</p>{body}" if body else ""


def _checked(sheet: dict[str, Any], run: Run) -> dict[str, Any]:
    """The entry with its picture under "png"; numbers are numbers, texts are texts, and the file lies in the folder."""
    name = str(sheet["file"])
    if Path(name).name != name or not name.endswith(".png") or sheet["stage"] not in STAGES:
        raise ValueError(f"{name!r} at {sheet['stage']!r} is no picture of a run")
    png = (run.pictures / name).read_bytes()
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"{name} is no PNG")
    numbers = {key: int(sheet[key]) for key in ("step", "blocks", "width", "height")}
    texts = {key: str(sheet[key]) for key in ("name", "stage", "title", "caption")}
    right = None if sheet["right"] is None else [int(n) for n in sheet["right"]]
    return {**numbers, **texts, "columns": [str(c) for c in sheet["columns"]], "right": right, "png": png}


def _rows(rows: dict[str, Any]) -> str:
    ids = ", ".join(str(i) for i in rows["ids"])
    whose = "held-out rows, which training never saw" if rows["of"] == "held-out" else "training rows"
    return f"The examples are {len(rows['ids'])} {whose}, drawn by the seed and not chosen (numbers {ids}); no label took part."


def _figure(sheet: dict[str, Any], caption: str) -> str:
    """One picture under the names of its columns, which stay above them at any width."""
    uri = "data:image/png;base64," + base64.b64encode(sheet["png"]).decode()
    score = f" {sheet['right'][0]} of {sheet['right'][1]} right." if sheet["right"] else ""
    names = [html.escape(name) for name in sheet["columns"]] * sheet["blocks"]
    grid = f"grid-template-columns:repeat({len(names)},1fr)"
    heads = f'<div class="heads" style="{grid}">{"".join(f"<span>{n}</span>" for n in names)}</div>' if names else ""
    alt = html.escape(": ".join([sheet["title"], *([", ".join(sheet["columns"])] if names else [])]) + "." + score)
    width, height = sheet["width"], sheet["height"]
    return (
        f'<figure class="sheet"><div class="scroll"><div style="max-width:{width}px;min-width:min({width}px,30rem)">{heads}'
        f'<img alt="{alt}" width="{width}" height="{height}" src="{uri}"></div></div>'
        f"<figcaption>{html.escape(caption + score)}</figcaption></figure>"
    )
