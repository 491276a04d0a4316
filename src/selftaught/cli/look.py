"""`selftaught look DATA`"""

from dataclasses import dataclass
from typing import Annotated

import tyro

from .arguments import Common, parse
from .outcome import emit
from .screen import listener


@dataclass(kw_only=True)
class Arguments(Common):
    data: Annotated[str, tyro.conf.Positional]
    modality: str | None = None
    column: str | None = None
    names: str | None = None
    """Columns from the names of files: "{label}_{speaker}_{take}", with slashes for folders, {} for what is not kept."""
    size: int | None = None
    """Side of stored images; context length of text; milliseconds of sound heard at once."""
    fast: bool = False
    """Leave out the search for duplicates."""


def run(argv: list[str]) -> None:
    from .. import data as rooms
    from .. import modalities, train

    arguments = parse(
        Arguments, argv, "look", "What DATA is, what is wrong with it, what to run and how long that takes here."
    )
    ears = listener(quiet=arguments.quiet)
    try:
        data = modalities.open_data(
            arguments.data, modality=arguments.modality, column=arguments.column, names=arguments.names, size=arguments.size, max_bad=1.0,
            say=ears.say,
            progress=lambda done, total, bad: ears.progress("packing", done, total, f"{bad} set apart" if bad else ""),
        )  # fmt: skip
        facts = rooms.look(data, duplicates=not arguments.fast, suggest=lambda d: train.suggest(d, arguments.data))
    finally:
        ears.finish()
    emit(facts, arguments.json, words(facts))


def words(facts: dict) -> str:
    lines = [f"{facts['name']}: {facts['rows']:,} rows of {facts['modality']}, column {facts['column']!r}"]
    for name, span in (facts.get("sizes") or {}).items():
        lines.append(f"  {name}: {span['least']:g} to {span['most']:g}, median {span['median']:g}")
    labels = facts["labels"]
    if labels and "counts" in labels:
        counts = ", ".join(f"{k} {v}" for k, v in list(labels["counts"].items())[:10])
        lines.append(f"  labels: column {labels['column']!r} ({labels['why']}), {labels['classes']} classes: {counts}")
    if facts["groups"]:
        lines.append(
            f"  groups: column {facts['groups']['column']!r}, {facts['groups']['count']} ({facts['groups']['why']})"
        )
    kinds = "; ".join(f"{count} {reason}" for reason, count in (facts.get("rejected_kinds") or {}).items())
    lines.append(f"  broken rows: {facts['rejected']}" + (f" ({kinds})" if kinds else ""))
    if facts["duplicates"]:
        lines.append(f"  duplicates: {facts['duplicates']['exact']} exact, {facts['duplicates']['near']} near")
    lines += _texts(facts["texts"]) if "texts" in facts else []
    if facts["suggestion"]:
        lines.append(
            f"\ntry:  {facts['suggestion']['command']}\n      about {_time(facts['suggestion']['seconds'])} on this machine"
        )
    return "\n".join(lines)


def _texts(found: dict) -> list[str]:
    """What the texts are like, and what may keep a loss from falling."""
    asked = "" if found["asked"] == found["of"] else f" ({found['asked']:,} of {found['of']:,} texts looked at)"
    lines = [f"  texts: about {found['words']:,} words, {found['empty']} empty, {found['very_short']} very short, {found['very_long']} very long{asked}"]  # fmt: skip
    told = ", ".join(f"{name} {share:.0%}" for name, share in list(found["languages"].items())[:5])
    lines.append(f"  languages, guessed by script and common words: {told}")
    lines.append(
        f"  lines: {found['lines']['count']:,}, of which {found['lines']['repeated']:.1%} repeat an earlier one"
    )
    lines += [f"    {one['count']} times: {_short(one['line'])}" for one in found["lines"]["most"][:3]]
    lines += [f"  {one['share']:.1%} of the texts have this {one['where']}: {_short(one['text'])}" for one in found["boilerplate"][:4]]  # fmt: skip
    lines += [f"  {kind}: in {one['texts']} texts, for example {_short(one['for_example'])}" for kind, one in found["encoding"].items()]  # fmt: skip
    if found["causes"]:
        lines.append("  what may keep a loss from falling, the likeliest first:")
        lines += [f"    {one['cause']}: {one['text']}.  {one['remedy']}" for one in found["causes"]]
    return lines


def _short(text: str) -> str:
    """One line for the screen, without signs that move the cursor."""
    plain = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return plain if len(plain) <= 80 else plain[:77] + "..."


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
