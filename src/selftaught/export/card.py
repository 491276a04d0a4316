"""The model card: what the model is, what it learned from, what that was worth when measured, and what is not known."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .. import __version__, methods
from ..core import Encoder, ModelError, config
from ..nets import files

UNKNOWN = "not stated"
PIPELINES = {"image": "image-feature-extraction", "text": "feature-extraction", "sound": "feature-extraction"}


@dataclass(kw_only=True)
class Card:
    """What the card says beyond the network itself.  Everything that was not stated is printed as not stated."""

    title: str = "Encoder trained with selftaught"
    licence: str = UNKNOWN
    """Of the weights: an SPDX name."""
    method: str = UNKNOWN
    paper: str = ""
    data: dict = field(default_factory=dict)
    """name, rows, fingerprint, licence, provenance (where the data come from and who is in them)."""
    budget: dict = field(default_factory=dict)
    """steps, examples, seconds, machine, ..."""
    evaluation: dict | None = None
    """What `evaluate` returned: task, metric, rows, differences, leakage, verdict."""
    intended: str = "Features for search, clustering and classifiers on data like those it was trained on."
    limits: list[str] = field(default_factory=list)


def of_run(folder: str | Path, **changes) -> Card:
    """The card of a run folder: from config.toml, data.json, result.json, env.json and evaluation.json, where they are.

    `changes` overrule fields (licence, title, intended, limits) and, as `data`, add to what is known of the data.
    """
    run = Path(folder)
    held = {
        name: files.read_json(run, f"{name}.json")
        for name in ("data", "result", "env", "evaluation")
        if (run / f"{name}.json").is_file()
    }
    settings = config.load(run / "config.toml") if (run / "config.toml").is_file() else {}
    result, facts = held.get("result", {}), held.get("data", {})
    data = {
        "name": Path(str(settings.get("data", UNKNOWN))).name,
        "rows": facts.get("rows"),
        "fingerprint": facts.get("fingerprint"),
    }
    budget = {k: result[k] for k in ("steps", "examples", "seconds", "examples_per_second") if k in result}
    machine = held.get("env", {})
    chip = machine.get("chip")
    budget |= {"processor": chip["name"]} if isinstance(chip, dict) and "name" in chip else {}
    budget |= {k: machine[k] for k in ("threads", "gpu", "torch") if machine.get(k)}
    card = Card(
        method=str(settings.get("method", UNKNOWN)), data=data, budget=budget, evaluation=held.get("evaluation")
    )
    if card.method in methods.names():
        card.paper = methods.find(card.method).paper
    card.data |= {k: v for k, v in changes.pop("data", {}).items() if v is not None}
    for name, value in changes.items():
        if value is not None:
            setattr(card, name, value)
    return card


def plain(value: object) -> str:
    """Text of the data or the run as one line of Markdown that stays text: no tables, headings, links or HTML come of it."""
    text = " ".join(str(value).split())[:500]
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}" if character != "<" else "&lt;")
    return text


def render(encoder: Encoder, card: Card, usage: dict[str, str] | None = None) -> str:
    """README.md as text.  `usage`: {heading: Python lines} of the formats that stand beside it."""
    front = {
        "license": card.licence if card.licence != UNKNOWN else "unknown",
        "library_name": "selftaught",
        "tags": ["self-supervised", "selftaught", encoder.kind, encoder.modality],
        **({"pipeline_tag": PIPELINES[encoder.modality]} if encoder.modality in PIPELINES else {}),
    }
    count = sum(p.numel() for p in encoder.parameters()) + sum(b.numel() for b in encoder.buffers())
    lines = ["---", *(f"{k}: {json.dumps(v)}" for k, v in front.items()), "---", "", f"# {plain(card.title)}", ""]
    lines += [_verdict_line(card.evaluation), ""]
    lines += ["## What it is", "", *_table({
        "input": encoder.modality, "encoder": encoder.kind, "output": f"{encoder.dim} numbers for each row", "numbers held": f"{count:,}",
        "method": card.method, "paper": card.paper or UNKNOWN, "licence of the weights": card.licence,
        "made with": f"selftaught {__version__}, torch {torch.__version__}",
    })]  # fmt: skip
    lines += ["", "## What it learned from", "", "No labels were used.", ""]
    lines += _table({k: card.data.get(k) or UNKNOWN for k in ("name", "rows", "fingerprint", "licence", "provenance")})
    if card.budget:
        lines += ["", "## What it cost", "", *_table(card.budget)]
    lines += ["", "## What it was worth", "", *_evaluation(card.evaluation)]
    for heading, code in (usage or {}).items():
        lines += ["", f"## {plain(heading)}", "", "```python", code, "```"]
    lines += ["", "## Intended use", "", plain(card.intended), "", "## Limits", ""]
    lines += [f"- {plain(limit)}" for limit in [*card.limits, *_limits(card)]]
    return "\n".join(lines) + "\n"


def _limits(card: Card) -> list[str]:
    found = [
        "What the data lack, the model lacks: groups that are rare in them are represented worse, and nobody measured it."
    ]
    if card.evaluation is None:
        found.append("It has not been evaluated: whether pretraining helped is not known.")
    if not card.data.get("licence"):
        found.append("The licence of the data is not stated: find out before passing the weights on.")
    return found


def _table(rows: dict) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {plain(k)} | {plain(_number(v))} |" for k, v in rows.items())]


def _number(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def _verdict_line(evaluation: dict | None) -> str:
    if evaluation is None:
        return "**Did pretraining help?** Not measured."
    verdict = evaluation.get("verdict")
    if not isinstance(verdict, dict) or "answer" not in verdict or "sentence" not in verdict:
        raise ModelError("The evaluation holds no verdict.", "Give what `selftaught evaluate --json` printed.")
    return f"**Did pretraining help? {plain(verdict['answer'])}.** {plain(verdict['sentence'])}"


def _evaluation(evaluation: dict | None) -> list[str]:
    if evaluation is None:
        return ["Not measured.  `selftaught evaluate RUN DATA` sets it beside its controls."]
    lines = [
        f"{plain(evaluation.get('task', UNKNOWN))}, {plain(evaluation.get('metric', UNKNOWN))}; intervals of 95 %.",
        "",
    ]
    lines += ["| features | probe | labels a class | mean | low | high |", "|---|---|---|---|---|---|"]
    for row in evaluation.get("rows", []):
        cells = [row.get(k, "") for k in ("features", "probe", "labels_per_class", "mean", "low", "high")]
        lines.append("| " + " | ".join(plain(_number(c)) for c in cells) + " |")
    for d in evaluation.get("differences", []):
        values = [plain(_number(d.get(k, ""))) for k in ("a", "b", "probe", "labels_per_class", "mean", "low", "high")]
        lines += ["", "{} less {} ({}, {} labels a class): {}, interval {} to {}.".format(*values)]
    smallest = evaluation.get("smallest_visible_difference")
    if smallest is not None:
        lines += ["", f"The smallest difference that could have been seen: {plain(_number(smallest))}."]
    leak = evaluation.get("leakage")
    if isinstance(leak, dict):
        near = "near ones not searched" if leak.get("near") is None else f"{plain(leak['near'])} near"
        lines += ["", f"Copies of test rows among the rows learned from: {plain(leak.get('exact'))} exact, {near}."]
    return lines
