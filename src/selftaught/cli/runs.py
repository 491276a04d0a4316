"""`selftaught runs [FOLDER]`"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..core.errors import SelftaughtError
from .arguments import Common, parse
from .outcome import emit


@dataclass(kw_only=True)
class Arguments(Common):
    folder: Annotated[str, tyro.conf.Positional] = "runs"
    """Where to look for run folders."""


def run(argv: list[str]) -> None:
    arguments = parse(Arguments, argv, "runs", "The runs below a folder, their state and figures.")
    rows = [
        _row(p.parent)
        for p in sorted(Path(arguments.folder).rglob("config.toml"))
        if (p.parent / "status.json").exists()
    ]
    lines = [f"{'run':<40}{'state':<13}{'method':<18}{'steps':>8}{'loss':>10}  verdict"]
    for row in rows:
        loss = "" if row["loss"] is None else f"{row['loss']:.4f}"
        lines.append(
            f"{row['run']:<40}{row['state']:<13}{row['method'] or '':<18}{row['step']:>8}{loss:>10}  {row['verdict'] or ''}"
        )
    emit(rows, arguments.json, "\n".join(lines) if rows else f"no runs below {arguments.folder}")


def _row(folder: Path) -> dict:
    from ..train import Run

    run = Run(folder)
    row = {"run": str(folder), "state": "unreadable", "method": None, "step": 0, "loss": None, "verdict": None}
    try:
        status = run.read_json("status.json")
        row |= {"state": status.get("state"), "step": status.get("step", 0), "method": run.config().get("method")}
        metrics = run.metrics()
        row["loss"] = metrics[-1].get("loss") if metrics else None
        if (folder / "evaluation.json").exists():
            row["verdict"] = run.read_json("evaluation.json")["verdict"]["answer"]
    except SelftaughtError as error:
        row["state"] = f"unreadable: {error.message}"
    return row
